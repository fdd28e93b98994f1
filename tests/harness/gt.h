/* SPDX-License-Identifier: MIT */
/* The glue between a test program and cmocka: needs as data, skips with a reason, leak checks, children.
 *
 * A program is a table of tests and GT_MAIN("group", table). It speaks the protocol of tests/run on stdout, one line each:
 *
 *     # PLAN 12                    how many results will follow
 *     # RUN name                   a test begins
 *     # PASS name                  ... and ends in one of three ways
 *     # FAIL name
 *     # SKIP name: reason
 *     # POINTS 37                  failure points that inject_each() went through
 *
 * Any other program, in any language, may speak it too. cmocka's own words are for people.
 *
 * Nothing here calls the library under test. Without the wrapped calls of inject.h (a program linked against the shared
 * library) everything works but the check of allocations and anonymous mappings. */
#ifndef GT_H
#define GT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* What a test needs of the machine. Each has a raw probe in gt_needs.c. */
#define GT_NEEDS_NOTHING 0u
#define GT_NEEDS_KVM (1u << 0)           /* /dev/kvm makes a VM of type 0 */
#define GT_NEEDS_VCPU (1u << 1)          /* ... with a vCPU */
#define GT_NEEDS_GUEST_MEMFD (1u << 2)   /* ... and a guest_memfd with MMAP|INIT_SHARED that can be mapped */
#define GT_NEEDS_UFFD (1u << 3)          /* a userfaultfd that hears of faults taken by the kernel */
#define GT_NEEDS_UFFD_MINOR (1u << 4)    /* ... with minor faults on memfds */
#define GT_NEEDS_HUGETLB_2M (1u << 5)    /* one free 2 MiB page */
#define GT_NEEDS_ROOT (1u << 6)          /* effective uid 0 */
#define GT_NEEDS_ORDINARY_USER (1u << 7) /* gt_as_user(GT_NOBODY) works */
#define GT_NEEDS_CACHESTAT (1u << 8)     /* cachestat(): kernel 6.5 */

#define GT_NOBODY 65534u

struct gt_test {
	const char *name;
	void (*fn)(void **state); /* as cmocka's; *state is NULL and the test's own */
	unsigned int needs;
};

/* One row of the table. */
#define GT(fn, needs) { #fn, fn, needs }

#define GT_MAIN(group, tests)                                                     \
	int main(int argc, char **argv)                                           \
	{                                                                         \
		gt_set_filter(argc > 1 ? argv[1] : NULL);                         \
		return gt_main(group, tests, sizeof(tests) / sizeof((tests)[0])); \
	}

/* GMEM_TEST_BACKING=guest_memfd: what tests of paging do on a memfd they do on a guest_memfd of a VM. */
bool gt_over_guest_memfd(void);
/* A VM of type 0; the caller closes it. */
int gt_make_vm(void);

/* Only tests whose name contains this will run; NULL = all. */
void gt_set_filter(const char *part);
/* Runs the table as one cmocka group. Every test has its needs probed first, and must leave fds, mappings and allocations as it
 * found them. Returns the exit status. */
int gt_main(const char *group, const struct gt_test *tests, size_t count);

/* Ends the running test as skipped. Not in a child. */
__attribute__((noreturn, format(printf, 1, 2))) void gt_skip(const char *format, ...);
/* What is missing for these needs, in words that hold until the next call; NULL = nothing. */
const char *gt_missing(unsigned int needs);
/* Skips unless the needs are met: for a need that only part of a test has. */
void gt_require(unsigned int needs);

/* The open fds, the mappings of files that are not files (memfd, guest_memfd, ...), and the allocations of the program. */
struct gt_snapshot;
struct gt_snapshot *gt_snapshot(void);
/* Lists what is more, or less, than before on stdout and returns how much that is. Frees the snapshot. */
size_t gt_leaks(struct gt_snapshot *before);
/* The same as an assertion. */
void gt_assert_nothing_leaked(struct gt_snapshot *before);

/* Runs fn in a forked child. A failed assertion or a fatal signal there prints and ends the child with GT_CHILD_FAILED.
 * Returns what fn returned (0 to 255) or 128 + the signal that killed the child. */
#define GT_CHILD_FAILED 99
int gt_in_child(int (*fn)(void *arg), void *arg);
/* The same without privilege: groups dropped, gid and uid changed for good. Needs GT_NEEDS_ORDINARY_USER. */
int gt_as_user(unsigned int uid, int (*fn)(void *arg), void *arg);
/* gt_in_child() with stdout and stderr of the child collected: *text is free()d by the caller. */
int gt_child_output(int (*fn)(void *arg), void *arg, char **text);

#endif
