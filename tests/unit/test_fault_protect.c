/* SPDX-License-Identifier: MIT */
/* Pages protected against writing: who writes waits until it is let in. */
#include "gt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "faults.h"
#include "handles.h"

static struct lazy make(uint32_t backing)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_WRITE_PROTECT };
	struct lazy lazy;

	want_feature(GMEM_FEATURE_UFFD_WP_MEMFD, "write-protection of shared memory");
	alarm(100);
	lazy = make_lazy(backing, 4);
	if (gmem_uffd_register(lazy.uffd, lazy.mem, 0, lazy.length, &opts))
		fail_msg("%s", gmem_last_error());
	return lazy;
}

static int protect(struct lazy *lazy, uint64_t first, uint64_t count, int on)
{
	uint64_t done = 77;
	int r = gmem_uffd_protect(lazy->uffd, lazy->mem, first * lazy->page, count * lazy->page, on, &done);

	assert_int_equal(done, r == 0 ? count * lazy->page : 0);
	return r;
}

/* Not through the mapping, where somebody is about to write. */
static int file_byte(const struct lazy *lazy, uint64_t offset)
{
	unsigned char byte;

	assert_int_equal(pread(gmem_get_fd(lazy->mem, GMEM_FD_MEMORY), &byte, 1, (off_t)offset), 1);
	return byte;
}

static void a_write_waits(uint32_t backing)
{
	struct lazy lazy = make(backing);
	unsigned char *data = malloc(lazy.length);
	struct toucher t;

	memset(data, 7, lazy.length);
	must_resolve(&lazy, 0, 4, GMEM_RESOLVE_DATA, data);
	assert_int_equal(protect(&lazy, 1, 2, 1), 0);
	assert_int_equal(touch(lazy.at + lazy.page), 7); /* reading goes on */
	touch_begin(&t, lazy.at, 3); /* and so does writing elsewhere */
	assert_int_equal(touch_end(&t), 3);
	no_event(lazy.uffd);
	touch_begin(&t, lazy.at + 2 * lazy.page, 9);
	expect_event(lazy.uffd, GMEM_FAULT_PROTECTED, lazy.mem, 2 * lazy.page, lazy.page);
	assert_false(atomic_load(&t.done));
	assert_int_equal(file_byte(&lazy, 2 * lazy.page), 7);
	assert_int_equal(protect(&lazy, 2, 1, 0), 0);
	assert_int_equal(touch_end(&t), 9);
	assert_int_equal(lazy.at[2 * lazy.page], 9);
	assert_int_equal(counted(lazy.uffd).protect, 1);
	assert_int_equal(counted(lazy.uffd).faults, 0);
	touch_begin(&t, lazy.at + lazy.page, 5); /* still protected */
	expect_event(lazy.uffd, GMEM_FAULT_PROTECTED, lazy.mem, lazy.page, lazy.page);
	assert_int_equal(protect(&lazy, 0, 4, 0), 0);
	assert_int_equal(touch_end(&t), 5);
	free(data);
	end_lazy(&lazy);
}

static void a_write_to_a_memfd_waits(void **state)
{
	(void)state;
	a_write_waits(GMEM_BACKING_MEMFD);
}

static void a_write_to_huge_pages_waits(void **state)
{
	(void)state;
	want_huge_pages(4);
	a_write_waits(GMEM_BACKING_HUGETLB);
}

/* A page that comes later comes with what it was asked for, and is let in. */
static void a_page_that_is_not_there_yet(void **state)
{
	struct lazy lazy = make(GMEM_BACKING_MEMFD);
	unsigned char *data = malloc(lazy.page);
	struct toucher t;

	(void)state;
	memset(data, 7, lazy.page);
	touch_begin(&t, lazy.at, 9);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 0, lazy.page);
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, data);
	assert_int_equal(touch_end(&t), 9);
	assert_int_equal(lazy.at[1], 7);
	free(data);
	end_lazy(&lazy);
}

static const struct gt_test tests[] = {
	GT(a_write_to_a_memfd_waits, GT_NEEDS_UFFD_MINOR),
	GT(a_write_to_huge_pages_waits, GT_NEEDS_UFFD_MINOR | GT_NEEDS_HUGETLB_2M),
	GT(a_page_that_is_not_there_yet, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("fault_protect", tests)
