/* SPDX-License-Identifier: MIT */
/* Floor 1, between the files of sys: what libc's results become. */
#ifndef GMEMI_SYS_INT_H
#define GMEMI_SYS_INT_H

#include <errno.h>
#include <stdint.h>
#include <sys/types.h>

#define GMEMI_LOWEST_FD 3

/* The negative errno of a call that returned -1; anything else below 0 is no answer that a kernel gives. */
static inline int64_t gmemi_outcome(int64_t result)
{
	if (result >= 0)
		return result;
	return result == -1 && errno > 0 ? -errno : -EIO;
}

/* For calls whose only good answer is 0. */
static inline int gmemi_nothing(int64_t result)
{
	result = gmemi_outcome(result);
	return result > 0 ? -EIO : (int)result;
}

/* For calls that return how much of `most` they did. */
static inline int64_t gmemi_amount(ssize_t result, size_t most)
{
	int64_t r = gmemi_outcome(result);

	return r > 0 && (uint64_t)r > most ? -EIO : r;
}

/* A new fd that may have landed among the standard ones, which other code closes and opens at will. */
int gmemi_moved_up(int64_t fd);

#endif
