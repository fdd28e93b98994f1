/* SPDX-License-Identifier: MIT */
/* Floor 1: what is held for so short a time that a look or two is cheaper than going to sleep: a gate that many pass together and
 * one keeps closed, and mutexes of that kind. */
#ifndef GMEMI_GATE_H
#define GMEMI_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
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

/* A mutex. Where nobody else wants it, which is most often, taking and leaving it is an instruction each, without a call: the C
 * library's would be a tenth of what is done for a page fault. */
struct gmemi_lock {
	_Atomic uint32_t state; /* 0 = free, 1 = taken, 2 = taken, and somebody may sleep */
};

void gmemi_lock_wait(struct gmemi_lock *lock);
void gmemi_lock_wake(struct gmemi_lock *lock);

static inline void gmemi_lock_begin(struct gmemi_lock *lock)
{
	atomic_init(&lock->state, 0);
}

static inline bool gmemi_lock_try(struct gmemi_lock *lock)
{
	uint32_t free = 0;

	return atomic_compare_exchange_strong_explicit(&lock->state, &free, 1, memory_order_acquire, memory_order_relaxed);
}

static inline void gmemi_lock(struct gmemi_lock *lock)
{
	if (!gmemi_lock_try(lock))
		gmemi_lock_wait(lock);
}

static inline void gmemi_unlock(struct gmemi_lock *lock)
{
	if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2)
		gmemi_lock_wake(lock); /* the address alone: it may be freed by now */
}

#endif
