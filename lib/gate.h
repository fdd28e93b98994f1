/* SPDX-License-Identifier: MIT */
/* Floor 1: what is held for so short a time that a look or two is cheaper than going to sleep: a gate that many pass together and
 * one keeps closed, and mutexes of that kind. */
#ifndef GMEMI_GATE_H
#define GMEMI_GATE_H

#include <pthread.h>
#include <stdint.h>

struct gmemi_gate {
	_Atomic uint32_t state; /* who are inside, and marks */
};

void gmemi_gate_begin(struct gmemi_gate *gate);

/* Waits while it is closed: who closes it comes before those who come to enter. */
void gmemi_gate_enter(struct gmemi_gate *gate);
void gmemi_gate_leave(struct gmemi_gate *gate);
/* One at a time; waits until all have left. What they did is seen, and what is done until it is opened is seen by who enters. */
void gmemi_gate_close(struct gmemi_gate *gate);
void gmemi_gate_open(struct gmemi_gate *gate);

/* pthread_mutex_init(), of one that several threads take for a moment at a time. */
void gmemi_gate_begin_mutex(pthread_mutex_t *mutex);

#endif
