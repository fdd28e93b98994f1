/* SPDX-License-Identifier: MIT */
/* What the kernel says of one call that maps memory ahead, and how much of it is believed: also what no kernel says. */
#include "gt.h"

#include <string.h>

/* The file itself, with an ioctl() that answers as it is told. */
#define gmemi_sys_ioctl told_ioctl
#define gmemi_prefault_by_vcpu tested_by_vcpu
#define gmemi_prefault_is_by_vcpu tested_is_by_vcpu
#include "prefault_vcpu.c"
#undef gmemi_sys_ioctl

#include "handles.h"
#include "refusal.h"

static struct {
	unsigned long request;
	uint64_t start, size, flags; /* as they came, in the unit of the call */
	bool writes;		     /* the answer's start and size */
	uint64_t to_start, to_size;
	int result;
} told;

int told_ioctl(int fd, unsigned long request, const void *argument)
{
	uint64_t *range = (uint64_t *)(uintptr_t)argument;

	assert_int_equal(fd, 77);
	told.request = request;
	told.start = range[0];
	told.size = range[1];
	told.flags = range[2];
	if (told.writes) {
		range[0] = told.to_start;
		range[1] = told.to_size;
	}
	return told.result;
}

static const struct way {
	enum gmem_mechanism mechanism;
	unsigned long request;
	bool in_pages;
} ways[] = {
	{ GMEM_MECH_PRE_FAULT, KVMI_PRE_FAULT_MEMORY, false },
	{ GMEM_MECH_MAP_MEMORY, KVMI_MAP_MEMORY_V2, false },
	{ GMEM_MECH_MAP_MEMORY_V1, KVMI_MAP_MEMORY_V1, true },
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))
#define GPA 50 /* pages */
#define COUNT 20

static const struct way *way;

/* In pages. */
static int ask_way(int result, bool writes, uint64_t start, uint64_t size, uint64_t *done)
{
	uint64_t unit = way->in_pages ? 1 : page(), bytes = 99;
	int r;

	told.result = result;
	told.writes = writes;
	told.to_start = start * unit;
	told.to_size = size * unit;
	spoil_sentence();
	gmemi_enter("call");
	r = tested_by_vcpu(way->mechanism, 77, GPA * page(), COUNT * page(), &bytes);
	assert_int_equal(told.request, way->request);
	assert_int_equal(told.start, GPA * unit);
	assert_int_equal(told.size, COUNT * unit);
	assert_int_equal(told.flags, 0);
	assert_int_equal(bytes % page(), 0);
	*done = bytes / page();
	return r;
}

static void check(int result, uint64_t did, int shall)
{
	uint64_t done;
	int r = ask_way(result, true, GPA + did, COUNT - did, &done);

	assert_int_equal(r, shall);
	assert_int_equal(done, did);
	if (r)
		bad("call", r, shall, gmem_mechanism_name(way->mechanism));
}

static void check_nonsense(int result, uint64_t start, uint64_t size, uint64_t did)
{
	uint64_t done;
	int r = ask_way(result, true, start, size, &done);

	bad("call", r, -EIO, "the kernel's answer makes no sense");
	assert_int_equal(done, did);
}

static void success_counts_what_was_done(void **state)
{
	(void)state;
	for (way = ways; way < ways + WAYS; way++)
		for (uint64_t did = 1; did <= COUNT; did++)
			check(0, did, 0);
}

static void what_passes_is_success_if_something_was_done(void **state)
{
	(void)state;
	for (way = ways; way < ways + WAYS; way++)
		for (uint64_t did = 0; did <= COUNT; did++) {
			check(-EINTR, did, did ? 0 : -EINTR);
			check(-EAGAIN, did, did ? 0 : -EAGAIN);
		}
}

static void other_errors_are_errors_whatever_was_done(void **state)
{
	static const int errors[] = { -ENOENT, -EFAULT, -EHWPOISON, -EOPNOTSUPP, -ENOTTY, -ENOMEM, -EIO, -EINVAL, -ESHUTDOWN };

	(void)state;
	for (way = ways; way < ways + WAYS; way++)
		for (uint64_t did = 0; did <= COUNT; did += 5)
			for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
				check(errors[i], did, errors[i]);
}

static void an_error_with_an_untouched_structure_did_nothing(void **state)
{
	uint64_t done;

	(void)state;
	for (way = ways; way < ways + WAYS; way++) {
		assert_int_equal(ask_way(-EFAULT, false, 0, 0, &done), -EFAULT);
		assert_int_equal(done, 0);
		assert_int_equal(ask_way(0, false, 0, 0, &done), -EIO); /* success is not nothing */
		assert_int_equal(done, 0);
	}
}

static void answers_that_make_no_sense(void **state)
{
	(void)state;
	for (way = ways; way < ways + WAYS; way++) {
		check_nonsense(0, GPA, COUNT, 0);	   /* nothing done */
		check_nonsense(1, GPA, COUNT, 0);	   /* no such result */
		check_nonsense(7, GPA + 3, COUNT - 3, 3);
		check_nonsense(0, GPA + 3, COUNT, 0);	   /* the halves do not agree */
		check_nonsense(0, GPA, COUNT - 3, 0);
		check_nonsense(0, GPA + 3, COUNT - 4, 0);
		check_nonsense(0, GPA - 1, COUNT + 1, 0);  /* less than nothing */
		check_nonsense(0, GPA + COUNT + 1, UINT64_MAX / page(), 0);
		check_nonsense(-EAGAIN, GPA + 3, COUNT, 0); /* nor is an error believed then */
		check_nonsense(-EFAULT, 0, 0, 0);
	}
}

static void it_is_by_a_vcpu_or_it_is_not(void **state)
{
	(void)state;
	for (int mechanism = 0; mechanism < 40; mechanism++)
		assert_int_equal(tested_is_by_vcpu((enum gmem_mechanism)mechanism), mechanism == GMEM_MECH_PRE_FAULT ||
				 mechanism == GMEM_MECH_MAP_MEMORY || mechanism == GMEM_MECH_MAP_MEMORY_V1);
}

static const struct gt_test tests[] = {
	GT(success_counts_what_was_done, GT_NEEDS_NOTHING),
	GT(what_passes_is_success_if_something_was_done, GT_NEEDS_NOTHING),
	GT(other_errors_are_errors_whatever_was_done, GT_NEEDS_NOTHING),
	GT(an_error_with_an_untouched_structure_did_nothing, GT_NEEDS_NOTHING),
	GT(answers_that_make_no_sense, GT_NEEDS_NOTHING),
	GT(it_is_by_a_vcpu_or_it_is_not, GT_NEEDS_NOTHING),
};

GT_MAIN("prefault_vcpu", tests)
