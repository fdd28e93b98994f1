/* SPDX-License-Identifier: MIT */
/* Prefaulting memory that is bound in parts, and by several vCPUs. The stand-in's vCPUs allocate nothing: what the host did
 * is what exists after, what they did is what they counted. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "fakekvm.h"
#include "handles.h"
#include "inject.h"
#include "machines.h"
#include "points.h"
#include "raw.h"
#include "refusal.h"

#define PAGES 2048 /* four pieces, which is what threads divide, and a part */
#define PIECE 512
#define LENGTH (PAGES * page())

static struct machine v;

static void set_up(unsigned int vcpus)
{
	v = make_machine(WAY_PRE_FAULT, vcpus, LENGTH);
}

static void tear_down(void)
{
	end_machine(&v);
}

static uint64_t mapped(void)
{
	return fakekvm_prefaulted(v.m.vm_fd) / page();
}

static uint64_t allocated(uint64_t first, uint64_t count)
{
	return count - absent_bytes(v.m.mem, first * page(), count * page()) / page();
}

/* Parts */

static void what_is_bound_by_vcpu_the_rest_by_host(void **state)
{
	uint64_t done;

	(void)state;
	for (uint32_t threads = 0; threads < 3; threads++) {
		set_up(3);
		bind_machine(&v, 0, 5000, 100, 200);
		bind_machine(&v, 1, 9000, 700, 1000);
		assert_int_equal(prefault_with(v.m.mem, 0, LENGTH, &done, 0, threads), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(mapped(), 1200);
		assert_int_equal(allocated(0, PAGES), PAGES - 1200);
		assert_int_equal(allocated(100, 200) + allocated(700, 1000), 0);
		tear_down();
	}
}

static void ranges_begin_and_end_anywhere(void **state)
{
	static const uint64_t ranges[][4] = {
		/* first, count; by vCPUs, by the host */
		{ 100, 200, 200, 0 }, { 150, 10, 10, 0 },   { 99, 2, 1, 1 },	{ 299, 2, 1, 1 },	{ 300, 400, 0, 400 },
		{ 0, 100, 0, 100 },   { 299, 402, 2, 400 }, { 1700, 348, 0, 348 }, { 250, 1000, 600, 400 }, { 511, 2, 0, 2 },
	};
	uint64_t done;

	(void)state;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		const uint64_t *r = ranges[i];

		set_up(1);
		bind_machine(&v, 0, 5000, 100, 200);
		bind_machine(&v, 1, 9000, 700, 1000);
		assert_int_equal(prefault(&v, r[0] * page(), r[1] * page(), &done), 0);
		assert_int_equal(done, r[1] * page());
		assert_int_equal(mapped(), r[2]);
		assert_int_equal(allocated(0, PAGES), r[3]);
		assert_int_equal(allocated(r[0], r[1]), r[3]);
		assert_int_equal(prefaulted_by(&v) == GMEM_MECH_HOST_FAULT || r[2], 1);
		tear_down();
	}
}

/* Neighbours in the file, far apart and the other way round in the guest. */
static void several_memslots_of_one_file(void **state)
{
	uint64_t done;

	(void)state;
	set_up(1);
	for (uint32_t slot = 0; slot < 8; slot++)
		bind_machine(&v, slot, 100000 - slot * 1000, slot * 256, 256);
	assert_int_equal(prefault(&v, 10 * page(), 2000 * page(), &done), 0);
	assert_int_equal(done, 2000 * page());
	assert_int_equal(mapped(), 2000);
	assert_int_equal(allocated(0, PAGES), 0);
	assert_int_equal(vcpu_calls(&v), 8); /* none goes over into the next */
	assert_int_equal(gmem_unbind(v.m.mem, 3), 0);
	assert_int_equal(prefault(&v, 0, LENGTH, &done), 0);
	assert_int_equal(mapped(), 2000 + PAGES - 256);
	assert_int_equal(allocated(768, 256), 256);
	assert_int_equal(allocated(0, PAGES), 256);
	tear_down();
}

/* The guest sees it only in a mode of its own. */
static void another_address_space_is_ignored(void **state)
{
	uint64_t done;

	(void)state;
	set_up(1);
	bind_machine(&v, 1u << 16, 5000, 0, 100);
	bind_machine(&v, 0, 5000, 200, 100);
	bind_machine(&v, 1u << 16 | 1, 7000, 400, 100);
	assert_int_equal(prefault(&v, 0, 600 * page(), &done), 0);
	assert_int_equal(mapped(), 100);
	assert_int_equal(allocated(0, 600), 500);
	assert_int_equal(allocated(200, 100), 0);
	tear_down();
}

/* Behind this memory's pages in the guest are another's: how far a memslot reaches is minded, from wherever in it. */
static void another_memory_is_left_alone(void **state)
{
	static const uint64_t firsts[] = { 0, 50, 90, 149 };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct gmem *other;
		uint64_t done;

		set_up(1);
		other = make_pages(v.m.vm, 300);
		bind_machine(&v, 0, 5000, 50, 100);
		assert_int_equal(gmem_bind(other, 4, 5100 * page(), 0, 300 * page(), NULL), 0);
		assert_int_equal(prefault(&v, firsts[i] * page(), 200 * page(), &done), 0);
		assert_int_equal(done, 200 * page());
		assert_int_equal(mapped(), firsts[i] < 50 ? 100 : 150 - firsts[i]);
		assert_int_equal(allocated(0, PAGES), 200 - mapped());
		assert_int_equal(absent_bytes(other, 0, 300 * page()), 300 * page());
		gmem_destroy(other);
		tear_down();
	}
}

/* The program has cut the memslot down to these, so that KVM knows no other pages. */
static void the_right_pages_of_the_guest_are_meant(void **state)
{
	struct raw_slot none = { .slot = 0, .gpa = 5000 * page(), .file = -1 };
	struct raw_slot some = { .slot = 0, .gpa = 5060 * page(), .size = 10 * page(), .file = -1 };
	uint64_t done;

	(void)state;
	set_up(1);
	bind_machine(&v, 0, 5000, 100, 200);
	assert_int_equal(raw_set_slot(v.m.vm_fd, &none), 0);
	assert_int_equal(raw_set_slot(v.m.vm_fd, &some), 0);
	assert_int_equal(prefault(&v, 160 * page(), 10 * page(), &done), 0);
	assert_int_equal(mapped(), 10);
	bad("gmem_prefault", prefault(&v, 159 * page(), page(), &done), -ENOENT, "did the program delete");
	bad("gmem_prefault", prefault(&v, 170 * page(), page(), &done), -ENOENT, "did the program delete");
	tear_down();
}

static void forced_it_takes_what_is_bound_only(void **state)
{
	uint64_t done;

	(void)state;
	set_up(1);
	bad("gmem_prefault", prefault_with(v.m.mem, 0, LENGTH, &done, GMEM_MECH_PRE_FAULT, 0), -EOPNOTSUPP,
	    "offset 0x0 is bound to no memslot");
	assert_int_equal(done, 0);
	bind_machine(&v, 0, 5000, 0, 600);
	bad("gmem_prefault", prefault_with(v.m.mem, 0, LENGTH, &done, GMEM_MECH_PRE_FAULT, 0), -EOPNOTSUPP,
	    "offset 0x258000 is bound to no memslot");
	assert_int_equal(done, 600 * page());
	assert_int_equal(mapped(), 600);
	assert_int_equal(allocated(0, PAGES), 0);
	tear_down();
}

static void out_of_use_the_host_does_all_the_rest(void **state)
{
	uint64_t done;

	(void)state;
	set_up(1);
	bind_machine(&v, 0, 5000, 0, 300);
	bind_machine(&v, 1, 6000, 600, 300);
	fakekvm_script("KVM_PRE_FAULT_MEMORY", EOPNOTSUPP, 0, 1);
	assert_int_equal(prefault(&v, 0, LENGTH, &done), 0);
	assert_int_equal(done, LENGTH);
	assert_int_equal(mapped(), 300);
	assert_int_equal(allocated(0, 300), 0);
	assert_int_equal(allocated(300, PAGES - 300), PAGES - 300);
	assert_int_equal(prefaulted_by(&v), GMEM_MECH_HOST_FAULT);
	tear_down();
}

/* vCPUs: each is one thread's, so there are no more threads than vCPUs. */

struct wish {
	uint32_t threads;
	uint64_t length;
};

static void prefault_so(void *arg)
{
	const struct wish *wish = arg;
	uint64_t done;

	(void)prefault_with(v.m.mem, 0, wish->length, &done, 0, wish->threads);
}

static unsigned int calls_of(const char *name, uint32_t threads, uint64_t pages)
{
	struct wish wish = { threads, pages * page() };
	unsigned int count = 0;

	while (point_of(prefault_so, &wish, name, count + 1))
		count++;
	return count;
}

/* As many as there are for. */
static void each_thread_has_a_vcpu_of_its_own(void **state)
{
	static const uint32_t threads[] = { 0, 1, 2, 7, 64 };

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		unsigned int wanted = threads[i] + 1 < 3 ? threads[i] + 1 : 3, idle = 0;
		uint64_t done;

		set_up(3);
		bind_machine(&v, 0, 5000, 0, PAGES);
		assert_int_equal(prefault_with(v.m.mem, 0, LENGTH, &done, 0, threads[i]), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(mapped(), PAGES);
		assert_int_equal(vcpu_calls(&v), PAGES / PIECE);
		for (unsigned int n = 0; n < 3; n++)
			idle += fakekvm_vcpu_calls(v.vcpu_fd[n]) == 0;
		assert_true(idle >= 3 - wanted);
		assert_int_equal(prefaulted_by(&v), GMEM_MECH_PRE_FAULT);
		tear_down();
	}
}

static void threads_without_a_vcpu_or_a_piece_are_not_made(void **state)
{
	(void)state;
	set_up(1);
	bind_machine(&v, 0, 5000, 0, PAGES);
	assert_int_equal(calls_of("pthread_create", 7, PAGES), 0);
	assert_int_equal(calls_of("fcntl", 7, PAGES), 1); /* the vCPU's fd is duplicated: it may be given up meanwhile */
	tear_down();
	set_up(0);
	assert_true(calls_of("pthread_create", 7, PAGES) >= 1);
	assert_int_equal(calls_of("fcntl", 7, PAGES), 0);
	assert_int_equal(calls_of("pthread_create", 7, PIECE - 1), 0);
	tear_down();
}

static void without_fds_for_its_vcpus_it_fails(void **state)
{
	static const uint32_t threads[] = { 0, 2 };

	(void)state;
	for (size_t i = 0; i < 2; i++)
		for (unsigned int k = 1; k <= threads[i] + 1; k++) {
			struct wish wish = { threads[i], LENGTH };
			unsigned long nth;
			uint64_t done;

			set_up(3);
			bind_machine(&v, 0, 5000, 0, PAGES);
			nth = point_of(prefault_so, &wish, "fcntl", k);
			assert_true(nth > 0);
			inject_arm(nth, EMFILE);
			bad("gmem_prefault", prefault_with(v.m.mem, 0, LENGTH, &done, 0, threads[i]), -EMFILE,
			    "the fd of a vCPU");
			inject_disarm();
			assert_int_equal(done, 0);
			tear_down();
		}
}

/* The log is told in them. */

static pthread_barrier_t both;
static atomic_uint named;

static void look_at_name(void *user, enum gmem_log_level level, const char *line)
{
	char name[16] = "";

	(void)user;
	if (level != GMEM_LOG_WARNING || !strstr(line, "out of use"))
		return;
	pthread_barrier_wait(&both); /* so that each has its part */
	pthread_getname_np(pthread_self(), name, sizeof(name));
	atomic_fetch_add(&named, strcmp(name, "gmem-prefault") == 0);
}

static void threads_have_a_name(void **state)
{
	uint64_t done;

	(void)state;
	set_up(2);
	bind_machine(&v, 0, 5000, 0, PAGES);
	fakekvm_script("KVM_PRE_FAULT_MEMORY", EOPNOTSUPP, 0, 0);
	pthread_barrier_init(&both, NULL, 2);
	atomic_store(&named, 0);
	gmem_set_log(GMEM_LOG_WARNING, look_at_name, NULL);
	assert_int_equal(prefault_with(v.m.mem, 0, LENGTH, &done, 0, 1), 0);
	gmem_set_log(0, NULL, NULL);
	pthread_barrier_destroy(&both);
	assert_int_equal(atomic_load(&named), 1);
	assert_int_equal(allocated(0, PAGES), PAGES);
	tear_down();
}

static void a_vcpu_given_up_before_is_not_used(void **state)
{
	uint64_t done;

	(void)state;
	v = make_machine(EVERY_WAY, 2, LENGTH);
	bind_machine(&v, 0, 5000, 0, PAGES);
	gmem_vcpu_close(v.vcpu[1]);
	v.vcpu[1] = NULL;
	assert_int_equal(prefault_with(v.m.mem, 0, LENGTH, &done, 0, 3), 0);
	assert_int_equal(mapped(), PAGES);
	assert_int_equal(fakekvm_vcpu_calls(v.vcpu_fd[1]), 0);
	gmem_vcpu_close(v.vcpu[0]);
	v.vcpu[0] = NULL;
	assert_int_equal(prefault_with(v.m.mem, 0, LENGTH, &done, 0, 3), 0);
	assert_int_equal(done, LENGTH);
	assert_int_equal(mapped(), PAGES);
	assert_int_equal(allocated(0, PAGES), PAGES);
	assert_int_equal(prefaulted_by(&v), GMEM_MECH_HOST_FAULT);
	bad("gmem_prefault", prefault_with(v.m.mem, 0, LENGTH, &done, GMEM_MECH_PRE_FAULT, 0), -EOPNOTSUPP, "no vCPU is known");
	assert_int_equal(done, 0);
	tear_down();
}

static void without_any_vcpu_the_host_does_it(void **state)
{
	uint64_t done;

	(void)state;
	set_up(0);
	bind_machine(&v, 0, 5000, 0, PAGES);
	bad("gmem_prefault", prefault_with(v.m.mem, 0, LENGTH, &done, GMEM_MECH_PRE_FAULT, 0), -EOPNOTSUPP, "pre_fault");
	assert_int_equal(prefault_with(v.m.mem, 0, LENGTH, &done, 0, 2), 0);
	assert_int_equal(allocated(0, PAGES), PAGES);
	tear_down();
}

/* The nearest failure, whichever thread met it; what is before it is mapped. */
static void what_is_done_has_no_gap(void **state)
{
	(void)state;
	for (uint32_t threads = 0; threads < 3; threads++)
		for (unsigned int after = 0; after < 4; after++) {
			uint64_t done;

			set_up(3);
			bind_machine(&v, 0, 5000, 0, PAGES);
			fakekvm_script("KVM_PRE_FAULT_MEMORY", EFAULT, 0, after);
			bad("gmem_prefault", prefault_with(v.m.mem, 0, LENGTH, &done, 0, threads), -EFAULT,
			    "KVM_PRE_FAULT_MEMORY");
			assert_int_equal(done % (PIECE * page()), 0);
			assert_true(done <= after * PIECE * page());
			if (!threads)
				assert_int_equal(done, after * PIECE * page());
			assert_int_equal(mapped(), after * PIECE);
			tear_down();
		}
}

static int give_up_vcpu(void *user, uint64_t done, uint64_t length)
{
	(void)user;
	(void)done;
	(void)length;
	gmem_vcpu_close(v.vcpu[0]);
	v.vcpu[0] = NULL;
	return 0;
}

static void a_vcpu_may_be_given_up_meanwhile(void **state)
{
	struct gmem_prefault_opts opts = { .size = sizeof(opts), .progress = give_up_vcpu };

	(void)state;
	set_up(1);
	bind_machine(&v, 0, 5000, 0, PAGES);
	assert_int_equal(gmem_prefault(v.m.mem, 0, LENGTH, NULL, &opts), 0);
	assert_int_equal(mapped(), PAGES);
	tear_down();
}

static const struct gt_test tests[] = {
	GT(what_is_bound_by_vcpu_the_rest_by_host, GT_NEEDS_NOTHING),
	GT(ranges_begin_and_end_anywhere, GT_NEEDS_NOTHING),
	GT(several_memslots_of_one_file, GT_NEEDS_NOTHING),
	GT(another_address_space_is_ignored, GT_NEEDS_NOTHING),
	GT(another_memory_is_left_alone, GT_NEEDS_NOTHING),
	GT(the_right_pages_of_the_guest_are_meant, GT_NEEDS_NOTHING),
	GT(forced_it_takes_what_is_bound_only, GT_NEEDS_NOTHING),
	GT(out_of_use_the_host_does_all_the_rest, GT_NEEDS_NOTHING),
	GT(each_thread_has_a_vcpu_of_its_own, GT_NEEDS_NOTHING),
	GT(threads_without_a_vcpu_or_a_piece_are_not_made, GT_NEEDS_NOTHING),
	GT(without_fds_for_its_vcpus_it_fails, GT_NEEDS_NOTHING),
	GT(threads_have_a_name, GT_NEEDS_NOTHING),
	GT(a_vcpu_given_up_before_is_not_used, GT_NEEDS_NOTHING),
	GT(without_any_vcpu_the_host_does_it, GT_NEEDS_NOTHING),
	GT(what_is_done_has_no_gap, GT_NEEDS_NOTHING),
	GT(a_vcpu_may_be_given_up_meanwhile, GT_NEEDS_NOTHING),
};

GT_MAIN("fake_prefault_slots", tests)
