/* SPDX-License-Identifier: MIT */
/* Populating guest_memfds of kernels that no machine here runs, and what KVM may do in the middle of it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "files.h"
#include "gt.h"
#include "raw.h"

#define PAGE UINT64_C(4096)
#define PAGES UINT64_C(64)
#define LENGTH (PAGES * PAGE)
#define CHUNK (8 * PAGE)

#define MAPPABLE GMEM_NEED_MAPPABLE
#define HIDDEN GMEM_NEED_HIDDEN

static unsigned char content[LENGTH]; /* no page of it is zero, except where a test says so */

struct world {
	struct gmem_vm *vm;
	struct gmem *mem;
	uint64_t done;
};

static void fill_content(void)
{
	uint32_t x = 1;

	for (size_t i = 0; i < LENGTH; i++) {
		x = x * 1664525u + 1013904223u;
		content[i] = (unsigned char)(x >> 24);
	}
}

static struct world enter(const char *preset, uint64_t need)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need };
	struct world world = { .done = 99 };
	int fd;

	fill_content();
	fakekvm_enable(fakekvm_preset(preset));
	fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(fd, &world.vm, NULL), 0);
	close(fd);
	assert_int_equal(gmem_create(world.vm, LENGTH, &world.mem, &opts), 0);
	return world;
}

static void leave(struct world *world)
{
	gmem_destroy(world->mem);
	gmem_vm_close(world->vm);
	fakekvm_disable();
}

static int populate(struct world *world, uint64_t offset, uint64_t length)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = CHUNK };

	world->done = 99;
	return gmem_populate(world->mem, offset, length, content + offset, &world->done, &opts);
}

static struct gmem_info query(const struct world *world)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(world->mem, &info), 0);
	return info;
}

/* The file as it is. The stand-in lets nobody read a hidden one, but the memfd behind it does: the last that a test does. */
static void expect_content(struct world *world, uint64_t offset, uint64_t length)
{
	static unsigned char found[LENGTH], expected[LENGTH];
	int fd = gmem_get_fd(world->mem, GMEM_FD_MEMORY);

	memset(expected, 0, sizeof(expected));
	memcpy(expected + offset, content + offset, length);
	fakekvm_disable();
	assert_int_equal(pread(fd, found, LENGTH, 0), LENGTH);
	assert_memory_equal(found, expected, LENGTH);
}

static struct gmem_step first_step(const struct world *world)
{
	struct gmem_step step = { .size = sizeof(step) };

	assert_int_equal(gmem_vm_explain(world->vm, GMEM_TASK_POPULATE, 0, 0, 0, &step), 1);
	return step;
}

static int warnings;

static void hear(void *user, enum gmem_log_level level, const char *text)
{
	(void)user;
	(void)text;
	warnings += level == GMEM_LOG_WARNING;
}

/* All goes well */

static const struct {
	const char *preset;
	uint64_t need;
	enum gmem_mechanism mechanism;
} ways[] = {
	{ "7.3", MAPPABLE, GMEM_MECH_MAPPING },
	{ "6.18", MAPPABLE, GMEM_MECH_MAPPING },
	{ "arm64", MAPPABLE, GMEM_MECH_MAPPING },
	{ "6.1", MAPPABLE, GMEM_MECH_WRITE },
	{ "future-upstream", MAPPABLE, GMEM_MECH_WRITE },
	{ "future-firecracker", MAPPABLE, GMEM_MECH_WRITE },
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void any_range_by_any_way(void **state)
{
	static const uint64_t ranges[][2] = {
		{ 0, LENGTH }, { 0, PAGE }, { 3 * PAGE, 5 * PAGE }, { 0, 1 }, { PAGE - 1, 2 },
		{ 100, 200 }, { 100, LENGTH - 100 }, { PAGE + 7, 20 * PAGE }, { 0, LENGTH - 1 }, { 17 * PAGE, CHUNK + 3 },
	};

	(void)state;
	for (size_t i = 0; i < WAYS; i++)
		for (size_t j = 0; j < sizeof(ranges) / sizeof(ranges[0]); j++) {
			struct world world = enter(ways[i].preset, ways[i].need);

			assert_int_equal(populate(&world, ranges[j][0], ranges[j][1]), 0);
			assert_int_equal(world.done, ranges[j][1]);
			assert_int_equal(query(&world).populated, ranges[j][1]);
			assert_int_equal(query(&world).populate_mechanism, ways[i].mechanism);
			expect_content(&world, ranges[j][0], ranges[j][1]);
			leave(&world);
		}
}

static void zeros_are_left_out_and_written_over(void **state)
{
	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		struct world world = enter(ways[i].preset, ways[i].need);

		memset(content + 5 * PAGE, 0, 10 * PAGE);
		memset(content + 40 * PAGE, 0, PAGE);
		assert_int_equal(populate(&world, 0, LENGTH), 0);
		assert_int_equal(world.done, LENGTH);
		assert_int_equal(query(&world).skipped, 11 * PAGE);
		assert_int_equal(query(&world).populated, LENGTH - 11 * PAGE);
		memset(content + 20 * PAGE, 0, 2 * PAGE); /* there is something else there now */
		assert_int_equal(populate(&world, 0, LENGTH), 0);
		assert_int_equal(query(&world).skipped, 22 * PAGE);
		expect_content(&world, 0, LENGTH);
		leave(&world);
	}
}

/* Where mincore() cannot tell, nothing is left out. */
static void without_mincore_zeros_are_written(void **state)
{
	struct world world = enter("7.3", MAPPABLE);

	(void)state;
	assert_int_equal(populate(&world, 0, LENGTH), 0);
	memset(content + 5 * PAGE, 0, 10 * PAGE);
	fakekvm_script("mincore", ENOMEM, 0, 0);
	assert_int_equal(populate(&world, 0, LENGTH), 0);
	assert_int_equal(query(&world).skipped, 0);
	expect_content(&world, 0, LENGTH);
	leave(&world);
}

static void the_shared_half_of_a_pair(void **state)
{
	struct world world = enter("sw-protected", MAPPABLE | GMEM_NEED_PRIVATE);
	static unsigned char found[LENGTH];

	(void)state;
	assert_int_equal(populate(&world, 100, LENGTH - 200), 0);
	assert_int_equal(pread(gmem_get_fd(world.mem, GMEM_FD_SHARED_HALF), found, LENGTH, 0), LENGTH);
	assert_memory_equal(found + 100, content + 100, LENGTH - 200);
	leave(&world);
}

static void from_a_file_with_holes(void **state)
{
	int source = memfd_create("source", 0);

	(void)state;
	fill_content();
	assert_int_equal(pwrite(source, content, 10 * PAGE, 0), 10 * PAGE);
	assert_int_equal(pwrite(source, content + 30 * PAGE, 5 * PAGE + 100, 30 * PAGE), 5 * PAGE + 100);
	for (size_t i = 0; i < WAYS; i++) {
		struct world world = enter(ways[i].preset, ways[i].need);

		memset(content + 10 * PAGE, 0, 20 * PAGE);
		memset(content + 35 * PAGE + 100, 0, LENGTH - 35 * PAGE - 100);
		assert_int_equal(gmem_populate_fd(world.mem, 0, LENGTH, source, 0, &world.done, NULL), -ENODATA);
		assert_int_equal(world.done, 35 * PAGE + 100);
		assert_int_equal(query(&world).skipped, 20 * PAGE);
		expect_content(&world, 0, world.done);
		leave(&world);
	}
	close(source);
}

/* By write() */

static void whole_pages_are_not_mapped(void **state)
{
	struct world world = enter("future-upstream", MAPPABLE);
	unsigned int allocations = fakekvm_calls("fallocate"), populations = fakekvm_calls("madvise");

	(void)state;
	assert_int_equal(populate(&world, PAGE, 32 * PAGE), 0);
	assert_int_equal(fakekvm_calls("fallocate"), allocations);
	assert_int_equal(fakekvm_calls("madvise"), populations);
	leave(&world);
}

static void short_writes_go_on(void **state)
{
	struct world world = enter("future-firecracker", MAPPABLE);

	(void)state;
	fakekvm_script_partial("pwrite", 3 * PAGE, 0, 5, 0);
	fakekvm_script("pwrite", EINTR, 2, 0);
	fakekvm_script_partial("pwrite", PAGE, 0, 9, 0);
	assert_int_equal(populate(&world, 50, LENGTH - 60), 0);
	assert_int_equal(world.done, LENGTH - 60);
	assert_int_equal(query(&world).populated, LENGTH - 60);
	expect_content(&world, 50, LENGTH - 60);
	leave(&world);
}

static void check_demotion(const char *preset, int error)
{
	struct world world = enter(preset, MAPPABLE);
	unsigned int writes;

	assert_int_equal(populate(&world, 0, PAGE), 0);
	fakekvm_script_partial("pwrite", 3 * PAGE, 0, 1, 0);
	fakekvm_script("pwrite", error, 1, 0);
	warnings = 0;
	gmem_set_log(GMEM_LOG_WARNING, hear, NULL);
	assert_int_equal(populate(&world, PAGE, LENGTH - PAGE), 0);
	gmem_set_log(0, NULL, NULL);
	assert_int_equal(world.done, LENGTH - PAGE);
	assert_int_equal(query(&world).populated, LENGTH);
	assert_int_equal(query(&world).populate_mechanism, GMEM_MECH_MAPPING);
	assert_int_equal(warnings, 1);
	assert_int_equal(first_step(&world).chosen, 0);
	assert_non_null(strstr(first_step(&world).why, "demoted"));
	writes = fakekvm_calls("pwrite");
	assert_int_equal(populate(&world, 0, 4 * PAGE), 0); /* remembered */
	assert_int_equal(fakekvm_calls("pwrite"), writes);
	expect_content(&world, 0, LENGTH);
	leave(&world);
}

static void write_that_turns_out_absent(void **state)
{
	(void)state;
	check_demotion("future-upstream", ENODEV);
	check_demotion("future-upstream", ESPIPE);
	check_demotion("future-firecracker", ENODEV);
}

/* Whoever made the file may have left write() out: the VM's own files have it still. */
static void write_that_an_imported_file_lacks(void **state)
{
	struct world world = enter("future-upstream", MAPPABLE), other = world;

	(void)state;
	other.mem = imported(world.vm, gmem_get_fd(world.mem, GMEM_FD_MEMORY), 0, MAPPABLE, 0);
	fakekvm_script("pwrite", ENODEV, 1, 0);
	assert_int_equal(populate(&other, 0, LENGTH), 0);
	assert_int_equal(query(&other).populate_mechanism, GMEM_MECH_MAPPING);
	assert_true(first_step(&world).chosen);
	assert_int_equal(populate(&world, 0, PAGE), 0);
	assert_int_equal(query(&world).populate_mechanism, GMEM_MECH_WRITE);
	gmem_destroy(other.mem);
	expect_content(&world, 0, LENGTH);
	leave(&world);
}

static void write_that_fails_can_be_gone_on_with(void **state)
{
	static const int errors[] = { EIO, ENOSPC, ENOMEM, EFAULT, EINVAL, EPERM };

	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct world world = enter("future-upstream", MAPPABLE);

		assert_int_equal(populate(&world, 0, PAGE), 0);
		fakekvm_script_partial("pwrite", 3 * PAGE, 0, 1, 1);
		fakekvm_script("pwrite", errors[i], 1, 1);
		assert_int_equal(populate(&world, PAGE, LENGTH - PAGE), -errors[i]);
		assert_non_null(strstr(gmem_last_error(), "gmem_populate: pwrite()"));
		assert_int_equal(world.done, CHUNK - PAGE + 3 * PAGE); /* the first step ends where chunks end */
		assert_int_equal(query(&world).populated, PAGE + world.done);
		assert_int_equal(first_step(&world).chosen, 1);
		assert_int_equal(populate(&world, PAGE + world.done, LENGTH - PAGE - world.done), 0);
		assert_int_equal(query(&world).populated, LENGTH);
		expect_content(&world, 0, LENGTH);
		leave(&world);
	}
}

/* Hidden memory */

static void hidden_memory_takes_whole_pages(void **state)
{
	struct world world = enter("future-firecracker", HIDDEN);

	(void)state;
	assert_int_equal(populate(&world, 100, 50), -EINVAL);
	assert_int_equal(world.done, 0);
	assert_non_null(strstr(gmem_last_error(), "whole pages"));
	assert_int_equal(populate(&world, 0, PAGE - 1), -EINVAL);
	assert_int_equal(populate(&world, PAGE - 1, 1), -EINVAL);
	assert_int_equal(query(&world).populated, 0);
	assert_int_equal(populate(&world, 40 * PAGE, 2 * PAGE + 1), -EINVAL);
	assert_true(world.done == 0 || world.done == 2 * PAGE);
	assert_int_equal(query(&world).populated, world.done);
	assert_int_equal(populate(&world, 0, 40 * PAGE), 0);
	assert_int_equal(query(&world).populate_mechanism, GMEM_MECH_WRITE);
	assert_int_equal(populate(&world, 0, PAGE), -EEXIST); /* KVM cannot reach what is hidden already */
	assert_int_equal(world.done, 0);
	leave(&world);
}

static void hidden_memory_gets_its_content(void **state)
{
	struct world world = enter("future-firecracker", HIDDEN);

	(void)state;
	memset(content + 5 * PAGE, 0, 10 * PAGE);
	assert_int_equal(populate(&world, PAGE, 50 * PAGE), 0);
	assert_int_equal(world.done, 50 * PAGE);
	expect_content(&world, PAGE, 50 * PAGE);
	leave(&world);
}

/* With a mapping it takes any range, as other memory does: only the kernel's direct map does not reach it. */
static void hidden_memory_that_is_mapped(void **state)
{
	struct world world = enter("future-firecracker", HIDDEN | MAPPABLE);

	(void)state;
	assert_int_equal(populate(&world, 100, 10 * PAGE), 0);
	assert_int_equal(world.done, 10 * PAGE);
	expect_content(&world, 100, 10 * PAGE);
	leave(&world);
}

static void hidden_memory_that_is_mapped_is_written_over(void **state)
{
	struct world world = enter("future-firecracker", HIDDEN | MAPPABLE);

	(void)state;
	assert_int_equal(populate(&world, 0, 10 * PAGE), 0);
	for (size_t i = 0; i < LENGTH; i++)
		content[i] ^= 0xff;
	assert_int_equal(populate(&world, 0, 10 * PAGE), 0);
	expect_content(&world, 0, 10 * PAGE);
	leave(&world);
}

/* Nothing is left in the chain: an error, not a crash. In a child, so that a crash fails this test only. */

struct dead_end {
	const char *preset;
	uint64_t need;
	const char *call;
	uint32_t forced;
};

static int run_into(void *arg)
{
	const struct dead_end *way = arg;
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = way->forced };
	struct world world = enter(way->preset, way->need);

	fakekvm_script(way->call, ENODEV, 0, 0);
	assert_int_equal(gmem_populate(world.mem, 0, LENGTH, content, &world.done, &opts), -EOPNOTSUPP);
	assert_int_equal(world.done, 0);
	assert_non_null(strstr(gmem_last_error(), "demoted"));
	assert_int_equal(gmem_populate(world.mem, 0, LENGTH, content, &world.done, &opts), -EOPNOTSUPP);
	leave(&world);
	return 0;
}

static void the_end_of_the_chain(void **state)
{
	static struct dead_end ways_out[] = {
		{ "future-firecracker", HIDDEN, "pwrite", 0 },
		{ "future-upstream", MAPPABLE, "pwrite", GMEM_MECH_WRITE },
		{ "7.3", MAPPABLE, "mmap", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ways_out) / sizeof(ways_out[0]); i++)
		if (gt_in_child(run_into, &ways_out[i]))
			fail_msg("row %zu, see above", i);
}

static const struct gt_test tests[] = {
	GT(any_range_by_any_way, GT_NEEDS_NOTHING),
	GT(zeros_are_left_out_and_written_over, GT_NEEDS_NOTHING),
	GT(without_mincore_zeros_are_written, GT_NEEDS_NOTHING),
	GT(the_shared_half_of_a_pair, GT_NEEDS_NOTHING),
	GT(from_a_file_with_holes, GT_NEEDS_NOTHING),
	GT(whole_pages_are_not_mapped, GT_NEEDS_NOTHING),
	GT(short_writes_go_on, GT_NEEDS_NOTHING),
	GT(write_that_turns_out_absent, GT_NEEDS_NOTHING),
	GT(write_that_an_imported_file_lacks, GT_NEEDS_NOTHING),
	GT(write_that_fails_can_be_gone_on_with, GT_NEEDS_NOTHING),
	GT(hidden_memory_takes_whole_pages, GT_NEEDS_NOTHING),
	GT(hidden_memory_gets_its_content, GT_NEEDS_NOTHING),
	GT(hidden_memory_that_is_mapped, GT_NEEDS_NOTHING),
	GT(hidden_memory_that_is_mapped_is_written_over, GT_NEEDS_NOTHING),
	GT(the_end_of_the_chain, GT_NEEDS_NOTHING),
};

GT_MAIN("populating on the stand-in kernel", tests)
