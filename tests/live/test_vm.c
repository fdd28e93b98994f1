/* SPDX-License-Identifier: MIT */
/* gmem_vm on real VMs: what it accepts, whose VM it is, what is left when everything was given up. */
#include <gmem.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gt.h"
#include "guest.h"
#include "rawprobe.h"

#define PAGE 4096u
#define LENGTH (16u * PAGE)

static struct gmem_vm *open_vm(int fd)
{
	struct gmem_vm *vm = NULL;

	if (gmem_vm_open(fd, &vm, NULL))
		fail_msg("%s", gmem_last_error());
	return vm;
}

static struct gmem *make(struct gmem_vm *vm, uint32_t backing)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = backing };
	struct gmem *mem;

	if (gmem_create(vm, LENGTH, &mem, &opts))
		fail_msg("%s", gmem_last_error());
	return mem;
}

/* --- fds --- */

static void the_fd_stays_the_callers(void **state)
{
	int fd = guest_vm();

	(void)state;
	gmem_vm_close(open_vm(fd));
	assert_true(ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) > 0);
	gmem_vm_close(open_vm(fd)); /* and again */
	close(fd);
}

/* The view has an fd of its own: the caller's number may become something else. */
static void the_view_outlives_the_callers_fd(void **state)
{
	int fd = guest_vm();
	struct gmem_vm *vm = open_vm(fd);
	struct gmem *mem;

	(void)state;
	close(fd);
	assert_int_equal(open("/dev/null", O_RDWR | O_CLOEXEC), fd);
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_KVM, NULL), GMEM_PRESENT);
	mem = make(vm, GMEM_BACKING_AUTO);
	if (gmem_bind(mem, 0, 0, 0, LENGTH, NULL))
		fail_msg("%s", gmem_last_error());
	gmem_destroy(mem);
	gmem_vm_close(vm);
	close(fd);
}

static void assert_refused(int fd, int code, const char *what)
{
	struct gmem_vm *vm = (void *)&vm, *before = vm;
	int r = gmem_vm_open(fd, &vm, NULL);

	if (r != code)
		fail_msg("%s: %d instead of %d (%s)", what, r, code, gmem_last_error());
	assert_ptr_equal(vm, before);
	assert_non_null(strstr(gmem_last_error(), "gmem_vm_open"));
	assert_non_null(strstr(gmem_last_error(), "fd"));
}

static void what_is_no_vm(void **state)
{
	int ends[2], fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), memfd = memfd_create("file", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_refused(fd, -EINVAL, "a regular file");
	assert_refused(memfd, -EINVAL, "a memfd");
	assert_refused(ends[0], -EINVAL, "a pipe");
	assert_refused(STDIN_FILENO, -EINVAL, "standard input");
	close(ends[0]);
	close(ends[1]);
	close(memfd);
	close(fd);
	assert_refused(fd, -EBADF, "a closed fd");
	assert_refused(1 << 20, -EBADF, "a number that never was an fd");
	assert_refused(-2, -EINVAL, "a negative number");
	assert_refused(-EBADF, -EINVAL, "an errno");
}

static void other_fds_of_kvm(void **state)
{
	int vm = guest_vm(), vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul), kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_VFIO };

	(void)state;
	assert_true(vcpu >= 0);
	assert_refused(kvm, -EINVAL, "/dev/kvm");
	assert_refused(vcpu, -EINVAL, "a vCPU");
	if (ioctl(vm, KVM_CREATE_DEVICE, &device) == 0) {
		assert_refused((int)device.fd, -EINVAL, "a device of KVM");
		close((int)device.fd);
	}
	close(kvm);
	close(vcpu);
	close(vm);
}

static void guest_memfd_is_no_vm(void **state)
{
	int fd = guest_vm();
	struct gmem_vm *vm = open_vm(fd);
	struct gmem *mem = make(vm, GMEM_BACKING_GUEST_MEMFD);

	(void)state;
	assert_refused(gmem_get_fd(mem, GMEM_FD_MEMORY), -EINVAL, "a guest_memfd");
	gmem_destroy(mem);
	gmem_vm_close(vm);
	close(fd);
}

static void library_fds_are_closed_on_exec(void **state)
{
	int fd = guest_vm(), own;
	struct gmem_vm *vm = open_vm(fd);
	struct gmem *mem[2] = { make(vm, GMEM_BACKING_AUTO), make(vm, GMEM_BACKING_MEMFD) };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		own = gmem_get_fd(mem[i], GMEM_FD_MEMORY);
		assert_true(own >= 3);
		assert_int_equal(fcntl(own, F_GETFD), FD_CLOEXEC);
		gmem_destroy(mem[i]);
	}
	gmem_vm_close(vm);
	close(fd);
}

/* --- vCPUs --- */

static void vcpu_of_a_real_vm(void **state)
{
	struct raw_machine machine = raw_machine_new(0);
	struct gmem_vm *vm = open_vm(machine.vm);
	struct gmem_vcpu *vcpu = NULL, *other = NULL;
	enum raw_state raw;
	int before = gmem_vm_probe(vm, GMEM_FEATURE_PRE_FAULT, NULL), after;

	(void)state;
	assert_true(before == GMEM_UNDETERMINED || before == GMEM_ABSENT);
	assert_int_equal(gmem_vcpu_open(vm, machine.vm, &vcpu), -EINVAL);
	assert_int_equal(gmem_vcpu_open(vm, STDIN_FILENO, &vcpu), -EINVAL);
	assert_int_equal(gmem_vcpu_open(vm, 1 << 20, &vcpu), -EBADF);
	assert_int_equal(gmem_vcpu_open(vm, -1, &vcpu), -EBADF);
	assert_null(vcpu);
	assert_int_equal(gmem_vcpu_open(vm, machine.vcpu, &vcpu), 0);
	assert_int_equal(gmem_vcpu_open(vm, machine.vcpu, &other), 0); /* twice is no harm */
	assert_true(raw_probe(&machine, "pre_fault", &raw));
	after = gmem_vm_probe(vm, GMEM_FEATURE_PRE_FAULT, NULL);
	assert_int_equal(after, (int)raw);
	assert_int_not_equal(after, GMEM_UNDETERMINED);
	gmem_vcpu_close(vcpu);
	gmem_vcpu_close(other);
	raw_machine_end(&machine);
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_PRE_FAULT, NULL), after); /* what was learnt stays known */
	gmem_vm_close(vm);
}

static void vcpu_without_a_vm(void **state)
{
	struct raw_machine machine = raw_machine_new(0);
	struct gmem_vm *vm = open_vm(-1);
	struct gmem_vcpu *vcpu;

	(void)state;
	assert_int_equal(gmem_vcpu_open(vm, machine.vcpu, &vcpu), -EINVAL);
	gmem_vm_close(vm);
	raw_machine_end(&machine);
}

/* --- another process --- */

struct family {
	int fd, vcpu_fd;
	struct gmem_vm *vm;
	struct gmem *mem;
	struct gmem_vcpu *vcpu;
};

static void assert_stale(int r)
{
	assert_int_equal(r, -ESTALE);
	assert_non_null(strstr(gmem_last_error(), "fork"));
}

static int use_in_child(void *arg)
{
	struct family *f = arg;
	struct gmem_info info = { .size = sizeof(info) };
	struct gmem_step step = { .size = sizeof(step) };
	struct gmem_vcpu *vcpu;
	struct gmem *mem;
	uint64_t done = 5;
	void *at;

	assert_refused(f->fd, -EIO, "the VM of the parent");
	assert_stale(gmem_vm_probe(f->vm, GMEM_FEATURE_MEMFD, NULL));
	assert_stale(gmem_vm_explain(f->vm, GMEM_TASK_CREATE, 0, 0, 0, &step));
	assert_stale(gmem_vcpu_open(f->vm, f->vcpu_fd, &vcpu));
	assert_stale(gmem_create(f->vm, LENGTH, &mem, NULL));
	assert_stale(gmem_map(f->mem, 0, LENGTH, &at, NULL));
	assert_stale(gmem_unmap(f->mem, 0, LENGTH));
	assert_stale(gmem_bind(f->mem, 1, LENGTH, 0, LENGTH, NULL));
	assert_stale(gmem_unbind(f->mem, 0));
	assert_stale(gmem_query(f->mem, &info));
	assert_stale(gmem_get_fd(f->mem, GMEM_FD_MEMORY));
	assert_stale(gmem_populate(f->mem, 0, 1, "", &done, NULL));
	assert_int_equal(done, 0);
	done = 5;
	assert_stale(gmem_populate_fd(f->mem, 0, 1, STDIN_FILENO, 0, &done, NULL));
	assert_int_equal(done, 0);
	gmem_vcpu_close(f->vcpu);
	gmem_destroy(f->mem);
	gmem_vm_close(f->vm);
	gmem_vm_close(open_vm(-1)); /* a new handle is fine */
	return 0;
}

/* What the child gives up is its own copy: the parent's guest still finds its memory. */
static void handles_are_stale_in_a_child(void **state)
{
	struct family f = { .fd = guest_vm() };
	struct guest *guest = guest_start(f.fd);
	uint64_t word;

	(void)state;
	f.vcpu_fd = guest_vcpu(guest);
	f.vm = open_vm(f.fd);
	f.mem = make(f.vm, GMEM_BACKING_AUTO);
	assert_int_equal(gmem_vcpu_open(f.vm, f.vcpu_fd, &f.vcpu), 0);
	assert_int_equal(gmem_bind(f.mem, 0, 0, 0, LENGTH, NULL), 0);
	assert_true(guest_store(guest, PAGE, 0x77));
	assert_int_equal(gt_in_child(use_in_child, &f), 0);
	assert_true(guest_load(guest, PAGE, &word));
	assert_int_equal(word, 0x77);
	assert_int_equal(gmem_unbind(f.mem, 0), 0);
	gmem_vcpu_close(f.vcpu);
	gmem_destroy(f.mem);
	gmem_vm_close(f.vm);
	guest_end(guest);
	close(f.fd);
}

/* --- an ordinary user --- */

static int create_as_user(void *unused)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = GMEM_BACKING_GUEST_MEMFD };
	struct gmem_info info = { .size = sizeof(info) };
	struct gmem_vm *vm = open_vm(-1);
	bool withheld = access("/dev/kvm", R_OK | W_OK) && errno == EACCES;
	struct gmem *mem;
	uint64_t done, *at;

	(void)unused;
	assert_int_equal(gmem_create(vm, LENGTH, &mem, &opts), withheld ? -EACCES : -EOPNOTSUPP);
	assert_non_null(strstr(gmem_last_error(), withheld ? "/dev/kvm" : "guest_memfd"));
	mem = make(vm, GMEM_BACKING_AUTO);
	assert_int_equal(gmem_query(mem, &info), 0);
	assert_int_equal(info.backing, GMEM_BACKING_MEMFD);
	assert_int_equal(gmem_populate(mem, 8, 8, "libgmem", &done, NULL), 0);
	assert_int_equal(gmem_map(mem, 0, LENGTH, (void **)&at, NULL), 0);
	assert_string_equal(at + 1, "libgmem");
	assert_int_equal(gmem_bind(mem, 0, 0, 0, LENGTH, NULL), 0); /* no VM: recorded only */
	gmem_destroy(mem);
	gmem_vm_close(vm);
	return 0;
}

static void memory_for_a_user(void **state)
{
	(void)state;
	assert_int_equal(gt_as_user(GT_NOBODY, create_as_user, NULL), 0);
}

static const struct gt_test tests[] = {
	GT(the_fd_stays_the_callers, GT_NEEDS_KVM),
	GT(the_view_outlives_the_callers_fd, GT_NEEDS_KVM),
	GT(what_is_no_vm, GT_NEEDS_NOTHING),
	GT(other_fds_of_kvm, GT_NEEDS_VCPU),
	GT(guest_memfd_is_no_vm, GT_NEEDS_GUEST_MEMFD),
	GT(library_fds_are_closed_on_exec, GT_NEEDS_KVM),
	GT(vcpu_of_a_real_vm, GT_NEEDS_VCPU),
	GT(vcpu_without_a_vm, GT_NEEDS_VCPU),
	GT(handles_are_stale_in_a_child, GT_NEEDS_VCPU),
	GT(memory_for_a_user, GT_NEEDS_ORDINARY_USER),
};

GT_MAIN("vm", tests)
