/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <gmem.h>

#include "say.h"

int fail(const char *format, ...)
{
	va_list arguments;

	fflush(stdout); /* keeps the order where both streams go to one place; a failure shows at the end */
	fputs("microvm: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	return -1;
}

int fail_gmem(const char *what)
{
	return fail("cannot %s: %s", what, gmem_last_error());
}

uint64_t now_ns(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now))
		return 0; /* only for a clock that does not exist */
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
