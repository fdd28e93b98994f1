/* SPDX-License-Identifier: MIT */
/* Giving up handles in any order on a real VM, and running out of fds: a memslot goes with its memory, whatever else is still
 * there, and not before. */
#include <gmem.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gt.h"
#include "guest.h"

#define PAGE 4096u
#define LENGTH (16u * PAGE)
#define SLOT 3u

struct claims {
	int fd; /* the caller's own */
	struct guest *guest;
	struct gmem_vm *vm;
	struct gmem_vcpu *vcpu;
	struct gmem *mem[2]; /* a guest_memfd where there is one, and a memfd; NULL = destroyed */
};

static void make(struct claims *c, size_t i, uint32_t backing)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = backing };

	if (gmem_create(c->vm, LENGTH, &c->mem[i], &opts) ||
	    gmem_bind(c->mem[i], SLOT + (uint32_t)i, i * LENGTH, 0, LENGTH, NULL))
		fail_msg("%s", gmem_last_error());
}

static void claim(struct claims *c)
{
	c->fd = guest_vm();
	c->guest = guest_start(c->fd);
	assert_int_equal(gmem_vm_open(c->fd, &c->vm, NULL), 0);
	assert_int_equal(gmem_vcpu_open(c->vm, guest_vcpu(c->guest), &c->vcpu), 0);
	make(c, 0, GMEM_BACKING_AUTO);
	make(c, 1, GMEM_BACKING_MEMFD);
}

/* The guest finds the memory that is there, and no other. */
static void assert_memory(struct claims *c)
{
	uint64_t word;

	for (uint64_t i = 0; i < 2; i++)
		assert_int_equal(guest_load(c->guest, i * LENGTH + PAGE, &word), c->mem[i] != NULL);
}

/* The slot numbers and guest addresses can be used anew, for something of another size. */
static void assert_slots_are_free(int vm)
{
	void *at = mmap(NULL, 2 * LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (uint32_t slot = SLOT; slot < SLOT + 2; slot++) {
		struct kvm_userspace_memory_region region = { .slot = slot,
							      .memory_size = 2 * LENGTH,
							      .userspace_addr = (uintptr_t)at };

		assert_int_equal(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), 0);
		region.memory_size = 0;
		assert_int_equal(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), 0);
	}
	munmap(at, 2 * LENGTH);
}

static void destroy(struct claims *c, size_t i)
{
	gmem_destroy(c->mem[i]);
	c->mem[i] = NULL;
}

static void give_up(struct claims *c, int which)
{
	switch (which) {
	case 0:
		gmem_vm_close(c->vm);
		break;
	case 1:
		destroy(c, 0);
		break;
	case 2:
		destroy(c, 1);
		break;
	default:
		gmem_vcpu_close(c->vcpu);
	}
}

/* One of the 24 orders. */
static void in_order(const int order[4])
{
	struct claims c;

	claim(&c);
	assert_memory(&c);
	for (int i = 0; i < 4; i++) {
		give_up(&c, order[i]);
		assert_memory(&c);
	}
	assert_slots_are_free(c.fd);
	guest_end(c.guest);
	close(c.fd);
}

static void any_order(void **state)
{
	int order[4];

	(void)state;
	for (int n = 0; n < 256; n++) {
		bool seen[4] = { false };
		int different = 0;

		for (int i = 0; i < 4; i++) {
			order[i] = n >> 2 * i & 3;
			different += !seen[order[i]];
			seen[order[i]] = true;
		}
		if (different == 4)
			in_order(order);
	}
}

/* The library's claims keep the VM; the guest runs on. */
static void callers_fd_closed_first(void **state)
{
	struct claims c;

	(void)state;
	claim(&c);
	close(c.fd);
	assert_memory(&c);
	assert_int_equal(gmem_unbind(c.mem[0], SLOT), 0);
	assert_int_equal(gmem_bind(c.mem[0], SLOT, 0, 0, LENGTH, NULL), 0);
	for (int i = 0; i < 4; i++) {
		give_up(&c, i); /* in the end the vCPU's fd holds the VM alone */
		assert_memory(&c);
	}
	guest_end(c.guest);
}

/* What the program deletes behind the library's back is taken as gone. */
static void slot_deleted_by_the_program(void **state)
{
	struct kvm_userspace_memory_region region = { .slot = SLOT };
	struct claims c;

	(void)state;
	claim(&c);
	assert_int_equal(ioctl(c.fd, KVM_SET_USER_MEMORY_REGION, &region), 0);
	for (int i = 0; i < 4; i++)
		give_up(&c, 3 - i);
	assert_memory(&c);
	assert_slots_are_free(c.fd);
	guest_end(c.guest);
	close(c.fd);
}

static void nothing_is_left_of_unbound_memory(void **state)
{
	struct claims c;
	struct gt_snapshot *before;
	struct gmem *mem;
	void *at;

	(void)state;
	claim(&c);
	before = gt_snapshot();
	assert_int_equal(gmem_create(c.vm, LENGTH, &mem, NULL), 0);
	assert_int_equal(gmem_map(mem, 0, LENGTH, &at, NULL), 0);
	assert_int_equal(gmem_bind(mem, 9, 4 * LENGTH, 0, LENGTH, NULL), 0);
	assert_int_equal(gmem_unmap(mem, 0, LENGTH), -EBUSY);
	assert_int_equal(gmem_unbind(mem, 9), 0);
	assert_int_equal(gmem_unmap(mem, 0, LENGTH), 0);
	gmem_destroy(mem);
	gt_assert_nothing_leaked(before);
	for (int i = 0; i < 4; i++)
		give_up(&c, i);
	guest_end(c.guest);
	close(c.fd);
}

/* --- no fd left --- */

static int lowest_free_fd(void)
{
	int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

	close(fd);
	return fd;
}

static void limit_fds(rlim_t most)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = most;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* A new VM cannot be had then; one that is there answers as soon as there are fds again. */
static int without_fds(void *arg)
{
	struct gmem_probe probe = { .size = sizeof(probe) };
	struct gmem_vm *vm, *other = NULL;
	struct gmem *mem = NULL;
	int fd = *(int *)arg;

	assert_int_equal(gmem_vm_open(fd, &vm, NULL), 0);
	limit_fds((rlim_t)lowest_free_fd());
	if (fd >= 0)
		assert_int_equal(gmem_vm_open(fd, &other, NULL), -EMFILE);
	assert_null(other);
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_MEMFD, &probe), GMEM_UNDETERMINED);
	assert_int_equal(probe.error, -EMFILE);
	assert_non_null(strstr(probe.hint, "RLIMIT_NOFILE"));
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_UFFD, &probe), GMEM_UNDETERMINED);
	assert_int_equal(gmem_create(vm, LENGTH, &mem, NULL), -EMFILE);
	if (!strstr(gmem_last_error(), "EMFILE"))
		fail_msg("the sentence does not say what is missing: %s", gmem_last_error());
	assert_null(mem);
	limit_fds(1024);
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_MEMFD, NULL), GMEM_PRESENT);
	assert_int_equal(gmem_create(vm, LENGTH, &mem, NULL), 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
	return 0;
}

/* In a child, since a limit that is lowered may not be raised again by everyone; the VM must be the child's own. */
static int with_own_vm(void *unused)
{
	struct gt_snapshot *before = gt_snapshot();
	int fd = guest_vm(), r = without_fds(&fd);

	(void)unused;
	close(fd);
	gt_assert_nothing_leaked(before);
	return r;
}

static void no_fd_left(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(with_own_vm, NULL), 0);
}

static void no_fd_left_without_a_vm(void **state)
{
	int none = -1;

	(void)state;
	assert_int_equal(gt_in_child(without_fds, &none), 0);
}

/* With known features: what fails then is the making of the file itself. */
static int when_everything_is_known(void *unused)
{
	struct gmem_vm *vm;
	struct gmem *mem;
	int fd = guest_vm();

	(void)unused;
	assert_int_equal(gmem_vm_open(fd, &vm, NULL), 0);
	assert_int_equal(gmem_create(vm, LENGTH, &mem, NULL), 0);
	gmem_destroy(mem);
	close(fd);
	limit_fds((rlim_t)lowest_free_fd());
	assert_int_equal(gmem_create(vm, LENGTH, &mem, NULL), -EMFILE);
	gmem_vm_close(vm);
	return 0;
}

static void no_fd_left_for_the_file(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(when_everything_is_known, NULL), 0);
}

static const struct gt_test tests[] = {
	GT(any_order, GT_NEEDS_VCPU),
	GT(callers_fd_closed_first, GT_NEEDS_VCPU),
	GT(slot_deleted_by_the_program, GT_NEEDS_VCPU),
	GT(nothing_is_left_of_unbound_memory, GT_NEEDS_VCPU),
	GT(no_fd_left, GT_NEEDS_KVM),
	GT(no_fd_left_without_a_vm, GT_NEEDS_NOTHING),
	GT(no_fd_left_for_the_file, GT_NEEDS_KVM),
};

GT_MAIN("vm_end", tests)
