/* SPDX-License-Identifier: MIT */
/* What libgmem says of every feature is what an independent raw probe finds: as root, as an ordinary user, with a VM of each
 * type, without one, and in a process that gave up its privilege after it had made the VM. */
#include <gmem.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agreement.h"
#include "gt.h"

_Static_assert((int)RAW_UNDETERMINED == GMEM_UNDETERMINED && (int)RAW_ABSENT == GMEM_ABSENT &&
		       (int)RAW_FORBIDDEN == GMEM_FORBIDDEN && (int)RAW_PRESENT == GMEM_PRESENT,
	       "the states have the same numbers");

/* libgmem's view of a raw machine. */
struct view {
	struct raw_machine machine;
	struct gmem_vm *vm;
	struct gmem_vcpu *vcpu;
};

static void view_open(struct view *view, uint64_t flags)
{
	struct gmem_vm_open_opts opts = { .size = sizeof(opts), .flags = flags };

	view->vcpu = NULL;
	view->machine.rfc = flags & GMEM_VM_RFC_IOCTLS;
	if (gmem_vm_open(view->machine.vm, &view->vm, &opts))
		fail_msg("%s", gmem_last_error());
	if (view->machine.vcpu >= 0 && gmem_vcpu_open(view->vm, view->machine.vcpu, &view->vcpu))
		fail_msg("%s", gmem_last_error());
}

static void view_close(struct view *view)
{
	gmem_vcpu_close(view->vcpu);
	gmem_vm_close(view->vm);
}

/* A probe's words: what was tried, always; what to change, for what is withheld. */
static bool has_words(const char *name, int state, const struct gmem_probe *probe)
{
	bool fine = probe->facility && *probe->facility;

	if (state == GMEM_FORBIDDEN || state == GMEM_UNDETERMINED)
		fine = fine && probe->hint && *probe->hint;
	if (state == GMEM_FORBIDDEN)
		fine = fine && probe->error < 0;
	if (state == GMEM_PRESENT)
		fine = fine && !probe->error && !probe->hint;
	if (!fine)
		printf("  %s: state %d with error %d, facility '%s', hint '%s'\n", name, state, probe->error, probe->facility,
		       probe->hint ? probe->hint : "none");
	return fine;
}

static void assert_library_agrees(struct view *view)
{
	unsigned int wrong = 0;
	const char *name;

	for (int i = 1; (name = gmem_feature_name((enum gmem_feature)i)); i++) {
		struct gmem_probe probe = { .size = sizeof(probe) };
		int state = gmem_vm_probe(view->vm, (enum gmem_feature)i, &probe);

		wrong += !agreement(&view->machine, name, state, "libgmem");
		wrong += !has_words(name, state, &probe);
	}
	fflush(stdout);
	assert_int_equal(wrong, 0);
}

static void agree_on(struct raw_machine machine, uint64_t flags)
{
	struct view view = { .machine = machine };

	view_open(&view, flags);
	assert_library_agrees(&view);
	assert_library_agrees(&view); /* what was remembered is still right */
	view_close(&view);
}

static void with_a_vm(void **state)
{
	struct raw_machine machine = raw_machine_new(0);

	(void)state;
	agree_on(machine, 0);
	raw_machine_end(&machine);
}

static void with_a_vm_without_a_vcpu(void **state)
{
	struct raw_machine machine = raw_machine_new(0);
	struct raw_machine without = { .vm = machine.vm, .vcpu = -1 };

	(void)state;
	agree_on(without, 0);
	raw_machine_end(&machine);
}

static void with_numbers_that_were_used_again(void **state)
{
	struct raw_machine machine = raw_machine_new(0);

	(void)state;
	agree_on(machine, GMEM_VM_RFC_IOCTLS);
	raw_machine_end(&machine);
}

/* Beyond the default one. */
static void with_vms_of_other_types(void **state)
{
	unsigned int made = 0;

	(void)state;
	for (unsigned long type = 1; type <= 5; type++) {
		struct raw_machine machine = raw_machine_new(type);

		if (machine.vm < 0)
			continue;
		printf("  a VM of type %lu\n", type);
		agree_on(machine, 0);
		raw_machine_end(&machine);
		made++;
	}
	if (!made)
		gt_skip("this KVM makes VMs of type 0 only");
}

static void without_a_vm(void **state)
{
	(void)state;
	agree_on(NO_MACHINE, 0);
	agree_on(NO_MACHINE, GMEM_VM_RFC_IOCTLS);
}

/* --- an ordinary user --- */

static bool is_withheld(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	bool withheld = fd < 0 && (errno == EACCES || errno == EPERM);

	if (fd >= 0)
		close(fd);
	return withheld;
}

static void assert_advice(struct gmem_vm *vm, enum gmem_feature feature, const char *word)
{
	struct gmem_probe probe = { .size = sizeof(probe) };

	assert_int_equal(gmem_vm_probe(vm, feature, &probe), GMEM_FORBIDDEN);
	assert_true(probe.error == -EACCES || probe.error == -EPERM);
	assert_non_null(probe.hint);
	if (!strstr(probe.hint, word))
		fail_msg("%s: the hint does not name %s: %s", gmem_feature_name(feature), word, probe.hint);
}

static void assert_kvm_advice(struct gmem_vm *vm)
{
	assert_advice(vm, GMEM_FEATURE_KVM, "/dev/kvm");
	assert_advice(vm, GMEM_FEATURE_GUEST_MEMFD, "/dev/kvm");
	assert_advice(vm, GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED, "/dev/kvm");
	assert_advice(vm, GMEM_FEATURE_PRE_FAULT, "/dev/kvm");
	assert_advice(vm, GMEM_FEATURE_ATTRIBUTES_VM, "/dev/kvm");
}

static void assert_uffd_advice(struct gmem_vm *vm)
{
	assert_advice(vm, GMEM_FEATURE_UFFD_DEVICE, "/dev/userfaultfd");
	if (gmem_vm_probe(vm, GMEM_FEATURE_UFFD_KERNEL_FAULTS, NULL) == GMEM_PRESENT)
		return; /* by the sysctl */
	assert_advice(vm, GMEM_FEATURE_UFFD_KERNEL_FAULTS, "/dev/userfaultfd");
	assert_advice(vm, GMEM_FEATURE_UFFD_KERNEL_FAULTS, "vm.unprivileged_userfaultfd");
}

static int user_without_vm(void *unused)
{
	struct gmem_vm *vm;

	(void)unused;
	agree_on(NO_MACHINE, 0);
	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	if (is_withheld("/dev/kvm"))
		assert_kvm_advice(vm);
	if (is_withheld("/dev/userfaultfd"))
		assert_uffd_advice(vm);
	gmem_vm_close(vm);
	return 0;
}

static void as_a_user(void **state)
{
	(void)state;
	assert_int_equal(gt_as_user(GT_NOBODY, user_without_vm, NULL), 0);
}

/* As jailers do: the VM is made with privilege, which is then given up. The device cannot be opened any more, the VM
 * answers. */
static int give_up_privilege(void *unused)
{
	struct raw_machine machine = raw_machine_new(0);

	(void)unused;
	if (machine.vm < 0 || setresgid(GT_NOBODY, GT_NOBODY, GT_NOBODY) || setresuid(GT_NOBODY, GT_NOBODY, GT_NOBODY))
		return 1;
	agree_on(machine, 0);
	raw_machine_end(&machine);
	return 0;
}

static void privilege_given_up_after_the_vm(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(give_up_privilege, NULL), 0);
}

/* --- behind a filter, as in a container --- */

#define CANNOT 77 /* a child's status: this cannot be had here */

static int filter_out(unsigned int number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int user_behind_filter(void *number)
{
	if (filter_out(*(const unsigned int *)number))
		return CANNOT;
	agree_on(NO_MACHINE, 0);
	return 0;
}

static int behind_filter(void *number)
{
	struct raw_machine machine = raw_machine_new(0);

	if (filter_out(*(const unsigned int *)number))
		return CANNOT;
	agree_on(machine, 0);
	agree_on(NO_MACHINE, 0);
	raw_machine_end(&machine);
	return 0;
}

static void behind_filters(void **state)
{
	static unsigned int numbers[] = { SYS_userfaultfd, SYS_memfd_create };

	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		int status = gt_in_child(behind_filter, &numbers[i]);

		if (status == CANNOT)
			gt_skip("this kernel takes no seccomp filter");
		assert_int_equal(status, 0);
		if (geteuid() == 0)
			assert_int_equal(gt_as_user(GT_NOBODY, user_behind_filter, &numbers[i]), 0);
	}
}

/* A machine without KVM and userfaultfd devices, and in a container that refuses userfaultfd() as well: there, what would
 * need both is not withheld but absent, as no permission could bring a guest_memfd. */
static int without_dev(void *filtered)
{
	unsigned int number = SYS_userfaultfd;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/dev", "tmpfs", 0, NULL))
		return CANNOT;
	agree_on(NO_MACHINE, 0);
	if (filtered && filter_out(number))
		return CANNOT;
	agree_on(NO_MACHINE, 0);
	return 0;
}

static void in_a_mount_namespace(void *filtered)
{
	int status = gt_in_child(without_dev, filtered);

	if (status == CANNOT)
		gt_skip("no mount namespace or seccomp filter to be had");
	assert_int_equal(status, 0);
}

static void devices_that_are_not_there(void **state)
{
	(void)state;
	in_a_mount_namespace(NULL);
}

static void devices_not_there_and_filtered(void **state)
{
	(void)state;
	in_a_mount_namespace("");
}

static const struct gt_test tests[] = {
	GT(with_a_vm, GT_NEEDS_VCPU),
	GT(with_a_vm_without_a_vcpu, GT_NEEDS_VCPU),
	GT(with_numbers_that_were_used_again, GT_NEEDS_VCPU),
	GT(with_vms_of_other_types, GT_NEEDS_KVM),
	GT(without_a_vm, GT_NEEDS_NOTHING),
	GT(as_a_user, GT_NEEDS_ORDINARY_USER),
	GT(privilege_given_up_after_the_vm, GT_NEEDS_ORDINARY_USER | GT_NEEDS_VCPU),
	GT(behind_filters, GT_NEEDS_NOTHING),
	GT(devices_that_are_not_there, GT_NEEDS_ROOT),
	GT(devices_not_there_and_filtered, GT_NEEDS_ROOT),
};

GT_MAIN("agreement", tests)
