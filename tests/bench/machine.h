/* SPDX-License-Identifier: MIT */
/* What has to be done to the machine, or known of it, so that figures mean something. */
#ifndef MACHINE_H
#define MACHINE_H

#include <sched.h>
#include <stddef.h>

/* To one core: figures of one thread do not depend on where the scheduler puts it. Undone by machine_unpin(). */
void machine_pin(void);
void machine_unpin(void);
/* The core of machine_pin(), and another one that the process may use, if there is one: 1 or 2. */
unsigned int machine_cores(int cores[2]);
/* All cores that the process may use. */
void machine_allowed(cpu_set_t *cores);

/* Touches that much memory and lets it go: what comes next gets pages that are there, also in a virtual machine whose host
 * takes free pages away. */
void machine_prime(size_t bytes);

/* Why two threads cannot run at the same time, or NULL. For an unpinned process; finds out by trying. */
const char *machine_no_second_core(void);

/* Bytes that are this process's alone. */
struct machine_private {
	size_t pages; /* private pages that are there */
	size_t heap;  /* what malloc() has given out */
};
struct machine_private machine_private(void);
/* How much more it is now, in the one or the other. */
size_t machine_private_growth(const struct machine_private *before);

double machine_load(void); /* average of a minute */

#endif
