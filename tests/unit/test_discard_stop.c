/* SPDX-License-Identifier: MIT */
/* gmem_discard() when the kernel stops half-way, is interrupted, or cannot punch: `done` is exact, the call can be gone on
 * with, and mappings serve where the file does not. On the stand-in, where calls fail as they are told to. */
#include "gt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"
#include "memories.h"
#include "refusal.h"

#define PAGES 16
#define LONG (UINT64_C(3) << 30) /* bytes, of which few are there */

static struct memory memory;

/* Full of content. */
static unsigned char *set_up(void)
{
	unsigned char *content = pages_of_content(PAGES, 0);

	memory = make_memory(FAKE_GUEST_MEMFD, PAGES * page());
	assert_int_equal(gmem_populate(memory.mem, 0, memory.length, content, NULL, NULL), 0);
	return content;
}

/* A page of content at each end of every GiB. */
static void set_up_long(void)
{
	unsigned char *content = pages_of_content(2, 0);

	memory = make_memory(FAKE_GUEST_MEMFD, LONG);
	assert_int_equal(gmem_populate(memory.mem, 0, page(), content, NULL, NULL), 0);
	for (uint64_t at = UINT64_C(1) << 30; at < LONG; at += UINT64_C(1) << 30)
		assert_int_equal(gmem_populate(memory.mem, at - page(), 2 * page(), content, NULL, NULL), 0);
	assert_int_equal(gmem_populate(memory.mem, LONG - page(), page(), content, NULL, NULL), 0);
	free(content);
}

static void assert_absent(uint64_t offset, uint64_t length)
{
	assert_int_equal(absent_bytes(memory.mem, offset, length), length);
}

/* Fails after `after` calls of the kernel, with an error that does not mean that the mechanism is absent, then goes on. */
static void check_done(uint64_t offset, uint64_t length, unsigned int after)
{
	int error = after % 2 ? EINVAL : ENOSPC;
	uint64_t done = UINT64_MAX, more = UINT64_MAX;

	set_up_long();
	fakekvm_script("fallocate", error, 1, after);
	spoil_sentence();
	bad("gmem_discard", gmem_discard(memory.mem, offset, length, &done, NULL), -error, "fallocate");
	assert_true(done < length && done % page() == 0);
	assert_int_equal(done > 0, after > 0);
	if (done)
		assert_absent(offset, done);
	if (offset)
		assert_int_equal(absent_bytes(memory.mem, 0, page()), 0);
	assert_int_equal(absent_bytes(memory.mem, LONG - page(), page()), 0); /* it stopped there */
	assert_int_equal(gmem_discard(memory.mem, offset + done, length - done, &more, NULL), 0);
	assert_int_equal(done + more, length);
	assert_absent(offset, length);
	end_memory(&memory);
}

static void what_is_done_is_done(void **state)
{
	(void)state;
	for (unsigned int after = 0; after < 6; after++) {
		check_done(0, LONG, after);
		check_done(3 * page(), LONG - 3 * page(), after);
	}
}

/* What was freed on the way to the error is not counted, and does no harm to go on with. */
static void a_part_that_was_freed_may_be_done_again(void **state)
{
	unsigned char *content = set_up();
	uint64_t done = 77;

	(void)state;
	fakekvm_script_partial("fallocate", 4 * page(), EIO, 1, 0);
	assert_int_equal(gmem_discard(memory.mem, 0, 8 * page(), &done, NULL), -EIO);
	assert_true(done <= 4 * page());
	assert_int_equal(absent_bytes(memory.mem, 0, memory.length), 4 * page());
	assert_int_equal(gmem_discard(memory.mem, done, 8 * page() - done, NULL, NULL), 0);
	assert_int_equal(absent_bytes(memory.mem, 0, memory.length), 8 * page());
	free(content);
	end_memory(&memory);
}

static void signals_do_not_stop_it(void **state)
{
	unsigned char *content = set_up();
	unsigned int before = fakekvm_calls("fallocate");
	uint64_t done = 77;

	(void)state;
	fakekvm_script_partial("fallocate", page(), EINTR, 5, 0);
	assert_int_equal(gmem_discard(memory.mem, 0, memory.length, &done, NULL), 0);
	assert_int_equal(done, memory.length);
	assert_int_equal(fakekvm_calls("fallocate"), before + 6);
	assert_absent(0, memory.length);
	free(content);
	end_memory(&memory);
}

/* Without fallocate() */

static enum gmem_mechanism chosen(void)
{
	struct gmem_step step = { .size = sizeof(step) };
	uint32_t row = 0;

	while (gmem_vm_explain(memory.vm, GMEM_TASK_DISCARD, 0, GMEM_BACKING_GUEST_MEMFD, row, &step) == 1) {
		if (step.chosen)
			return (enum gmem_mechanism)step.mechanism;
		row++;
	}
	return 0;
}

static void check_zeroed(unsigned char *content, uint64_t first, uint64_t count)
{
	uint64_t done = 77;

	assert_int_equal(gmem_discard(memory.mem, first * page(), count * page(), &done, NULL), 0);
	assert_int_equal(done, count * page());
	assert_absent(first * page(), count * page());
	memset(content + first * page(), 0, count * page());
}

static void mappings_serve_where_the_file_does_not(void **state)
{
	unsigned char *content = set_up();
	unsigned int before = fakekvm_calls("fallocate");

	(void)state;
	assert_int_equal(chosen(), GMEM_MECH_PUNCH_HOLE);
	fakekvm_script("fallocate", EOPNOTSUPP, 0, 0);
	check_zeroed(content, 2, 3);
	assert_int_equal(fakekvm_calls("fallocate"), before + 1);
	assert_int_equal(chosen(), GMEM_MECH_MADV_REMOVE);
	check_zeroed(content, 0, 1);
	check_zeroed(content, 8, 8);
	assert_int_equal(fakekvm_calls("fallocate"), before + 1); /* not tried again */
	assert_reads(memory.mem, 0, content, memory.length);
	free(content);
	end_memory(&memory);
}

/* Each as far as it reaches, and what nobody has mapped too. */
static void several_mappings_serve_together(void **state)
{
	unsigned char *content = pages_of_content(PAGES, 0), *space;
	struct gmem_map_opts opts = { .size = sizeof(opts) };
	void *address;

	(void)state;
	memory = make_memory(FAKE_WITH_WRITE, PAGES * page()); /* populated without a mapping */
	assert_int_equal(gmem_populate(memory.mem, 0, memory.length, content, NULL, NULL), 0);
	space = mmap(NULL, PAGES * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(space, MAP_FAILED);
	opts.address = space;
	assert_int_equal(gmem_map(memory.mem, 2 * page(), 3 * page(), &address, &opts), 0);
	opts.address = space + 8 * page();
	assert_int_equal(gmem_map(memory.mem, 5 * page(), 2 * page(), &address, &opts), 0);
	fakekvm_script("fallocate", EOPNOTSUPP, 0, 0);
	check_zeroed(content, 2, 10); /* the last ones in neither of the two */
	assert_reads(memory.mem, 0, content, memory.length);
	free(content);
	end_memory(&memory);
	munmap(space, PAGES * page());
}

static void nothing_serves(void **state)
{
	unsigned char *content = set_up();
	uint64_t done = 77;

	(void)state;
	fakekvm_script("fallocate", EOPNOTSUPP, 0, 0);
	fakekvm_script("madvise", EOPNOTSUPP, 0, 0);
	spoil_sentence();
	bad("gmem_discard", gmem_discard(memory.mem, 0, page(), &done, NULL), -EOPNOTSUPP, "MADV_REMOVE");
	assert_int_equal(done, 0);
	assert_int_equal(absent_bytes(memory.mem, 0, memory.length), 0);
	free(content);
	end_memory(&memory);
}

static void memory_that_cannot_be_mapped_has_the_file_only(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_PRIVATE };
	uint64_t done = 77;

	(void)state;
	memory = (struct memory){ .vm_fd = fakekvm_vm(fakekvm_preset("future-upstream")), .length = PAGES * page() };
	memory.vm = open_vm(memory.vm_fd);
	assert_int_equal(gmem_create(memory.vm, memory.length, &memory.mem, &opts), 0);
	fakekvm_script("fallocate", EOPNOTSUPP, 0, 0);
	spoil_sentence();
	bad("gmem_discard", gmem_discard(memory.mem, 0, page(), &done, NULL), -EOPNOTSUPP, "");
	assert_int_equal(done, 0);
	end_memory(&memory);
}

static const struct gt_test tests[] = {
	GT(what_is_done_is_done, GT_NEEDS_NOTHING),
	GT(a_part_that_was_freed_may_be_done_again, GT_NEEDS_NOTHING),
	GT(signals_do_not_stop_it, GT_NEEDS_NOTHING),
	GT(mappings_serve_where_the_file_does_not, GT_NEEDS_NOTHING),
	GT(several_mappings_serve_together, GT_NEEDS_NOTHING),
	GT(nothing_serves, GT_NEEDS_NOTHING),
	GT(memory_that_cannot_be_mapped_has_the_file_only, GT_NEEDS_NOTHING),
};

GT_MAIN("discard_stop", tests)
