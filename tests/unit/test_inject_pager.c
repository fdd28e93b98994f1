/* SPDX-License-Identifier: MIT */
/* Pagers with every system call and allocation failing in turn: what is said to be there is right, and nobody waits for ever. */
#include "gt.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handles.h"
#include "inject.h"
#include "memories.h"
#include "pagers.h"
#include "points.h"
#include "wrap.h" /* inject_describe() */

#define PAGES 24
#define LENGTH (PAGES * page())

static struct paged paged;
static unsigned char *content;
static int file;
static struct gmem_source *source;
static struct gmem_pager *pager;
static pthread_t thread;
static atomic_int result; /* of whoever touches: 1 = waits, 0 = right, -1 = wrong */

static void set_up(uint32_t strategy)
{
	struct gmem_extent extent = { .length = LENGTH };

	inject_pause();
	content = pages_of_content(PAGES, 5);
	file = file_of(content, LENGTH);
	extent.fd = file;
	paged = page_memory(GMEM_BACKING_MEMFD, LENGTH, strategy);
	assert_int_equal(gmem_source_create_file(&extent, 1, &source), 0);
	pager = NULL;
	atomic_store(&result, 1);
	inject_resume();
}

static void tear_down(void)
{
	inject_pause();
	gmem_source_destroy(source);
	end_paged(&paged);
	close(file);
	free(content);
	inject_resume();
}

static void *look_at_all(void *arg)
{
	(void)arg;
	inject_exempt_thread(true);
	atomic_store(&result, memcmp(paged.at, content, LENGTH) ? -1 : 0);
	return NULL;
}

static void begin_looking(void)
{
	inject_pause();
	assert_int_equal(pthread_create(&thread, NULL, look_at_all, NULL), 0);
	inject_resume();
}

/* A kernel that says that the file has no page there is believed: those are zeros. */
static bool file_was_denied(void)
{
	return strstr(inject_describe(), "ioctl(0xc020aa07) with Bad address");
}

static void end_looking(void)
{
	WAIT_FOR(atomic_load(&result) != 1);
	pthread_join(thread, NULL);
	assert_true(atomic_load(&result) == 0 || file_was_denied());
}

static int make(void)
{
	struct gmem_pager_add_opts opts = { .size = sizeof(opts), .ahead = 8 * page() };
	int r = gmem_pager_create(&pager, NULL);

	if (r == 0)
		r = gmem_pager_add(pager, paged.uffd, source, &opts);
	return r;
}

/* Whoever touches sees the content, whatever fails while he is served. */
static void serve_by_turns(void)
{
	struct pollfd fd = { .fd = gmem_pager_get_fd(pager), .events = POLLIN };

	begin_looking();
	while (atomic_load(&result) == 1) {
		int r;

		if (poll(&fd, 1, 20) < 0)
			fail_msg("poll() fails");
		r = gmem_pager_run(pager, 0);
		assert_true(r >= 0 || r == -EINTR || inject_fired());
	}
	end_looking();
}

static int by_turns(uint32_t strategy)
{
	uint64_t pending = 77;
	int r;

	set_up(strategy);
	r = make();
	if (r == 0) {
		serve_by_turns();
		assert_int_equal(gmem_pager_stop(pager, &pending), 0);
		assert_int_equal(gmem_pager_remove(pager, paged.uffd, NULL), 0);
	}
	gmem_pager_destroy(pager);
	tear_down();
	return r;
}

static int filled_by_turns(void *arg)
{
	(void)arg;
	return by_turns(GMEM_STRATEGY_FILL);
}

static int copied_by_turns(void *arg)
{
	(void)arg;
	return by_turns(GMEM_STRATEGY_COPY);
}

static void pages_are_filled_by_turns(void **state)
{
	(void)state;
	each(filled_by_turns, NULL);
}

static void pages_are_copied_by_turns(void **state)
{
	(void)state;
	each(copied_by_turns, NULL);
}

/* With a thread of its own, to the end. */
static int to_the_end(void *arg)
{
	int r;

	(void)arg;
	set_up(GMEM_STRATEGY_FILL);
	r = make();
	if (r == 0)
		r = gmem_pager_start(pager);
	if (r == 0) {
		begin_looking();
		end_looking();
		r = gmem_pager_finish(pager, paged.uffd, GMEM_FOREVER);
		assert_true(r == 0 || inject_fired());
		assert_true(memcmp(paged.at, content, LENGTH) == 0 || file_was_denied());
	}
	gmem_pager_destroy(pager);
	tear_down();
	return r;
}

static void by_its_own_thread_to_the_end(void **state)
{
	(void)state;
	each(to_the_end, NULL);
}

/* The background, which nobody waits for. */
static int finish_alone(void *arg)
{
	int r;

	(void)arg;
	set_up(GMEM_STRATEGY_FILL);
	r = make();
	if (r == 0)
		r = gmem_pager_start(pager);
	if (r == 0)
		r = gmem_pager_finish(pager, paged.uffd, GMEM_FOREVER);
	if (r == 0) {
		inject_pause();
		assert_true(memcmp(paged.at, content, LENGTH) == 0 || file_was_denied());
		inject_resume();
	}
	gmem_pager_destroy(pager);
	tear_down();
	return r;
}

static void the_rest_is_filled(void **state)
{
	(void)state;
	each(finish_alone, NULL);
}

static const struct gt_test tests[] = {
	GT(pages_are_filled_by_turns, NEEDS_PAGING),
	GT(pages_are_copied_by_turns, NEEDS_PAGING),
	GT(by_its_own_thread_to_the_end, NEEDS_PAGING),
	GT(the_rest_is_filled, NEEDS_PAGING),
};

GT_MAIN("inject_pager", tests)
