/* SPDX-License-Identifier: MIT */
/* What the test_inject programs share: the counting, and what a failure may be excused with. */
#ifndef UNIT_POINTS_H
#define UNIT_POINTS_H

#include <stdbool.h>

#include <gmem/vm.h>

/* inject_each(). Returns, and prints, how many failure points this program went through so far. */
unsigned long each(int (*body)(void *arg), void *arg);
/* The failure point that is the k-th call by this name (as inject_where() says it) in what body does: for inject_arm(). Runs
 * body often, with failures; it sets up and tears down in pauses. 0 = there are not so many. */
unsigned long point_of(void (*body)(void *arg), void *arg, const char *call, unsigned int k);
/* A shortage, or a signal: it passes, so nothing may be remembered of it. */
bool was_transient(void);
/* Every row of gmem_vm_explain(), one of which may be chosen. Returns 0, or what the call failed with. */
int explain_rows(struct gmem_vm *vm, enum gmem_task task);

#endif
