/* SPDX-License-Identifier: MIT */
/* Prefaulting through vCPUs of the stand-in: each way and its manner of saying how far it came. */
#include "gt.h"

#include <errno.h>
#include <string.h>

#include "fakekvm.h"
#include "handles.h"
#include "machines.h"
#include "raw.h"
#include "refusal.h"

#define PAGES 64
#define LENGTH (PAGES * page())
#define GPA 1000 /* page */

static const struct way {
	unsigned int known;
	enum gmem_mechanism mechanism;
	const char *call;
	bool tells_errors; /* of a call that did a part */
} ways[] = {
	{ WAY_PRE_FAULT, GMEM_MECH_PRE_FAULT, "KVM_PRE_FAULT_MEMORY", false },
	{ WAY_MAP_MEMORY, GMEM_MECH_MAP_MEMORY, "KVM_MAP_MEMORY", true },
	{ WAY_MAP_MEMORY_V1, GMEM_MECH_MAP_MEMORY_V1, "KVM_MAP_MEMORY v1", true },
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static struct machine v;

/* One vCPU, and all of the memory in one memslot. */
static void set_up(unsigned int known)
{
	v = make_machine(known, 1, LENGTH);
	bind_machine(&v, 0, GPA, 0, PAGES);
}

static void tear_down(void)
{
	end_machine(&v);
}

static uint64_t mapped(void)
{
	return fakekvm_prefaulted(v.m.vm_fd);
}

/* Which way */

static void each_way_is_taken_where_it_is_the_best(void **state)
{
	uint64_t done;

	(void)state;
	for (unsigned int known = 1; known <= EVERY_WAY; known++) {
		const struct way *best = &ways[known & WAY_PRE_FAULT ? 0 : known & WAY_MAP_MEMORY ? 1 : 2];

		set_up(known);
		assert_int_equal(prefault(&v, 3 * page(), 40 * page(), &done), 0);
		assert_int_equal(done, 40 * page());
		assert_int_equal(prefaulted_by(&v), best->mechanism);
		assert_int_equal(fakekvm_calls(best->call), 1);
		assert_int_equal(vcpu_calls(&v), 1);
		assert_int_equal(mapped(), 40 * page());
		assert_int_equal(absent_bytes(v.m.mem, 0, LENGTH), LENGTH); /* the vCPU's doing, not the host's */
		tear_down();
	}
}

static void each_way_can_be_forced(void **state)
{
	uint64_t done;

	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		set_up(EVERY_WAY);
		assert_int_equal(prefault_with(v.m.mem, 0, LENGTH, &done, ways[i].mechanism, 0), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(prefaulted_by(&v), ways[i].mechanism);
		assert_int_equal(fakekvm_calls(ways[i].call), 1);
		assert_int_equal(prefault_with(v.m.mem, 0, LENGTH, &done, GMEM_MECH_HOST_FAULT, 0), 0);
		assert_int_equal(prefaulted_by(&v), GMEM_MECH_HOST_FAULT);
		assert_int_equal(vcpu_calls(&v), 1);
		assert_int_equal(absent_bytes(v.m.mem, 0, LENGTH), 0);
		tear_down();
	}
}

static void a_way_that_is_not_known_cannot_be_forced(void **state)
{
	uint64_t done;

	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		set_up(EVERY_WAY & ~ways[i].known);
		bad("gmem_prefault", prefault_with(v.m.mem, 0, LENGTH, &done, ways[i].mechanism, 0), -EOPNOTSUPP,
		    gmem_mechanism_name(ways[i].mechanism));
		assert_int_equal(done, 0);
		assert_int_equal(vcpu_calls(&v), 0);
		tear_down();
	}
}

/* Only ioctls that somebody vouches for. */
static void recycled_numbers_are_not_tried_unasked(void **state)
{
	struct gmem_vm *vm;
	struct gmem *mem;
	uint64_t done;

	(void)state;
	set_up(WAY_MAP_MEMORY | WAY_MAP_MEMORY_V1);
	vm = open_vm(v.m.vm_fd);
	mem = make_pages(vm, 4);
	assert_int_equal(gmem_bind(mem, 9, 0, 0, 4 * page(), NULL), 0);
	assert_int_equal(prefault_with(mem, 0, 4 * page(), &done, 0, 0), 0);
	assert_int_equal(info_of(mem).prefault_mechanism, GMEM_MECH_HOST_FAULT);
	assert_int_equal(vcpu_calls(&v), 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
	tear_down();
}

/* In parts */

static void a_part_at_a_time(void **state)
{
	uint64_t done;

	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		set_up(ways[i].known);
		fakekvm_script_partial(ways[i].call, 5 * page(), 0, 0, 0);
		assert_int_equal(prefault(&v, page(), 41 * page(), &done), 0);
		assert_int_equal(done, 41 * page());
		assert_int_equal(mapped(), 41 * page()); /* nothing twice */
		assert_int_equal(vcpu_calls(&v), 9);
		tear_down();
	}
}

/* What passes, and left some headway, is gone on from. */
static void stops_with_headway_are_gone_on_from(void **state)
{
	static const int errors[] = { EINTR, EAGAIN };
	uint64_t done;

	(void)state;
	for (size_t i = 0; i < 2 * WAYS; i++) {
		set_up(ways[i / 2].known);
		fakekvm_script_partial(ways[i / 2].call, 3 * page(), errors[i % 2], 4, 0);
		assert_int_equal(prefault(&v, 0, LENGTH, &done), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(mapped(), LENGTH);
		assert_int_equal(vcpu_calls(&v), 5);
		tear_down();
	}
}

static void check_stop(const struct way *way, int error, uint64_t headway, const char *words)
{
	uint64_t done, first = 7 * page() + (way->tells_errors ? headway : 0);

	set_up(way->known);
	fakekvm_script_partial(way->call, 7 * page(), 0, 1, 0);
	if (way->tells_errors)
		fakekvm_script_partial(way->call, headway, error, 1, 0);
	else
		fakekvm_script(way->call, error, 1, 0);
	bad("gmem_prefault", prefault(&v, 0, LENGTH, &done), -error, words);
	assert_non_null(strstr(gmem_last_error(), gmem_mechanism_name(way->mechanism)));
	assert_non_null(strstr(gmem_last_error(), "from the kernel"));
	assert_int_equal(done, first);
	assert_int_equal(mapped(), first);
	assert_int_equal(prefaulted_by(&v), way->mechanism);
	assert_int_equal(prefault(&v, done, LENGTH - done, &done), 0);
	assert_int_equal(mapped(), LENGTH);
	assert_int_equal(prefaulted_by(&v), way->mechanism); /* not out of use */
	tear_down();
}

static void without_headway_the_caller_is_told(void **state)
{
	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		check_stop(&ways[i], EINTR, 0, "a signal came: go on");
		check_stop(&ways[i], EAGAIN, 0, "memslots are changing: go on");
	}
}

static void what_does_not_pass_ends_the_call(void **state)
{
	(void)state;
	for (size_t i = 0; i < WAYS; i++)
		for (uint64_t headway = 0; headway < 3; headway += 2) {
			check_stop(&ways[i], EFAULT, headway * page(), "private where it should be shared");
			check_stop(&ways[i], EHWPOISON, headway * page(), "EHWPOISON");
			check_stop(&ways[i], ENOMEM, headway * page(), "ENOMEM");
			check_stop(&ways[i], ENOENT, headway * page(), "did the program delete the memslot itself?");
			check_stop(&ways[i], EIO, headway * page(), "EIO");
			check_stop(&ways[i], EINVAL, headway * page(), "EINVAL");
		}
}

static void a_memslot_that_the_program_deleted(void **state)
{
	uint64_t done;

	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		struct raw_slot none = { .slot = 0, .gpa = GPA * page(), .file = -1 };

		set_up(ways[i].known);
		assert_int_equal(raw_set_slot(v.m.vm_fd, &none), 0);
		bad("gmem_prefault", prefault(&v, 0, LENGTH, &done), -ENOENT, "did the program delete the memslot itself?");
		assert_int_equal(done, 0);
		tear_down();
	}
}

/* Answers that no kernel gives; a call that went on with them would have no end. */
static void answers_that_make_no_sense_are_EIO(void **state)
{
	uint64_t done;

	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		set_up(ways[i].known);
		fakekvm_script(ways[i].call, -1, 1, 0);
		fakekvm_script(ways[i].call, -4096, 1, 0);
		fakekvm_script_partial(ways[i].call, 0, 0, 1, 0);
		fakekvm_script_partial(ways[i].call, 9 * page(), 0, 1, 0);
		fakekvm_script_partial(ways[i].call, 0, 0, 0, 0);
		for (int calls = 1; calls <= 3; calls++) {
			bad("gmem_prefault", prefault(&v, 0, LENGTH, &done), -EIO, "the kernel's answer makes no sense");
			assert_int_equal(done, 0);
			assert_int_equal(vcpu_calls(&v), calls);
		}
		bad("gmem_prefault", prefault(&v, 0, LENGTH, &done), -EIO, "makes no sense");
		assert_int_equal(done, 9 * page());
		tear_down();
	}
}

/* Out of use */

static unsigned int warnings;

static void hear(void *user, enum gmem_log_level level, const char *line)
{
	(void)user;
	warnings += level == GMEM_LOG_WARNING && strstr(line, "out of use for this VM") != NULL;
}

/* The first `count` ways stop being there after 10 pages each. */
static void check_demotion(size_t count, int error)
{
	uint64_t done, by_vcpu = 10 * count * page();
	enum gmem_mechanism last = count < WAYS ? ways[count].mechanism : GMEM_MECH_HOST_FAULT;

	set_up(EVERY_WAY);
	for (size_t i = 0; i < count; i++) {
		fakekvm_script_partial(ways[i].call, 10 * page(), 0, 1, 0);
		fakekvm_script(ways[i].call, error, 0, 0);
	}
	warnings = 0;
	gmem_set_log(GMEM_LOG_WARNING, hear, NULL);
	assert_int_equal(prefault(&v, 0, LENGTH, &done), 0);
	gmem_set_log(0, NULL, NULL);
	assert_int_equal(done, LENGTH);
	assert_int_equal(warnings, count);
	assert_int_equal(prefaulted_by(&v), last);
	assert_int_equal(mapped(), count < WAYS ? LENGTH : by_vcpu); /* each went on where the one before stopped */
	assert_int_equal(absent_bytes(v.m.mem, 0, LENGTH), count < WAYS ? LENGTH : by_vcpu);
	done = vcpu_calls(&v);
	assert_int_equal(prefault(&v, 0, LENGTH, &done), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(fakekvm_calls(ways[i].call), 2); /* remembered */
	tear_down();
}

static void out_of_use_in_the_middle_the_next_goes_on(void **state)
{
	(void)state;
	for (size_t count = 1; count <= WAYS; count++) {
		check_demotion(count, EOPNOTSUPP);
		check_demotion(count, ENOTTY);
	}
}

/* The older two did a part and say so with the error. */
static void what_was_done_before_that_counts(void **state)
{
	uint64_t done;

	(void)state;
	for (size_t i = 1; i < WAYS; i++) {
		set_up(ways[i].known);
		fakekvm_script_partial(ways[i].call, 11 * page(), EOPNOTSUPP, 1, 0);
		assert_int_equal(prefault(&v, 0, LENGTH, &done), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(mapped(), 11 * page());
		assert_int_equal(absent_bytes(v.m.mem, 0, LENGTH), 11 * page());
		tear_down();
	}
}

static void forced_and_out_of_use_it_is_refused(void **state)
{
	uint64_t done;

	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		set_up(EVERY_WAY);
		fakekvm_script_partial(ways[i].call, 10 * page(), 0, 1, 0);
		fakekvm_script(ways[i].call, EOPNOTSUPP, 0, 0);
		bad("gmem_prefault", prefault_with(v.m.mem, 0, LENGTH, &done, ways[i].mechanism, 0), -EOPNOTSUPP, "demoted");
		assert_int_equal(done, 10 * page());
		bad("gmem_prefault", prefault_with(v.m.mem, 0, LENGTH, &done, ways[i].mechanism, 0), -EOPNOTSUPP, "demoted");
		assert_int_equal(done, 0);
		assert_int_equal(prefault(&v, 0, LENGTH, &done), 0);
		tear_down();
	}
}

static const struct gt_test tests[] = {
	GT(each_way_is_taken_where_it_is_the_best, GT_NEEDS_NOTHING),
	GT(each_way_can_be_forced, GT_NEEDS_NOTHING),
	GT(a_way_that_is_not_known_cannot_be_forced, GT_NEEDS_NOTHING),
	GT(recycled_numbers_are_not_tried_unasked, GT_NEEDS_NOTHING),
	GT(a_part_at_a_time, GT_NEEDS_NOTHING),
	GT(stops_with_headway_are_gone_on_from, GT_NEEDS_NOTHING),
	GT(without_headway_the_caller_is_told, GT_NEEDS_NOTHING),
	GT(what_does_not_pass_ends_the_call, GT_NEEDS_NOTHING),
	GT(a_memslot_that_the_program_deleted, GT_NEEDS_NOTHING),
	GT(answers_that_make_no_sense_are_EIO, GT_NEEDS_NOTHING),
	GT(out_of_use_in_the_middle_the_next_goes_on, GT_NEEDS_NOTHING),
	GT(what_was_done_before_that_counts, GT_NEEDS_NOTHING),
	GT(forced_and_out_of_use_it_is_refused, GT_NEEDS_NOTHING),
};

GT_MAIN("fake_prefault", tests)
