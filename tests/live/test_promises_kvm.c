/* SPDX-License-Identifier: MIT */
/* What libgmem relies on in KVM: VMs, memslots, and who may ask. One promise a test. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gt.h"
#include "guest.h"
#include "promise.h"

#define SET_USER_MEMORY_REGION2 0x40a0ae49ul
#define CREATE_GUEST_MEMFD 0xc040aed4ul
#define SET_MEMORY_ATTRIBUTES2 0xc080aed2ul
#define MAP_MEMORY_V1 0xc020aed5ul
#define NOBODYS 0xc018aefful /* no number of KVM's */

/* Two pages of anonymous memory on a VM. */
struct room {
	int vm;
	size_t page;
	unsigned char *at;
};

static struct room room_make(void)
{
	struct room r = { .vm = guest_vm(), .page = promise_page() };

	r.at = mmap(NULL, 2 * r.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(r.at != MAP_FAILED);
	return r;
}

static void room_end(struct room *r)
{
	munmap(r->at, 2 * r->page);
	close(r->vm);
}

/* With the old call, as the library does where it can. */
static int old_slot(const struct room *r, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (uintptr_t)r->at
	};

	return promise_errno(ioctl(r->vm, KVM_SET_USER_MEMORY_REGION, &region));
}

static int ask(int fd, unsigned long request)
{
	return promise_errno(ioctl(fd, request, PROMISE_NOWHERE));
}

/* --- questions without side effects --- */

static void known_command_says_efault(void **state)
{
	int vm = guest_vm();

	(void)state;
	relied_on_by("lib/sys.c: gmemi_sys_ioctl_known(); lib/vm.c: check_vm_fd()");
	assert_int_equal(ask(vm, KVM_SET_USER_MEMORY_REGION), EFAULT);
	close(vm);
}

static void unknown_command_says_something_else(void **state)
{
	int vm = guest_vm(), error = ask(vm, NOBODYS);

	(void)state;
	relied_on_by("lib/vm_probe_kvm.c: known()");
	assert_true(error == ENOTTY || error == EINVAL);
	close(vm);
}

static void other_fds_do_not_know_a_vm_command(void **state)
{
	int fds[3] = { open("/dev/kvm", O_RDWR | O_CLOEXEC), open("/dev/null", O_RDWR | O_CLOEXEC), eventfd(0, EFD_CLOEXEC) };

	(void)state;
	relied_on_by("lib/vm.c: check_vm_fd() tells a VM from everything else");
	for (size_t i = 0; i < 3; i++) {
		int error = ask(fds[i], KVM_SET_USER_MEMORY_REGION);

		assert_true(error == ENOTTY || error == EINVAL);
		close(fds[i]);
	}
}

static void vcpu_says_efault_to_its_own_command_only(void **state)
{
	int vm = guest_vm(), vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul), error;

	(void)state;
	relied_on_by("lib/vcpu.c: check_vcpu_fd()");
	assert_true(vcpu >= 0);
	assert_int_equal(ask(vcpu, KVM_SET_SIGNAL_MASK), EFAULT);
	error = ask(vcpu, KVM_SET_USER_MEMORY_REGION);
	assert_true(error == ENOTTY || error == EINVAL);
	error = ask(vm, KVM_SET_SIGNAL_MASK);
	assert_true(error == ENOTTY || error == EINVAL);
	error = ask(vcpu, NOBODYS);
	assert_true(error == ENOTTY || error == EINVAL);
	close(vcpu);
	close(vm);
}

static void unknown_capability_is_zero(void **state)
{
	int vm = guest_vm();

	(void)state;
	relied_on_by("lib/vm_probe_kvm.c: gmemi_probe_capability()");
	assert_int_equal(ioctl(vm, KVM_CHECK_EXTENSION, 1000000ul), 0);
	assert_true(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS) >= 2);
	close(vm);
}

static void trial_slot_leaves_no_slot(void **state)
{
	struct room r = room_make();
	uint64_t gpa = UINT64_C(1) << 45; /* the library's: far away on x86, beyond what arm64 can address */
	int slots = ioctl(r.vm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS), error;

	(void)state;
	relied_on_by("lib/vm_probe_kvm.c: gmemi_vm_slot_trial()");
	error = promise_slot(r.vm, (uint32_t)slots - 1, PROMISE_SLOT_GMEM, gpa, r.page, NULL, -1);
	assert_int_equal(error, EBADF);
	assert_int_equal(old_slot(&r, (uint32_t)slots - 1, 0, 0, 0), EINVAL); /* nothing to delete */
	assert_int_equal(old_slot(&r, 0, 0, UINT64_C(1) << 30, r.page), 0);
	assert_int_equal(old_slot(&r, 0, 0, 0, 0), 0);
	room_end(&r);
}

static void trial_slot_leaves_an_existing_slot(void **state)
{
	struct room r = room_make();

	(void)state;
	relied_on_by("lib/vm_probe_kvm.c: gmemi_vm_slot_trial() when the slot is in use");
	assert_int_equal(old_slot(&r, 3, 0, 0, r.page), 0);
	assert_int_equal(promise_slot(r.vm, 3, PROMISE_SLOT_GMEM, UINT64_C(1) << 45, r.page, NULL, -1), EINVAL);
	assert_int_equal(old_slot(&r, 4, 0, 0, r.page), EEXIST); /* it is where it was */
	assert_int_equal(old_slot(&r, 3, 0, 0, 0), 0);
	room_end(&r);
}

static void unknown_slot_flag_is_refused(void **state)
{
	struct room r = room_make();

	(void)state;
	relied_on_by("lib/vm_probe_kvm.c: gmemi_probe_userfault()");
	assert_int_equal(promise_slot(r.vm, 3, 1u << 30 | PROMISE_SLOT_GMEM, UINT64_C(1) << 30, r.page, NULL, -1), EINVAL);
	room_end(&r);
}

/* --- memslots --- */

static void deleting_what_is_not_there_is_einval(void **state)
{
	struct room r = room_make();

	(void)state;
	relied_on_by("lib/memory_bind.c: may_run_on() takes EINVAL for gone");
	assert_int_equal(old_slot(&r, 3, 0, 0, 0), EINVAL);
	room_end(&r);
}

static void overlap_of_guest_addresses_is_eexist(void **state)
{
	struct room r = room_make();

	(void)state;
	relied_on_by("include/gmem/memory.h: gmem_bind() and memslots of the program's own");
	assert_int_equal(old_slot(&r, 1, 0, 0, 2 * r.page), 0);
	assert_int_equal(old_slot(&r, 2, 0, r.page, r.page), EEXIST);
	room_end(&r);
}

static void only_dirty_logging_can_change(void **state)
{
	struct room r = room_make();

	(void)state;
	relied_on_by("lib/memory_bind.c: bind_again()");
	assert_int_equal(old_slot(&r, 1, 0, 0, r.page), 0);
	assert_int_equal(old_slot(&r, 1, KVM_MEM_LOG_DIRTY_PAGES, 0, r.page), 0);
	assert_int_equal(old_slot(&r, 1, 0, 0, r.page), 0);
	assert_int_equal(old_slot(&r, 1, KVM_MEM_READONLY, 0, r.page), EINVAL);
	assert_int_equal(old_slot(&r, 1, 0, 0, 2 * r.page), EINVAL);
	room_end(&r);
}

static void guest_memfd_slot_cannot_change(void **state)
{
	struct room r = room_make();
	int fd = promise_gmem(r.vm, r.page, PROMISE_SHARED);

	(void)state;
	relied_on_by("lib/memory_bind.c: bind_again(), flags_for()");
	assert_int_equal(promise_slot(r.vm, 1, PROMISE_SLOT_GMEM, 0, r.page, r.at, fd), 0);
	assert_int_equal(promise_slot(r.vm, 1, PROMISE_SLOT_GMEM, 0, r.page, r.at, fd), EINVAL);
	assert_int_equal(promise_slot(r.vm, 1, PROMISE_SLOT_GMEM | KVM_MEM_LOG_DIRTY_PAGES, 0, r.page, r.at, fd), EINVAL);
	assert_int_equal(old_slot(&r, 1, KVM_MEM_LOG_DIRTY_PAGES, 0, r.page), EINVAL);
	close(fd);
	room_end(&r);
}

static void guest_memfd_slot_is_deleted_by_the_old_call(void **state)
{
	struct room r = room_make();
	int fd = promise_gmem(r.vm, r.page, PROMISE_SHARED);

	(void)state;
	relied_on_by("lib/memory_bind.c: delete_slot()");
	assert_int_equal(promise_slot(r.vm, 1, PROMISE_SLOT_GMEM, 0, r.page, r.at, fd), 0);
	assert_int_equal(old_slot(&r, 1, 0, 0, 0), 0);
	assert_int_equal(promise_slot(r.vm, 2, PROMISE_SLOT_GMEM, 0, r.page, r.at, fd), 0); /* the file range is free too */
	close(fd);
	assert_int_equal(old_slot(&r, 2, 0, 0, 0), 0); /* also when the file is gone already */
	room_end(&r);
}

static void file_range_is_bound_once(void **state)
{
	struct room r = room_make();
	int fd = promise_gmem(r.vm, r.page, PROMISE_SHARED), error;

	(void)state;
	relied_on_by("lib/memory_bind.c: check_overlap() says EEXIST before KVM says either");
	assert_int_equal(promise_slot(r.vm, 1, PROMISE_SLOT_GMEM, 0, r.page, r.at, fd), 0);
	error = promise_slot(r.vm, 2, PROMISE_SLOT_GMEM, r.page, r.page, r.at, fd);
	assert_true(error == EINVAL || error == EEXIST);
	close(fd);
	room_end(&r);
}

static void guest_memfd_slot_takes_no_other_flag(void **state)
{
	struct room r = room_make();
	int fd = promise_gmem(r.vm, r.page, PROMISE_SHARED), dirty, readonly;

	(void)state;
	relied_on_by("lib/memory_bind.c: flags_for() makes a plain memslot for these flags");
	dirty = promise_slot(r.vm, 1, PROMISE_SLOT_GMEM | KVM_MEM_LOG_DIRTY_PAGES, 0, r.page, r.at, fd);
	readonly = promise_slot(r.vm, 1, PROMISE_SLOT_GMEM | KVM_MEM_READONLY, 0, r.page, r.at, fd);
	close(fd);
	room_end(&r);
	if (dirty == 0 || readonly == 0)
		gt_skip("this kernel takes more: a plain memslot is not needed any more");
	assert_int_equal(dirty, EINVAL);
	assert_int_equal(readonly, EINVAL);
}

/* --- who may ask --- */

static int ask_as_child(void *arg)
{
	const struct room *r = arg;
	uint64_t create[8] = { r->page, 0 };

	assert_int_equal(promise_errno(ioctl(r->vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY)), EIO);
	assert_int_equal(ask(r->vm, KVM_SET_USER_MEMORY_REGION), EIO);
	assert_int_equal(ask(r->vm, NOBODYS), EIO);
	assert_int_equal(promise_errno(ioctl(r->vm, CREATE_GUEST_MEMFD, create)), EIO);
	assert_int_equal(old_slot(r, 1, 0, 0, 0), EIO);
	return 0;
}

static void forked_child_gets_eio(void **state)
{
	struct room r = room_make();

	(void)state;
	relied_on_by("lib/vm.c: check_vm_fd(); lib/memory_bind.c: may_run_on()");
	assert_int_equal(old_slot(&r, 1, 0, 0, r.page), 0);
	assert_int_equal(gt_in_child(ask_as_child, &r), 0);
	assert_int_equal(old_slot(&r, 1, 0, 0, 0), 0); /* untouched by the child */
	room_end(&r);
}

static void duplicate_keeps_the_vm(void **state)
{
	struct room r = room_make();
	int kept = fcntl(r.vm, F_DUPFD_CLOEXEC, 3);

	(void)state;
	relied_on_by("lib/vm.c: take_fd()");
	assert_int_equal(old_slot(&r, 1, 0, 0, r.page), 0);
	close(r.vm);
	r.vm = kept;
	assert_int_equal(old_slot(&r, 2, 0, 0, r.page), EEXIST);
	assert_int_equal(old_slot(&r, 1, 0, 0, 0), 0);
	room_end(&r);
}

#define GMEM GT_NEEDS_GUEST_MEMFD

static const struct gt_test tests[] = {
	GT(known_command_says_efault, GT_NEEDS_KVM),
	GT(unknown_command_says_something_else, GT_NEEDS_KVM),
	GT(other_fds_do_not_know_a_vm_command, GT_NEEDS_KVM),
	GT(vcpu_says_efault_to_its_own_command_only, GT_NEEDS_VCPU),
	GT(unknown_capability_is_zero, GT_NEEDS_KVM),
	GT(trial_slot_leaves_no_slot, GMEM),
	GT(trial_slot_leaves_an_existing_slot, GMEM),
	GT(unknown_slot_flag_is_refused, GMEM),
	GT(deleting_what_is_not_there_is_einval, GT_NEEDS_KVM),
	GT(overlap_of_guest_addresses_is_eexist, GT_NEEDS_KVM),
	GT(only_dirty_logging_can_change, GT_NEEDS_KVM),
	GT(guest_memfd_slot_cannot_change, GMEM),
	GT(guest_memfd_slot_is_deleted_by_the_old_call, GMEM),
	GT(file_range_is_bound_once, GMEM),
	GT(guest_memfd_slot_takes_no_other_flag, GMEM),
	GT(forked_child_gets_eio, GT_NEEDS_KVM),
	GT(duplicate_keeps_the_vm, GT_NEEDS_KVM),
};

GT_MAIN("promises_kvm", tests)
