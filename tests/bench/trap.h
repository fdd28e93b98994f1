/* SPDX-License-Identifier: MIT */
/* A way out of the middle of a measurement that cannot go on: it ends that measurement, not the program. */
#ifndef TRAP_H
#define TRAP_H

#include <stdbool.h>
#include <stddef.h>

__attribute__((noreturn, format(printf, 1, 2))) void give_up(const char *format, ...);
/* The outcome of a call of the library, or of one that sets errno and returns -1. */
void must(int result, const char *call);
void must_errno(long result, const char *call);

/* Runs fn. False: it gave up, and `reason` says why. Does not nest. */
bool trap_run(void (*fn)(void *), void *argument, char *reason, size_t room);

/* In a child: what gives up ends the process. */
void trap_in_child(void);

#endif
