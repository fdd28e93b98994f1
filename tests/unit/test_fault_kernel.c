/* SPDX-License-Identifier: MIT */
/* Every way in which the kernel's resolving calls do a part, or nothing: scripted answers, the rest by the real kernel. */
#include "gt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "fault.h"
#include "faults.h"
#include "handles.h"
#include "uapi/userfaultfd.h"
#include "wrap.h"

int __real_ioctl(int fd, unsigned long request, ...);

#define PAGES 8
#define FOR_EVER 1000000u
#define SAYS_NOTHING INT64_MAX /* the result field stays as it was: kernels before 6.15 */

/* What the next calls of one sort answer. */
static struct {
	unsigned long request;
	unsigned int after, times; /* from the after-th on, so many */
	int error;
	int64_t says;	  /* in the result field, pages or a negative errno */
	uint64_t longest; /* pages of a call that is not answered so; 0 = any */
	unsigned int calls, wakes;
	bool unread;   /* events could not be read in a call */
	bool sentinel; /* the field has always been something that no kernel says */
	uint64_t start[400], waked;
} script;

static struct lazy lazy;
static unsigned char *data;

static long answer(int fd, unsigned long request, void *argument)
{
	struct uffdi_resolve *call = argument;
	struct uffdi_copy *copy = argument;
	int64_t *field = request == UFFDI_COPY ? &copy->result : &call->result;
	uint64_t length = request == UFFDI_COPY ? copy->length : call->length;

	(void)fd;
	if (request == UFFDI_WAKE) {
		script.wakes++;
		script.waked = call->start;
	}
	if (request != script.request)
		return FAKE_NOT_MINE;
	script.start[script.calls % 400] = (call->start - (uintptr_t)lazy.at) / lazy.page;
	script.unread = script.unread && atomic_load(&lazy.uffd->events.state) == 1; /* one is inside, and it is open */
	script.sentinel = script.sentinel && (*field > INT64_MAX / 2 || *field < -4095);
	if (++script.calls <= script.after || !script.times || (script.longest && length <= script.longest * lazy.page))
		return FAKE_NOT_MINE;
	script.times--;
	if (script.says > 0 && script.says != SAYS_NOTHING) { /* that much is really done */
		struct uffdi_resolve few = { .start = call->start, .length = (uint64_t)script.says * lazy.page };
		struct uffdi_copy some = { .to = few.start, .length = few.length };

		some.from = request == UFFDI_COPY ? copy->from : 0;
		assert_int_equal(__real_ioctl(fd, request, request == UFFDI_COPY ? (void *)&some : (void *)&few), 0);
		*field = (int64_t)few.length;
	} else if (script.says != SAYS_NOTHING) {
		*field = script.says;
	}
	return -script.error;
}

static void begin(enum gmem_strategy strategy, int error, int64_t says, unsigned int after, unsigned int times)
{
	alarm(60);
	wrap_ioctl_script = NULL; /* of a test that failed */
	lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, strategy);
	data = malloc(lazy.length);
	for (uint64_t i = 0; i < PAGES; i++)
		memset(data + i * lazy.page, (int)i + 1, lazy.page);
	memset(&script, 0, sizeof(script));
	script.request = strategy == GMEM_STRATEGY_COPY ? UFFDI_COPY : UFFDI_CONTINUE;
	script.error = error;
	script.says = says;
	script.after = after;
	script.times = times;
	script.sentinel = true;
	script.unread = true;
	wrap_ioctl_script = answer;
}

/* In the end everything can be done, and is right. */
static void end(void)
{
	wrap_ioctl_script = NULL;
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_bytes(lazy.at + i * lazy.page, (int)i + 1, lazy.page);
	assert_true(script.sentinel);
	assert_true(script.unread); /* else a page that is given up in between would be mapped after madvise() has returned */
	no_event(lazy.uffd);
	free(data);
	end_lazy(&lazy);
	alarm(0);
}

static void each_strategy(void (*test)(enum gmem_strategy strategy))
{
	test(GMEM_STRATEGY_FILL);
	want_small_pages();
	test(GMEM_STRATEGY_COPY);
}

static void a_part(enum gmem_strategy strategy)
{
	begin(strategy, EAGAIN, 3, 0, 1);
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	assert_int_equal(script.calls, 2);
	assert_int_equal(script.start[1], 3);
	assert_int_equal(counted(lazy.uffd).retries, 0);
	assert_map(lazy.mem, "FFFFFFFF");
	end();
}

static void goes_on_behind_what_is_done(void **state)
{
	(void)state;
	each_strategy(a_part);
}

/* For a moment: it is tried again, not at once given up. */
static void a_moment(enum gmem_strategy strategy)
{
	begin(strategy, EAGAIN, -EAGAIN, 0, 5);
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	assert_true(counted(lazy.uffd).retries >= 5);
	end();
}

static void tries_again_for_a_moment(void **state)
{
	(void)state;
	each_strategy(a_moment);
}

/* It cannot wait for what its caller has to read. */
static void for_ever(enum gmem_strategy strategy)
{
	static const int64_t says[] = { -EAGAIN, 0, SAYS_NOTHING };

	for (size_t i = 0; i < 3; i++) {
		uint64_t done = 77;

		begin(strategy, EAGAIN, says[i], 0, FOR_EVER);
		assert_int_equal(gmem_uffd_resolve(lazy.uffd, lazy.mem, 0, lazy.length, GMEM_RESOLVE_DATA, data, &done), -EAGAIN);
		assert_int_equal(done, 0);
		assert_in_range(script.calls, 2, 1000);
		if (strategy == GMEM_STRATEGY_COPY)
			assert_map(lazy.mem, "EEEEEEEE"); /* nothing was made */
		end();
	}
}

static void gives_up_for_events_to_be_read(void **state)
{
	(void)state;
	each_strategy(for_ever);
}

/* Page 4 is there, which the call finds when it comes there. */
static void there(enum gmem_strategy strategy)
{
	begin(strategy, EEXIST, SAYS_NOTHING, 0, 0);
	assert_int_equal(gmem_populate(lazy.mem, 4 * lazy.page, lazy.page, data + 4 * lazy.page, NULL, NULL), 0);
	must_resolve(&lazy, 4, 1, GMEM_RESOLVE_PRESENT, NULL);
	script.wakes = 0;
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	assert_true(script.wakes > 0);
	assert_ptr_equal((void *)(uintptr_t)script.waked, lazy.at + 4 * lazy.page);
	assert_map(lazy.mem, "FFFFFFFF");
	end();
}

static void wakes_those_at_a_page_that_is_there(void **state)
{
	(void)state;
	there(GMEM_STRATEGY_FILL);
}

/* The kernel knows of two ranges where there seems to be one. */
static void a_border(enum gmem_strategy strategy)
{
	begin(strategy, ENOENT, SAYS_NOTHING, 0, FOR_EVER);
	script.longest = 3;
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	assert_map(lazy.mem, "FFFFFFFF");
	assert_in_range(script.calls, 3, 12);
	end();
}

static void shorter_at_a_border(void **state)
{
	(void)state;
	each_strategy(a_border);
}

/* What is not mapped any more is dropped; a copy that was not made is not called content. */
static void gone(enum gmem_strategy strategy)
{
	begin(strategy, ENOENT, SAYS_NOTHING, 0, FOR_EVER);
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	assert_map(lazy.mem, strategy == GMEM_STRATEGY_COPY ? "EEEEEEEE" : "FFFFFFFF");
	assert_int_equal(counted(lazy.uffd).filled, strategy == GMEM_STRATEGY_COPY ? 0 : PAGES);
	end();
}

static void drops_what_is_gone(void **state)
{
	(void)state;
	each_strategy(gone);
}

static void owner_ends(enum gmem_strategy strategy)
{
	uint64_t done = 77;

	begin(strategy, ESRCH, SAYS_NOTHING, 0, FOR_EVER);
	assert_int_equal(gmem_uffd_resolve(lazy.uffd, lazy.mem, 0, lazy.length, GMEM_RESOLVE_DATA, data, &done), -ESRCH);
	assert_int_equal(done, 0);
	assert_int_equal(script.calls, 1);
	assert_true(counted(lazy.uffd).flags & GMEM_UFFD_OWNER_GONE);
	end();
}

static void ends_with_its_owner(void **state)
{
	(void)state;
	each_strategy(owner_ends);
}

/* Somebody frees the page again and again: bounded, and told. */
static void never_there(void **state)
{
	(void)state;
	begin(GMEM_STRATEGY_FILL, EFAULT, SAYS_NOTHING, 0, FOR_EVER);
	assert_int_equal(resolve_pages(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data), -EFAULT);
	assert_in_range(script.calls, 2, 20);
	end();
	begin(GMEM_STRATEGY_FILL, EFAULT, SAYS_NOTHING, 0, 2);
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	end();
}

/* Codes that mean nothing here pass. */
static void other(enum gmem_strategy strategy)
{
	static const int codes[] = { ENOMEM, EINVAL, EIO };

	for (size_t i = 0; i < 3; i++) {
		begin(strategy, codes[i], -codes[i], 1, 1);
		assert_int_equal(resolve_pages(&lazy, 0, 2, GMEM_RESOLVE_DATA, data), 0);
		assert_int_equal(resolve_pages(&lazy, 2, 3, GMEM_RESOLVE_DATA, data + 2 * lazy.page), -codes[i]);
		assert_non_null(strstr(gmem_last_error(), strategy == GMEM_STRATEGY_COPY ? "UFFDIO_COPY" : "UFFDIO_CONTINUE"));
		end();
	}
}

static void tells_of_other_codes(void **state)
{
	(void)state;
	each_strategy(other);
}

static const struct gt_test tests[] = {
	GT(goes_on_behind_what_is_done, GT_NEEDS_UFFD_MINOR),
	GT(tries_again_for_a_moment, GT_NEEDS_UFFD_MINOR),
	GT(gives_up_for_events_to_be_read, GT_NEEDS_UFFD_MINOR),
	GT(wakes_those_at_a_page_that_is_there, GT_NEEDS_UFFD_MINOR),
	GT(shorter_at_a_border, GT_NEEDS_UFFD_MINOR),
	GT(drops_what_is_gone, GT_NEEDS_UFFD_MINOR),
	GT(ends_with_its_owner, GT_NEEDS_UFFD_MINOR),
	GT(never_there, GT_NEEDS_UFFD_MINOR),
	GT(tells_of_other_codes, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("fault_kernel", tests)
