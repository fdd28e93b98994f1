/* SPDX-License-Identifier: MIT */
/* Populating through a mapping that stops in the middle: `done` is exact, what was done is right, and the rest can follow. */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "gt.h"

#define PAGE UINT64_C(4096)
#define LENGTH (64 * PAGE)
#define CHUNK (8 * PAGE)

static unsigned char content[LENGTH], found[LENGTH], zeros[LENGTH];

struct world {
	struct gmem_vm *vm;
	struct gmem *mem;
	uint64_t done;
};

static struct world enter(const char *preset)
{
	struct world world = { .done = 99 };
	int fd;

	for (size_t i = 0; i < LENGTH; i++)
		content[i] = (unsigned char)(i % 251 + 1);
	fakekvm_enable(fakekvm_preset(preset));
	fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(fd, &world.vm, NULL), 0);
	close(fd);
	assert_int_equal(gmem_create(world.vm, LENGTH, &world.mem, NULL), 0);
	/* What is asked once is asked now: after this, calls are those of populating. */
	assert_int_equal(gmem_populate(world.mem, 0, PAGE, content, NULL, NULL), 0);
	return world;
}

static void leave(struct world *world)
{
	gmem_destroy(world->mem);
	gmem_vm_close(world->vm);
	fakekvm_disable();
}

static int populate(struct world *world, uint64_t offset, uint64_t length, uint64_t flags)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = CHUNK, .flags = flags };

	world->done = 99;
	return gmem_populate(world->mem, offset, length, content + offset, &world->done, &opts);
}

static struct gmem_info query(const struct world *world)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(world->mem, &info), 0);
	return info;
}

/* The first `length` bytes are the content, and nothing is behind them. */
static void expect_content(struct world *world, uint64_t length)
{
	void *address;

	assert_int_equal(gmem_map(world->mem, 0, LENGTH, &address, NULL), 0);
	memcpy(found, address, LENGTH);
	assert_memory_equal(found, content, length);
	assert_memory_equal(found + length, zeros, LENGTH - length);
}

/* Fails in the third step, is gone on with, and ends well. */
static void stop_and_go_on(const char *call, int error, uint64_t flags)
{
	struct world world = enter("7.3");
	uint64_t at = CHUNK * 3;

	fakekvm_script(call, error, 1, 2);
	assert_int_equal(populate(&world, PAGE, LENGTH - PAGE, flags), -error);
	assert_non_null(strstr(gmem_last_error(), call));
	assert_non_null(strstr(gmem_last_error(), "from the kernel"));
	assert_int_equal(PAGE + world.done, 2 * CHUNK);
	assert_int_equal(query(&world).populated, 2 * CHUNK);
	expect_content(&world, 2 * CHUNK);
	assert_int_equal(populate(&world, 2 * CHUNK, at - 2 * CHUNK, flags), 0);
	assert_int_equal(populate(&world, at, LENGTH - at, flags), 0);
	assert_int_equal(world.done, LENGTH - at);
	assert_int_equal(query(&world).populated, LENGTH);
	expect_content(&world, LENGTH);
	leave(&world);
}

static void no_room(void **state)
{
	(void)state;
	stop_and_go_on("fallocate", ENOSPC, 0);
	stop_and_go_on("fallocate", ENOMEM, 0);
	stop_and_go_on("fallocate", ENOSPC, GMEM_POPULATE_KEEP_ZEROS);
}

static void no_pages(void **state)
{
	(void)state;
	stop_and_go_on("madvise", EFAULT, 0);
	stop_and_go_on("madvise", ENOMEM, 0);
	stop_and_go_on("madvise", EHWPOISON, 0);
	stop_and_go_on("madvise", EFAULT, GMEM_POPULATE_KEEP_ZEROS);
}

/* KVM keeps what it did before it failed: those pages are zeros, and count as not done. */
static void half_of_a_step(const char *call, int error)
{
	struct world world = enter("7.3");

	fakekvm_script_partial(call, 3 * PAGE, error, 1, 1);
	assert_int_equal(populate(&world, PAGE, LENGTH - PAGE, 0), -error);
	assert_int_equal(PAGE + world.done, CHUNK);
	expect_content(&world, CHUNK);
	assert_int_equal(populate(&world, CHUNK, LENGTH - CHUNK, 0), 0);
	expect_content(&world, LENGTH);
	leave(&world);
}

static void half_a_step_counts_as_none(void **state)
{
	(void)state;
	half_of_a_step("fallocate", ENOSPC);
	half_of_a_step("madvise", EFAULT);
}

/* A range that begins and ends anywhere, in page 0 too, stopped at every step there is. */
static void stop_once(uint64_t offset, uint64_t length, unsigned int after)
{
	struct world world = enter("7.3");
	uint64_t first;
	void *address;
	int r;

	fakekvm_script("fallocate", ENOSPC, 1, after);
	r = populate(&world, offset, length, 0);
	first = world.done;
	assert_int_equal(r, first == length ? 0 : -ENOSPC);
	assert_int_equal(query(&world).populated, PAGE + first);
	if (r)
		assert_int_equal(populate(&world, offset + first, length - first, 0), 0);
	assert_int_equal(query(&world).populated, PAGE + length);
	assert_int_equal(gmem_map(world.mem, 0, LENGTH, &address, NULL), 0);
	assert_memory_equal((unsigned char *)address + offset, content + offset, length);
	leave(&world);
}

static void at_any_byte(void **state)
{
	static const uint64_t ranges[][2] = {
		{ 100, LENGTH - 100 }, { PAGE + 1, 20 * PAGE }, { 7, CHUNK }, { 3 * PAGE - 1, 2 }
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		for (unsigned int after = 0; after < 12; after++)
			stop_once(ranges[i][0], ranges[i][1], after);
}

/* Signals are no failure: on guest_memfd the work goes on where it was. */
static void signals_do_not_stop_it(void **state)
{
	struct world world = enter("7.3");

	(void)state;
	fakekvm_script("fallocate", EINTR, 3, 0);
	fakekvm_script_partial("fallocate", PAGE, EINTR, 3, 0);
	fakekvm_script("madvise", EINTR, 3, 0);
	fakekvm_script_partial("madvise", PAGE, EINTR, 3, 0);
	assert_int_equal(populate(&world, 0, LENGTH, 0), 0);
	assert_int_equal(world.done, LENGTH);
	expect_content(&world, LENGTH);
	leave(&world);
}

static void zeros_and_errors(void **state)
{
	struct world world = enter("7.3");

	(void)state;
	memset(content + 10 * PAGE, 0, 20 * PAGE);
	fakekvm_script("fallocate", ENOSPC, 1, 2);
	assert_int_equal(populate(&world, PAGE, LENGTH - PAGE, 0), -ENOSPC);
	assert_int_equal(world.done, 29 * PAGE); /* steps 1 and 2 up to the zeros, the zeros, and not what follows */
	assert_int_equal(query(&world).skipped, 20 * PAGE);
	assert_int_equal(query(&world).populated, 10 * PAGE);
	assert_int_equal(populate(&world, 30 * PAGE, LENGTH - 30 * PAGE, 0), 0);
	expect_content(&world, LENGTH);
	leave(&world);
}

/* Where the whole memory cannot be mapped, the part that is populated can. */
static void no_address_space(void **state)
{
	struct world world = enter("future-upstream");
	uint64_t offset = 3 * PAGE + 10;

	(void)state;
	assert_int_equal(gmem_unmap(world.mem, 0, LENGTH), 0);
	fakekvm_script("mmap", ENOMEM, 1, 0);
	assert_int_equal(populate(&world, offset, 100, 0), 0);
	assert_int_equal(world.done, 100);
	assert_int_equal(gmem_unmap(world.mem, 0, LENGTH), 0);
	fakekvm_script("mmap", ENOMEM, 2, 0);
	assert_int_equal(populate(&world, offset, 100, 0), -ENOMEM);
	assert_int_equal(world.done, 0);
	leave(&world);
}

/* A mapping that is refused says nothing of write(). */
static void a_failed_mapping_does_not_cost_write(void **state)
{
	struct gmem_step step = { .size = sizeof(step) };
	struct world world = enter("future-upstream");

	(void)state;
	assert_int_equal(gmem_unmap(world.mem, 0, LENGTH), 0);
	fakekvm_script("mmap", ENODEV, 1, 0);
	populate(&world, 10, 100, 0);
	assert_int_equal(gmem_vm_explain(world.vm, GMEM_TASK_POPULATE, 0, 0, 0, &step), 1);
	assert_int_equal(step.mechanism, GMEM_MECH_WRITE);
	assert_int_equal(step.chosen, 1);
	leave(&world);
}

static int stop_at(void *user, uint64_t done, uint64_t length)
{
	(void)length;
	return done >= *(const uint64_t *)user;
}

static void the_caller_stops_it(void **state)
{
	uint64_t enough = 3 * CHUNK;
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = CHUNK, .progress = stop_at, .user = &enough };
	static const char *const presets[] = { "7.3", "future-upstream" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct world world = enter(presets[i]);

		assert_int_equal(gmem_populate(world.mem, 0, LENGTH, content, &world.done, &opts), -ECANCELED);
		assert_int_equal(world.done, enough);
		expect_content(&world, enough);
		assert_int_equal(populate(&world, enough, LENGTH - enough, 0), 0);
		expect_content(&world, LENGTH);
		leave(&world);
	}
}

static const struct gt_test tests[] = {
	GT(no_room, GT_NEEDS_NOTHING),
	GT(no_pages, GT_NEEDS_NOTHING),
	GT(half_a_step_counts_as_none, GT_NEEDS_NOTHING),
	GT(at_any_byte, GT_NEEDS_NOTHING),
	GT(signals_do_not_stop_it, GT_NEEDS_NOTHING),
	GT(zeros_and_errors, GT_NEEDS_NOTHING),
	GT(no_address_space, GT_NEEDS_NOTHING),
	GT(a_failed_mapping_does_not_cost_write, GT_NEEDS_NOTHING),
	GT(the_caller_stops_it, GT_NEEDS_NOTHING),
};

GT_MAIN("populating that stops", tests)
