/* SPDX-License-Identifier: MIT */
/* Floor 1: what is held for so short a time that a look or two is cheaper than going to sleep: a gate that many pass together and
 * one keeps closed, and mutexes of that kind. */
#ifndef GMEMI_GATE_H
#define GMEMI_GATE_H

#include <pthread.h>
#include <stdint.h>

struct gmemi_gate {
	_Atomic uint32_t state;  /* who are inside, and marks */
	pthread_mutex_t closing; /* one at a time */
};

void gmemi_gate_begin(struct gmemi_gate *gate);
void gmemi_gate_end(struct gmemi_gate *gate);

/* Waits while it is closed: whoever closes it comes first, however many enter. */
void gmemi_gate_enter(struct gmemi_gate *gate);
void gmemi_gate_leave(struct gmemi_gate *gate);
/* Waits until all have left. What they did is seen, and what is done until it is opened is seen by who enters. */
void gmemi_gate_close(struct gmemi_gate *gate);
void gmemi_gate_open(struct gmemi_gate *gate);

/* pthread_mutex_init(), of one that several threads take for a moment at a time. */
void gmemi_gate_begin_mutex(pthread_mutex_t *mutex);

#endif
