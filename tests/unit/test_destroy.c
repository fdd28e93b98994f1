/* SPDX-License-Identifier: MIT */
/* Giving things up: in any order, bound or not, and with nothing left. */
#include "gt.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"
#include "inject.h"

#define PAGES 4

static void giving_up_nothing_does_nothing(void **state)
{
	(void)state;
	inject_arm(0, 0);
	gmem_destroy(NULL);
	gmem_vm_close(NULL);
	gmem_vcpu_close(NULL);
	assert_int_equal(inject_disarm(), 0);
}

static void memory_goes_on_working_when_its_vm_is_closed(void **state)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = make_pages(vm, PAGES);
	void *address;

	(void)state;
	gmem_vm_close(vm);
	assert_int_equal(gmem_populate(mem, 0, 5, "hello", NULL, NULL), 0);
	assert_int_equal(gmem_map(mem, 0, page(), &address, NULL), 0);
	assert_memory_equal(address, "hello", 6);
	assert_int_equal(gmem_bind(mem, 1, 0, 0, page(), NULL), 0);
	assert_int_equal(gmem_unbind(mem, 1), 0);
	assert_int_equal(gmem_bind(mem, 1, 0, 0, page(), NULL), 0);
	gmem_destroy(mem);
}

/* Two memories and their VM, each mapped or not, bound or not. */
static void prepare(struct gmem *mem, unsigned int how, uint32_t slot)
{
	void *address;

	if (how & 1)
		assert_int_equal(gmem_map(mem, 0, page(), &address, NULL), 0);
	if (how & 2)
		assert_int_equal(gmem_bind(mem, slot, slot * 16 * page(), 0, 2 * page(), NULL), 0);
}

static void give_up_in_order(int vm_fd, const unsigned int *order, unsigned int how)
{
	struct gt_snapshot *before = gt_snapshot();
	struct gmem_vm *vm = open_vm(vm_fd);
	struct gmem *mem[2] = { make_pages(vm, PAGES), make_pages(vm, PAGES) };

	prepare(mem[0], how & 3, 0);
	prepare(mem[1], how >> 2, 1);
	for (unsigned int i = 0; i < 3; i++)
		if (order[i] == 2)
			gmem_vm_close(vm);
		else
			gmem_destroy(mem[order[i]]);
	gt_assert_nothing_leaked(before);
}

static void all_orders_of_giving_up(int vm_fd)
{
	static const unsigned int orders[6][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 }
	};

	for (unsigned int how = 0; how < 16; how++)
		for (unsigned int i = 0; i < 6; i++)
			give_up_in_order(vm_fd, orders[i], how);
}

static void everything_may_be_given_up_in_any_order(void **state)
{
	(void)state;
	all_orders_of_giving_up(-1);
}

static void no_order_of_giving_up_leaves_a_memslot(void **state)
{
	static const char *const presets[] = { "6.1", "6.18" };

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		int fd = fakekvm_vm(fakekvm_preset(presets[i]));

		all_orders_of_giving_up(fd);
		assert_int_equal(slot_count(fd), 0);
		close(fd);
		fakekvm_disable();
	}
}

static void a_vm_fd_may_be_closed_at_once(void **state)
{
	int fd = fakekvm_vm(fakekvm_preset("6.18"));
	struct gmem_vm *vm = open_vm(fd);
	struct gmem *mem;

	(void)state;
	close(fd);
	mem = make_pages(vm, PAGES);
	assert_int_equal(gmem_bind(mem, 0, 0, 0, page(), NULL), 0);
	assert_int_equal(gmem_unbind(mem, 0), 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void vcpus_may_be_closed_after_their_vm(void **state)
{
	int vm_fd = fakekvm_vm(fakekvm_preset("6.18")), vcpu_fd = fakekvm_vcpu(vm_fd);
	struct gmem_vm *vm = open_vm(vm_fd);
	struct gmem_vcpu *vcpus[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(gmem_vcpu_open(vm, vcpu_fd, &vcpus[i]), 0);
	close(vcpu_fd);
	close(vm_fd);
	gmem_vcpu_close(vcpus[1]);
	gmem_vm_close(vm);
	gmem_vcpu_close(vcpus[2]);
	gmem_vcpu_close(vcpus[0]);
}

/* One VM, many threads, each with memory of its own. */

struct crowd {
	struct gmem_vm *vm;
	pthread_barrier_t start;
	unsigned int me;
	int errors;
};

static int live_once(struct gmem_vm *vm, uint32_t slot)
{
	struct gmem_step step = { .size = sizeof(step) };
	struct gmem *mem = NULL;
	void *address;
	int errors = gmem_create(vm, 4 * page(), &mem, NULL) != 0;

	if (errors)
		return errors;
	errors += gmem_vm_probe(vm, GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED, NULL) != GMEM_PRESENT;
	errors += gmem_vm_explain(vm, GMEM_TASK_POPULATE, 0, 0, 0, &step) != 1;
	errors += gmem_bind(mem, slot, slot * 16 * page(), 0, 4 * page(), NULL) != 0;
	errors += gmem_map(mem, 0, 4 * page(), &address, NULL) != 0;
	errors += gmem_populate(mem, 0, 5, "hello", NULL, NULL) != 0;
	errors += memcmp(address, "hello", 5) != 0;
	gmem_destroy(mem); /* bound as it is */
	return errors;
}

static void *live(void *arg)
{
	struct crowd *crowd = arg;
	unsigned int me = __atomic_fetch_add(&crowd->me, 1, __ATOMIC_RELAXED);
	int errors = 0;

	pthread_barrier_wait(&crowd->start);
	for (unsigned int i = 0; i < 20; i++)
		errors += live_once(crowd->vm, me);
	__atomic_fetch_add(&crowd->errors, errors, __ATOMIC_RELAXED);
	return NULL;
}

static void check_sharing(const char *preset)
{
	int fd = fakekvm_vm(fakekvm_preset(preset));
	struct crowd crowd = { .vm = open_vm(fd) };
	pthread_t threads[4];

	assert_int_equal(pthread_barrier_init(&crowd.start, NULL, 4), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, live, &crowd), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(crowd.errors, 0);
	assert_int_equal(slot_count(fd), 0);
	pthread_barrier_destroy(&crowd.start);
	gmem_vm_close(crowd.vm);
	close(fd);
	fakekvm_disable();
}

static void threads_share_a_vm(void **state)
{
	(void)state;
	check_sharing("6.18");
	check_sharing("future-upstream");
	check_sharing("future-firecracker");
}

static const struct gt_test tests[] = {
	GT(giving_up_nothing_does_nothing, GT_NEEDS_NOTHING),
	GT(memory_goes_on_working_when_its_vm_is_closed, GT_NEEDS_NOTHING),
	GT(everything_may_be_given_up_in_any_order, GT_NEEDS_NOTHING),
	GT(no_order_of_giving_up_leaves_a_memslot, GT_NEEDS_NOTHING),
	GT(a_vm_fd_may_be_closed_at_once, GT_NEEDS_NOTHING),
	GT(vcpus_may_be_closed_after_their_vm, GT_NEEDS_NOTHING),
	GT(threads_share_a_vm, GT_NEEDS_NOTHING),
};

GT_MAIN("destroy", tests)
