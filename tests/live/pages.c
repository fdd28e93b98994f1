/* SPDX-License-Identifier: MIT */
#include "pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gt.h"
#include "promise.h"

#define CACHESTAT 451 /* newer than the headers; the same number everywhere */

int64_t pages_cached(int fd, uint64_t offset, uint64_t length)
{
	uint64_t range[2] = { offset, length }, found[5];

	return syscall(CACHESTAT, fd, range, found, 0) ? -errno : (int64_t)found[0];
}

void pages_resident(int fd, size_t pages, unsigned char *vector)
{
	size_t size = pages * promise_page();
	unsigned char *at = promise_map(fd, size);

	assert_int_equal(mincore(at, size, vector), 0);
	munmap(at, size);
}

void pages_ask(int fd, size_t pages, enum page *answer)
{
	unsigned char vector[4096];

	assert_true(pages <= sizeof(vector));
	pages_resident(fd, pages, vector);
	for (size_t i = 0; i < pages; i++) {
		int64_t cached = pages_cached(fd, i * promise_page(), promise_page());

		if (cached == -ENOSYS)
			gt_skip("no cachestat() before kernel 6.5");
		assert_true(cached >= 0);
		answer[i] = cached == 0 ? PAGE_ABSENT : PAGE_ALLOCATED;
		if (vector[i] & 1)
			answer[i] = PAGE_INITIALISED;
	}
}

const char *page_name(enum page page)
{
	static const char *const names[] = { "absent", "allocated", "initialised" };

	return names[page];
}
