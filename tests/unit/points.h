/* SPDX-License-Identifier: MIT */
/* What the test_inject programs share: the counting, and what a failure may be excused with. */
#ifndef UNIT_POINTS_H
#define UNIT_POINTS_H

#include <stdbool.h>

#include <gmem/vm.h>

/* inject_each(). Returns, and prints, how many failure points this program went through so far. */
unsigned long each(int (*body)(void *arg), void *arg);
/* A shortage, or a signal: it passes, so nothing may be remembered of it. */
bool was_transient(void);
/* Every row of gmem_vm_explain(), one of which may be chosen. Returns 0, or what the call failed with. */
int explain_rows(struct gmem_vm *vm, enum gmem_task task);

#endif
