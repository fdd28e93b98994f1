/* SPDX-License-Identifier: MIT */
#include "gate.h"

#include "sys.h"

#define CLOSED (UINT32_C(1) << 31)
#define ASLEEP (UINT32_C(1) << 30) /* somebody is, on the state */
#define INSIDE (ASLEEP - 1)
#define LOOKS_AT_LOCK 100
#define LOOKS 400 /* before going to sleep: some microseconds, as long as a call of the kernel for one page takes */

void gmemi_gate_begin(struct gmemi_gate *gate)
{
	atomic_init(&gate->state, 0);
}

static void pause_for_a_moment(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Until none of the bits is set any more: awake at first, then asleep. */
static void wait_until_clear(struct gmemi_gate *gate, uint32_t bits)
{
	uint32_t state = atomic_load_explicit(&gate->state, memory_order_acquire);

	for (int i = 0; state & bits && i < LOOKS; i++) {
		pause_for_a_moment();
		state = atomic_load_explicit(&gate->state, memory_order_acquire);
	}
	while (state & bits) {
		if (state & ASLEEP || atomic_compare_exchange_weak(&gate->state, &state, state | ASLEEP))
			(void)gmemi_sys_wait(&gate->state, state | ASLEEP,
					     UINT64_MAX); /* whatever it says: it is looked again */
		state = atomic_load_explicit(&gate->state, memory_order_acquire);
	}
}

/* Those who sleep look again, and say anew that they do. */
static void wake(struct gmemi_gate *gate)
{
	atomic_fetch_and_explicit(&gate->state, ~ASLEEP, memory_order_relaxed);
	gmemi_sys_wake(&gate->state);
}

/* Adds this to the state once it is not closed. */
static void pass_to(struct gmemi_gate *gate, uint32_t what)
{
	uint32_t state = atomic_load_explicit(&gate->state, memory_order_relaxed);

	for (;;) {
		if (state & CLOSED) {
			wait_until_clear(gate, CLOSED);
			state = atomic_load_explicit(&gate->state, memory_order_relaxed);
		} else if (atomic_compare_exchange_weak_explicit(&gate->state, &state, state + what, memory_order_acquire,
								 memory_order_relaxed)) {
			return;
		}
	}
}

void gmemi_gate_enter(struct gmemi_gate *gate)
{
	pass_to(gate, 1);
}

void gmemi_gate_leave(struct gmemi_gate *gate)
{
	uint32_t before = atomic_fetch_sub_explicit(&gate->state, 1, memory_order_release);

	if (before & ASLEEP && (before & INSIDE) == 1)
		wake(gate);
}

void gmemi_gate_close(struct gmemi_gate *gate)
{
	pass_to(gate, CLOSED);
	wait_until_clear(gate, INSIDE);
}

void gmemi_gate_open(struct gmemi_gate *gate)
{
	uint32_t before = atomic_fetch_and_explicit(&gate->state, ~CLOSED, memory_order_release);

	if (before & ASLEEP)
		wake(gate);
}

/* A lock is held for less than a call of the kernel. */
void gmemi_lock_wait(struct gmemi_lock *lock)
{
	for (int i = 0; i < LOOKS_AT_LOCK; i++) {
		if (atomic_load_explicit(&lock->state, memory_order_relaxed) == 0 && gmemi_lock_try(lock))
			return;
		pause_for_a_moment();
	}
	while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0)
		(void)gmemi_sys_wait(&lock->state, 2, UINT64_MAX); /* whatever it says: it is looked again */
}

void gmemi_lock_wake(struct gmemi_lock *lock)
{
	gmemi_sys_wake(&lock->state);
}
