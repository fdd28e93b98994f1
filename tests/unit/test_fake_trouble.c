/* SPDX-License-Identifier: MIT */
/* Probing under bad conditions: fds that are no VMs, VMs of others, forks, shortages at every step, many threads at once. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "gt.h"
#include "inject.h"
#include "raw.h"
#include "wrap.h" /* inject_describe() */

#define LAST GMEM_FEATURE_UFFD_RWP_ASYNC
#define THREADS 4

/* fds */

static void expect_refusal(int fd, int error)
{
	struct gmem_vm *vm = (struct gmem_vm *)&fd;

	assert_int_equal(gmem_vm_open(fd, &vm, NULL), error);
	assert_ptr_equal(vm, &fd); /* outputs are written on success only */
	assert_non_null(strstr(gmem_last_error(), "gmem_vm_open: "));
}

static void refuse_and_close(int fd, int error)
{
	assert_true(fd >= 0);
	expect_refusal(fd, error);
	close(fd);
}

static void other_fds_are_no_vms(void **state)
{
	static const char *const names[] = { "7.3", "arm64", "future-firecracker" };
	int pipe_fds[2], vm;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		fakekvm_enable(fakekvm_preset(names[i]));
		vm = fakekvm_vm(NULL);
		refuse_and_close(fakekvm_vcpu(vm), -EINVAL);
		refuse_and_close(raw_guest_memfd(vm, RAW_PAGE, 0), -EINVAL);
		refuse_and_close(open("/dev/kvm", O_RDWR), -EINVAL);
		refuse_and_close(open("/dev/userfaultfd", O_RDWR), -EINVAL);
		refuse_and_close(memfd_create("no-vm", 0), -EINVAL);
		close(vm);
	}
	assert_int_equal(pipe(pipe_fds), 0);
	refuse_and_close(pipe_fds[0], -EINVAL);
	refuse_and_close(pipe_fds[1], -EINVAL);
	refuse_and_close(open("/dev/null", O_RDWR), -EINVAL);
	expect_refusal(-2, -EINVAL);
	expect_refusal(987654, -EBADF);
	assert_int_equal(gmem_vm_open(-1, NULL, NULL), -EINVAL);
}

static void other_fds_are_no_vcpus(void **state)
{
	struct gmem_vcpu *vcpu = NULL;
	struct gmem_vm *vm;
	int fds[4], expected[4] = { -EINVAL, -EINVAL, -EINVAL, -EBADF }, fd;

	(void)state;
	fakekvm_enable(fakekvm_preset("7.3"));
	fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(fd, &vm, NULL), 0);
	fds[0] = fd;
	fds[1] = raw_guest_memfd(fd, RAW_PAGE, 0);
	fds[2] = memfd_create("no-vcpu", 0);
	fds[3] = 987654;
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(gmem_vcpu_open(vm, fds[i], &vcpu), expected[i]);
		assert_null(vcpu);
	}
	assert_int_equal(gmem_vcpu_open(vm, fd, NULL), -EINVAL);
	assert_int_equal(gmem_vcpu_open(NULL, fd, &vcpu), -EINVAL);
	gmem_vm_close(vm);
	for (size_t i = 0; i < 3; i++)
		close(fds[i]);
}

static void a_vcpu_without_a_vm(void **state)
{
	struct gmem_vcpu *vcpu = NULL;
	struct gmem_vm *vm;
	int fd, vcpu_fd;

	(void)state;
	fakekvm_enable(fakekvm_preset("7.3"));
	fd = fakekvm_vm(NULL);
	vcpu_fd = fakekvm_vcpu(fd);
	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	assert_int_equal(gmem_vcpu_open(vm, vcpu_fd, &vcpu), -EINVAL);
	assert_null(vcpu);
	gmem_vm_close(vm);
	close(vcpu_fd);
	close(fd);
}

static void a_vm_of_another_process(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("7.3");

	(void)state;
	config.foreign = true;
	fakekvm_enable(&config);
	refuse_and_close(fakekvm_vm(NULL), -EIO);
	assert_non_null(strstr(gmem_last_error(), "process"));
	assert_non_null(strstr(gmem_last_error(), "EIO, from the kernel"));
}

static void a_vcpu_of_another_process(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("7.3");
	struct gmem_vcpu *vcpu = NULL;
	struct gmem_vm *vm;
	int own, other, fd;

	(void)state;
	fakekvm_enable(&config);
	own = fakekvm_vm(NULL);
	config.foreign = true;
	other = fakekvm_vm(&config);
	fd = fakekvm_vcpu(other);
	assert_int_equal(gmem_vm_open(own, &vm, NULL), 0);
	assert_int_equal(gmem_vcpu_open(vm, fd, &vcpu), -EIO);
	assert_null(vcpu);
	assert_non_null(strstr(gmem_last_error(), "process"));
	gmem_vm_close(vm);
	close(fd);
	close(own);
	close(other);
}

static int child_probes(void *arg)
{
	struct gmem_vm *vm = arg;

	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_GUEST_MEMFD, NULL), -ESTALE);
	gmem_vm_close(vm);
	return 0;
}

static int child_opens(void *arg)
{
	expect_refusal(*(int *)arg, -EIO);
	return 0;
}

static void handles_and_vms_after_fork(void **state)
{
	struct gmem_vm *vm;
	int fd;

	(void)state;
	fakekvm_enable(fakekvm_preset("7.3"));
	fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(fd, &vm, NULL), 0);
	assert_int_equal(gt_in_child(child_probes, vm), 0);
	assert_int_equal(gt_in_child(child_opens, &fd), 0);
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_GUEST_MEMFD, NULL), GMEM_PRESENT);
	gmem_vm_close(vm);
	close(fd);
}

/* Shortages and refusals */

struct machine {
	const char *preset;
	bool has_vm;
	int states[LAST + 1];
};

static struct gmem_vm *fresh_view(const struct machine *machine)
{
	struct gmem_vm *vm;
	int fd;

	fakekvm_enable(fakekvm_preset(machine->preset));
	fd = machine->has_vm ? fakekvm_vm(NULL) : -1;
	assert_int_equal(gmem_vm_open(fd, &vm, NULL), 0);
	if (fd >= 0)
		close(fd);
	return vm;
}

static void learn(struct machine *machine)
{
	struct gmem_vm *vm = fresh_view(machine);

	for (int i = 1; i <= LAST; i++)
		machine->states[i] = gmem_vm_probe(vm, (enum gmem_feature)i, NULL);
	gmem_vm_close(vm);
}

/* Call number nth of the question fails for a reason that says nothing of the feature. True if there was such a call. */
static bool question_survives(const struct machine *machine, enum gmem_feature feature, unsigned long nth, int error)
{
	struct gmem_probe seen = { .size = sizeof(seen) };
	struct gmem_vm *vm = fresh_view(machine);
	int state, again;

	inject_arm(nth, error);
	state = gmem_vm_probe(vm, feature, &seen);
	inject_disarm();
	again = gmem_vm_probe(vm, feature, NULL);
	if (again != machine->states[feature])
		fail_msg("%s: %s is %d for good after %s (said %d), not %d", machine->preset, gmem_feature_name(feature), again,
			 inject_describe(), state, machine->states[feature]);
	if (state == GMEM_PRESENT || state == GMEM_ABSENT)
		assert_int_equal(state, machine->states[feature]);
	else
		assert_non_null(seen.hint);
	gmem_vm_close(vm);
	return inject_fired();
}

static void survives(const char *preset, bool has_vm, int error)
{
	struct machine machine = { .preset = preset, .has_vm = has_vm };

	learn(&machine);
	for (int feature = 1; feature <= LAST; feature++)
		for (unsigned long nth = 1; question_survives(&machine, (enum gmem_feature)feature, nth, error); nth++)
			;
}

static void survives_everywhere(int error)
{
	survives("7.3", true, error);
	survives("sw-protected", true, error);
	survives("future-firecracker", true, error);
	survives("future-upstream", true, error);
	survives("7.3", false, error);
}

#define SURVIVAL_TEST(name, error) \
	static void name(void **state) \
	{ \
		(void)state; \
		survives_everywhere(error); \
	}

SURVIVAL_TEST(no_fd_left_is_not_absence, EMFILE)
SURVIVAL_TEST(no_memory_is_not_absence, ENOMEM)
SURVIVAL_TEST(a_refusal_is_not_absence, EPERM)
SURVIVAL_TEST(a_security_module_is_not_absence, EACCES)
SURVIVAL_TEST(a_signal_is_not_absence, EINTR)
SURVIVAL_TEST(a_dead_vm_is_not_absence, EIO)

/* The same from outside: what the whole process runs out of. */
static void permission_for_each_device(void **state)
{
	static const struct {
		const char *call;
		int error;
		enum gmem_feature feature;
		int expected;
	} rows[] = {
		{ "open:/dev/kvm", EPERM, GMEM_FEATURE_KVM, GMEM_FORBIDDEN },
		{ "open:/dev/kvm", EMFILE, GMEM_FEATURE_KVM, GMEM_UNDETERMINED },
		{ "open:/dev/kvm", ENXIO, GMEM_FEATURE_KVM, GMEM_ABSENT },
		{ "open:/dev/userfaultfd", EACCES, GMEM_FEATURE_UFFD_DEVICE, GMEM_FORBIDDEN },
		{ "open:/dev/userfaultfd", ENFILE, GMEM_FEATURE_UFFD_DEVICE, GMEM_UNDETERMINED },
		{ "open:/dev/userfaultfd", ENOENT, GMEM_FEATURE_UFFD_DEVICE, GMEM_ABSENT },
		{ "open:/dev/userfaultfd", EACCES, GMEM_FEATURE_UFFD_KERNEL_FAULTS, GMEM_PRESENT },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct machine machine = { .preset = "7.3" };
		struct gmem_vm *vm = fresh_view(&machine);

		fakekvm_script(rows[i].call, rows[i].error, 0, 0);
		assert_int_equal(gmem_vm_probe(vm, rows[i].feature, NULL), rows[i].expected);
		gmem_vm_close(vm);
	}
}

/* The first memory of a VM, when nothing has been asked yet: a moment without fds or pages is an error, not a worse backing. */
static bool creation_survives(const struct machine *machine, unsigned long nth, int error)
{
	struct gmem_info info = { .size = sizeof(info), .mechanism = GMEM_MECH_GUEST_MEMFD };
	struct gmem_vm *vm = fresh_view(machine);
	struct gmem *mem = NULL;
	int r;

	inject_arm(nth, error);
	r = gmem_create(vm, RAW_PAGE, &mem, NULL);
	inject_disarm();
	if (r == 0)
		gmem_query(mem, &info);
	if (info.mechanism != GMEM_MECH_GUEST_MEMFD)
		fail_msg("%s: \"%s\" memory", inject_describe(), gmem_mechanism_name((enum gmem_mechanism)info.mechanism));
	gmem_destroy(mem);
	gmem_vm_close(vm);
	return inject_fired();
}

static void a_shortage_does_not_make_lesser_memory(void **state)
{
	static const struct machine machine = { .preset = "7.3", .has_vm = true };

	(void)state;
	for (unsigned long nth = 1; creation_survives(&machine, nth, EMFILE); nth++)
		;
	for (unsigned long nth = 1; creation_survives(&machine, nth, ENOMEM); nth++)
		;
}

static void selinux_forbids_the_file(void **state)
{
	struct machine machine = { .preset = "7.3", .has_vm = true };
	struct gmem_vm *vm = fresh_view(&machine);
	struct gmem_probe seen = { .size = sizeof(seen) };

	(void)state;
	fakekvm_script("KVM_CREATE_GUEST_MEMFD", EACCES, 1, 0);
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_GUEST_MEMFD, &seen), GMEM_FORBIDDEN);
	assert_int_equal(seen.error, -EACCES);
	assert_non_null(strstr(seen.hint, "SELinux"));
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_GUEST_MEMFD, NULL), GMEM_PRESENT);
	gmem_vm_close(vm);
}

/* Threads */

struct asker {
	pthread_t thread;
	struct gmem_vm *vm;
	int first;
	int states[LAST + 1];
};

static void *ask_everything(void *arg)
{
	struct asker *asker = arg;

	for (int i = 0; i < LAST; i++) {
		int feature = (asker->first + i) % LAST + 1;

		asker->states[feature] = gmem_vm_probe(asker->vm, (enum gmem_feature)feature, NULL);
	}
	return NULL;
}

static void threads_agree_on(const char *preset)
{
	struct machine machine = { .preset = preset, .has_vm = true };
	struct asker askers[THREADS];
	struct gmem_vm *vm;

	learn(&machine);
	vm = fresh_view(&machine);
	for (int i = 0; i < THREADS; i++) {
		askers[i] = (struct asker){ .vm = vm, .first = i * LAST / THREADS };
		assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_everything, &askers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(askers[i].thread, NULL), 0);
		assert_memory_equal(&askers[i].states[1], &machine.states[1], LAST * sizeof(int));
	}
	gmem_vm_close(vm);
}

static void threads_agree(void **state)
{
	(void)state;
	threads_agree_on("7.3");
	threads_agree_on("sw-protected");
	threads_agree_on("future-firecracker");
}

static const struct gt_test tests[] = {
	GT(other_fds_are_no_vms, GT_NEEDS_NOTHING),
	GT(other_fds_are_no_vcpus, GT_NEEDS_NOTHING),
	GT(a_vcpu_without_a_vm, GT_NEEDS_NOTHING),
	GT(a_vm_of_another_process, GT_NEEDS_NOTHING),
	GT(a_vcpu_of_another_process, GT_NEEDS_NOTHING),
	GT(handles_and_vms_after_fork, GT_NEEDS_NOTHING),
	GT(no_fd_left_is_not_absence, GT_NEEDS_NOTHING),
	GT(no_memory_is_not_absence, GT_NEEDS_NOTHING),
	GT(a_refusal_is_not_absence, GT_NEEDS_NOTHING),
	GT(a_security_module_is_not_absence, GT_NEEDS_NOTHING),
	GT(a_signal_is_not_absence, GT_NEEDS_NOTHING),
	GT(a_dead_vm_is_not_absence, GT_NEEDS_NOTHING),
	GT(permission_for_each_device, GT_NEEDS_NOTHING),
	GT(a_shortage_does_not_make_lesser_memory, GT_NEEDS_NOTHING),
	GT(selinux_forbids_the_file, GT_NEEDS_NOTHING),
	GT(threads_agree, GT_NEEDS_NOTHING),
};

GT_MAIN("probing in trouble", tests)
