/* SPDX-License-Identifier: MIT */
/* gmem_query_run() where the kernel does not tell, or would not tell the truth: what is unknown is said to be, and the rest is
 * right all the same. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "content.h"
#include "fakekvm.h"
#include "files.h"
#include "handles.h"
#include "memories.h"

#define PAGES 16
#define ALLOCATED GMEM_RUN_ALLOCATED
#define CONTENT (GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED)
#define ALLOCATED_UNKNOWN GMEM_RUN_ALLOCATED_UNKNOWN
#define INITIALISED_UNKNOWN GMEM_RUN_INITIALISED_UNKNOWN
#define ALL_UNKNOWN (ALLOCATED_UNKNOWN | INITIALISED_UNKNOWN)
#define HUGE (UINT64_C(2) << 20)

static struct memory memory;

static void assert_run(uint64_t first, uint64_t count, uint64_t state)
{
	assert_state(memory.mem, first * page(), count * page(), state);
}

/* Of 16 pages 4 to 7 have content, 8 to 11 are allocated only. */
static void make_mixed(void)
{
	unsigned char *content = pages_of_content(4, 0);
	int fd = gmem_get_fd(memory.mem, GMEM_FD_MEMORY);

	assert_int_equal(gmem_populate(memory.mem, 4 * page(), 4 * page(), content, NULL, NULL), 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)(8 * page()), (off_t)(4 * page())), 0);
	free(content);
}

static void set_up(const char *preset, struct gmem_create_opts opts)
{
	struct fakekvm_config config = *fakekvm_preset(preset);

	memory = (struct memory){ .vm_fd = fakekvm_vm(&config), .length = PAGES * page() };
	memory.vm = open_vm(memory.vm_fd);
	opts.size = sizeof(opts);
	assert_int_equal(gmem_create(memory.vm, memory.length, &memory.mem, &opts), 0);
}

/* Without cachestat() */

static void without_cachestat_a_memfd_tells_of_content_only(void **state)
{
	(void)state;
	want_small_pages();
	set_up("6.1", (struct gmem_create_opts){ .need = 0 });
	make_mixed();
	assert_run(0, 4, ALLOCATED_UNKNOWN);
	assert_run(4, 4, CONTENT);
	assert_run(8, 8, ALLOCATED_UNKNOWN);
	end_memory(&memory);
}

static void without_cachestat_a_guest_memfd_tells_of_content_only(void **state)
{
	static const int errors[] = { ENOSYS, EPERM, EOPNOTSUPP };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		set_up("6.18", (struct gmem_create_opts){ .backing = GMEM_BACKING_GUEST_MEMFD });
		make_mixed();
		fakekvm_script("cachestat", errors[i], 0, 0);
		assert_run(0, 4, ALLOCATED_UNKNOWN);
		assert_run(4, 4, CONTENT);
		assert_run(8, 8, ALLOCATED_UNKNOWN);
		end_memory(&memory);
	}
}

/* Without mincore() */

static void without_mincore_a_guest_memfd_tells_what_is_allocated_only(void **state)
{
	static const char *const calls[] = { "mincore", "mmap" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		set_up("6.18", (struct gmem_create_opts){ .backing = GMEM_BACKING_GUEST_MEMFD });
		make_mixed();
		assert_int_equal(gmem_unmap(memory.mem, 0, memory.length), 0);
		fakekvm_script(calls[i], ENOMEM, 0, 0);
		assert_run(0, 4, 0); /* what is not there has no content */
		assert_run(4, 8, ALLOCATED | INITIALISED_UNKNOWN);
		assert_run(12, 4, 0);
		end_memory(&memory);
	}
}

static void with_neither_nothing_is_known(void **state)
{
	struct gmem_run run = { .size = sizeof(run) };

	(void)state;
	set_up("6.18", (struct gmem_create_opts){ .backing = GMEM_BACKING_GUEST_MEMFD });
	make_mixed();
	fakekvm_script("mincore", EAGAIN, 0, 0);
	fakekvm_script("cachestat", EPERM, 0, 0);
	assert_int_equal(gmem_query_run(memory.mem, 0, &run), 0);
	assert_int_equal(run.state, ALL_UNKNOWN);
	assert_int_equal(run.length, memory.length);
	end_memory(&memory);
}

static void private_memory_is_not_mapped_to_look_at_it(void **state)
{
	(void)state;
	set_up("future-upstream", (struct gmem_create_opts){ .need = GMEM_NEED_PRIVATE });
	assert_int_equal(fallocate(gmem_get_fd(memory.mem, GMEM_FD_MEMORY), FALLOC_FL_KEEP_SIZE, 0, (off_t)(4 * page())), 0);
	assert_run(0, 4, ALLOCATED | INITIALISED_UNKNOWN);
	assert_run(4, 12, 0);
	assert_int_equal(fakekvm_calls("mincore"), 0);
	end_memory(&memory);
}

/* mincore() tells those who may neither write the file nor own it that everything is there. */

struct of_others {
	int fd;
	uint64_t expected[PAGES];
};

static int look_as_nobody(void *arg)
{
	struct of_others *of = arg;

	memory = (struct memory){ .vm_fd = -1, .vm = open_vm(-1), .length = PAGES * page() };
	memory.mem = imported(memory.vm, of->fd, 0, 0, 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		struct gmem_run run = { .size = sizeof(run) };

		assert_int_equal(gmem_query_run(memory.mem, i * page(), &run), 0);
		assert_int_equal(run.state, of->expected[i]);
	}
	gmem_destroy(memory.mem);
	gmem_vm_close(memory.vm);
	return 0;
}

static void expect_of_others(struct of_others *of, uint64_t content, uint64_t allocated)
{
	for (uint64_t i = 0; i < PAGES; i++)
		of->expected[i] = i >= 4 && i < 8 ? content : i >= 8 && i < 12 ? allocated : 0;
}

static void a_memfd_tells_everybody(void **state)
{
	struct of_others of;

	(void)state;
	want_small_pages();
	memory = make_memory(MEMFD, PAGES * page());
	make_mixed();
	of.fd = gmem_get_fd(memory.mem, GMEM_FD_MEMORY);
	assert_int_equal(fchmod(of.fd, 0600), 0);
	expect_of_others(&of, CONTENT, ALLOCATED);
	assert_int_equal(gt_as_user(GT_NOBODY, look_as_nobody, &of), 0);
	end_memory(&memory);
}

/* Importing touches the first page, of which no more can be said than of the others. */
static void check_guest_memfd_of_another(enum make make)
{
	struct of_others of;

	memory = make_memory(make, PAGES * page());
	make_mixed();
	of.fd = gmem_get_fd(memory.mem, GMEM_FD_MEMORY);
	expect_of_others(&of, ALLOCATED | INITIALISED_UNKNOWN, ALLOCATED | INITIALISED_UNKNOWN);
	of.expected[0] = ALLOCATED | INITIALISED_UNKNOWN;
	assert_int_equal(gt_as_user(GT_NOBODY, look_as_nobody, &of), 0);
	assert_run(4, 4, CONTENT); /* to its owner the kernel says all */
	assert_run(8, 4, ALLOCATED);
	end_memory(&memory);
}

static void a_guest_memfd_of_another_user_does_not_tell_of_content(void **state)
{
	(void)state;
	check_guest_memfd_of_another(FAKE_GUEST_MEMFD);
}

static void a_real_guest_memfd_of_another_user_does_not_either(void **state)
{
	(void)state;
	check_guest_memfd_of_another(REAL_GUEST_MEMFD);
}

/* Huge pages: the file says how many it has, and mincore() which of them are mapped here. */

static void huge_pages_are_known_if_none_or_all_are_there(void **state)
{
	unsigned char *content = pages_of_content(2 * HUGE / page(), 0);

	(void)state;
	want_huge_pages(2);
	memory = make_memory(HUGETLB, 2 * HUGE);
	assert_state(memory.mem, 0, 2 * HUGE, 0);
	assert_int_equal(gmem_populate(memory.mem, 0, 2 * HUGE, content, NULL, NULL), 0);
	assert_state(memory.mem, 0, 2 * HUGE, CONTENT);
	assert_int_equal(gmem_discard(memory.mem, 0, 2 * HUGE, NULL, NULL), 0);
	assert_state(memory.mem, 0, 2 * HUGE, 0);
	free(content);
	end_memory(&memory);
}

static void huge_pages_that_are_mapped_here_are_known(void **state)
{
	struct gmem_run run = { .size = sizeof(run) };
	void *address;

	(void)state;
	want_huge_pages(4);
	memory = make_memory(HUGETLB, 4 * HUGE);
	assert_int_equal(gmem_map(memory.mem, 0, 4 * HUGE, &address, NULL), 0);
	((volatile unsigned char *)address)[HUGE] = 1;
	assert_state(memory.mem, 0, HUGE, ALL_UNKNOWN);
	assert_int_equal(gmem_query_run(memory.mem, HUGE, &run), 0);
	assert_int_equal(run.state, CONTENT);
	assert_int_equal(run.length, HUGE);
	assert_state(memory.mem, 2 * HUGE, 2 * HUGE, ALL_UNKNOWN);
	end_memory(&memory);
}

/* Where a mapping has no page table yet, which is a matter of its address, mincore() looks into the file instead
 * (mm/mincore.c, mincore_unmapped_range()), and what it finds there is true as well. */
static void huge_pages_that_another_filled_are_never_taken_for_others(void **state)
{
	struct gmem_run run = { .size = sizeof(run) };
	int fd = memfd_of(2 * HUGE, MFD_HUGETLB | 21u << 26, F_SEAL_SHRINK);
	unsigned char *at = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned long promised;
	void *address;

	(void)state;
	assert_ptr_not_equal(at, MAP_FAILED);
	at[0] = 1;
	munmap(at, HUGE);
	memory = (struct memory){ .vm_fd = -1, .vm = open_vm(-1), .length = 2 * HUGE };
	memory.mem = imported(memory.vm, fd, 0, 0, 0);
	promised = promised_huge_pages();
	assert_state(memory.mem, 0, 2 * HUGE, ALL_UNKNOWN);
	assert_int_equal(promised_huge_pages(), promised); /* nothing was mapped to look at it */
	assert_int_equal(gmem_map(memory.mem, 0, 2 * HUGE, &address, NULL), 0);
	assert_int_equal(gmem_query_run(memory.mem, 0, &run), 0);
	assert_true(run.state == ALL_UNKNOWN || (run.state == CONTENT && run.length == HUGE));
	assert_state(memory.mem, HUGE, HUGE, ALL_UNKNOWN);
	end_memory(&memory);
	close(fd);
}

static const struct gt_test tests[] = {
	GT(without_cachestat_a_memfd_tells_of_content_only, GT_NEEDS_NOTHING),
	GT(without_cachestat_a_guest_memfd_tells_of_content_only, GT_NEEDS_NOTHING),
	GT(without_mincore_a_guest_memfd_tells_what_is_allocated_only, GT_NEEDS_CACHESTAT),
	GT(with_neither_nothing_is_known, GT_NEEDS_NOTHING),
	GT(private_memory_is_not_mapped_to_look_at_it, GT_NEEDS_CACHESTAT),
	GT(a_memfd_tells_everybody, GT_NEEDS_ORDINARY_USER | GT_NEEDS_CACHESTAT),
	GT(a_guest_memfd_of_another_user_does_not_tell_of_content, GT_NEEDS_ORDINARY_USER | GT_NEEDS_CACHESTAT),
	GT(a_real_guest_memfd_of_another_user_does_not_either, GT_NEEDS_ORDINARY_USER | GT_NEEDS_GUEST_MEMFD),
	GT(huge_pages_are_known_if_none_or_all_are_there, GT_NEEDS_HUGETLB_2M),
	GT(huge_pages_that_are_mapped_here_are_known, GT_NEEDS_HUGETLB_2M),
	GT(huge_pages_that_another_filled_are_never_taken_for_others, GT_NEEDS_HUGETLB_2M),
};

GT_MAIN("run_unknown", tests)
