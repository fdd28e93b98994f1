/* SPDX-License-Identifier: MIT */
/* Error messages and the clock. */
#ifndef SAY_H
#define SAY_H

#include <stdint.h>

/* Prints "microvm: " and a line to stderr. Returns -1, so that a caller can fail in one statement. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a call of libgmem that just failed: "cannot WHAT: " and the library's own sentence. */
int fail_gmem(const char *what);

/* Nanoseconds of the monotonic clock. */
uint64_t now_ns(void);

#endif
