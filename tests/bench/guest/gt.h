/* SPDX-License-Identifier: MIT */
/* The words of the tests' glue that tests/live/guest.c uses, for a program that is no test: what fails there ends the
 * measurement. */
#ifndef GT_H
#define GT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../trap.h"

#define assert_true(c) ((c) ? (void)0 : give_up("%s:%d: not so: %s", __FILE__, __LINE__, #c))
#define assert_non_null(p) assert_true((p) != NULL)
#define assert_int_equal(a, b) assert_true((unsigned long long)(a) == (unsigned long long)(b))
#define fail_msg(...) give_up(__VA_ARGS__)
#define gt_skip(...) give_up(__VA_ARGS__)

#endif
