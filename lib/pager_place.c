/* SPDX-License-Identifier: MIT */
/* Threads of the pager: their buffers, how many there are, and on which CPU. */
#include "pager.h"

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "sys.h"

#define SMALLEST_ROOM (UINT64_C(64) << 10)
#define ALIGNMENT 4096
#define MOST_THREADS 1024
#define LOOK_EVERY 64 /* faults */
#define LOOKS_AT_FIRST 2

int gmemi_seat_room(struct gmemi_seat *seat, uint64_t room)
{
	void *memory;

	if (room <= seat->room)
		return 0;
	room = room > SMALLEST_ROOM ? room : SMALLEST_ROOM;
	memory = gmemi_alloc(1, (size_t)room + ALIGNMENT);
	if (!memory)
		return -ENOMEM;
	gmemi_free(seat->memory);
	seat->memory = memory;
	seat->buffer = (unsigned char *)gmemi_round_down((uintptr_t)memory + ALIGNMENT - 1, ALIGNMENT);
	seat->room = room;
	return 0;
}

void gmemi_seat_free(struct gmemi_seat *seat)
{
	gmemi_sys_close(seat->epoll);
	gmemi_free(seat->memory);
	gmemi_free(seat);
}

static struct gmemi_seat *new_seat(struct gmem_pager *pager)
{
	struct gmemi_seat *seat = gmemi_alloc(1, sizeof(*seat));

	if (!seat)
		return NULL;
	seat->pager = pager;
	seat->epoll = -1;
	if (gmemi_seat_room(seat, SMALLEST_ROOM) == 0)
		return seat;
	gmemi_seat_free(seat);
	return NULL;
}

/* For a lent thread: one that another has left, or a new one. */
struct gmemi_seat *gmemi_seat_take(struct gmem_pager *pager)
{
	struct gmemi_seat *seat;

	pthread_mutex_lock(&pager->lock);
	seat = pager->seats;
	if (seat)
		pager->seats = seat->next;
	pthread_mutex_unlock(&pager->lock);
	return seat ? seat : new_seat(pager);
}

void gmemi_seat_give(struct gmemi_seat *seat)
{
	struct gmem_pager *pager = seat->pager;

	pthread_mutex_lock(&pager->lock);
	seat->next = pager->seats;
	pager->seats = seat;
	pthread_mutex_unlock(&pager->lock);
}

/* --- own threads -------------------------------------------------------------------------------------------------------- */

static void *serve(void *argument)
{
	struct gmemi_seat *seat = argument;
	struct gmem_pager *pager = seat->pager;
	const char *previous = gmemi_enter("gmem-pager");

	gmemi_sys_begin_thread("gmem-pager");
	if (gmemi_sys_set_affinity(pager->cpus ? pager->cpus : pager->home, pager->cpus ? pager->cpu_words : GMEMI_CPU_WORDS) <
	    0)
		gmemi_note(GMEM_LOG_WARNING, "gmem-pager: a thread cannot be bound to its CPUs");
	while (gmemi_pager_turn(seat, UINT64_MAX) != -ESHUTDOWN)
		;
	gmemi_leave(&previous);
	gmemi_pager_go(pager);
	return NULL;
}

int gmemi_seat_start(struct gmem_pager *pager)
{
	struct gmemi_seat *seat = new_seat(pager);
	int r;

	if (!seat)
		return -ENOMEM;
	seat->own = true;
	gmemi_wait_apart(seat);
	gmemi_pager_come_in(pager);
	r = gmemi_sys_thread(&seat->thread, serve, seat);
	if (r < 0) {
		gmemi_pager_go(pager);
		gmemi_seat_free(seat);
		return gmemi_failed(r, "making a thread", NULL);
	}
	seat->next = pager->own_seats;
	pager->own_seats = seat;
	pager->own_threads++;
	return 0;
}

/* One source that is slow must not hold up the others: as long as threads wait in sources, another one is there for events. */
static bool lacks_thread(const struct gmem_pager *pager)
{
	uint64_t most = (uint64_t)pager->threads * (pager->table_count + 1);

	return pager->started && pager->own_threads <= pager->blocked && pager->own_threads < most &&
	       pager->own_threads < MOST_THREADS && !atomic_load(&pager->stopping);
}

void gmemi_seat_blocks(struct gmemi_seat *seat)
{
	struct gmem_pager *pager = seat->pager;

	if (!seat->own)
		return;
	pthread_mutex_lock(&pager->lock);
	pager->blocked++;
	if (lacks_thread(pager) && gmemi_seat_start(pager) < 0)
		gmemi_tolerated(); /* then the others wait */
	pthread_mutex_unlock(&pager->lock);
}

void gmemi_seat_unblocks(struct gmemi_seat *seat)
{
	if (!seat->own)
		return;
	pthread_mutex_lock(&seat->pager->lock);
	seat->pager->blocked--;
	pthread_mutex_unlock(&seat->pager->lock);
}

/* --- CPUs --------------------------------------------------------------------------------------------------------------- */

/* The one CPU that a thread is bound to, + 1; 0 = it is not, or cannot be asked. */
static uint64_t only_cpu(uint32_t thread)
{
	uint64_t words[GMEMI_CPU_WORDS], cpu = 0;

	if (gmemi_sys_affinity(thread, words, GMEMI_CPU_WORDS) < 0)
		return 0;
	for (uint64_t i = 0; i < GMEMI_CPU_WORDS; i++) {
		if (!words[i])
			continue;
		if (cpu || words[i] & (words[i] - 1))
			return 0;
		cpu = i * 64 + (uint64_t)__builtin_ctzll(words[i]) + 1;
	}
	return cpu;
}

/* By another thread, which is there for the faults from that CPU. */
static bool is_taken(const struct gmemi_seat *seat, uint64_t cpu)
{
	bool taken = false;

	if (!cpu)
		return false;
	pthread_mutex_lock(&seat->pager->lock);
	for (const struct gmemi_seat *other = seat->pager->own_seats; other; other = other->next)
		taken = taken || (other != seat && atomic_load(&other->placed_on) == cpu);
	pthread_mutex_unlock(&seat->pager->lock);
	return taken;
}

/* Followed when it was the same twice: faults of several threads would drag it to and fro. */
static void follow(struct gmemi_seat *seat, uint64_t cpu)
{
	uint64_t words[GMEMI_CPU_WORDS] = { 0 };
	bool twice = cpu == seat->seen_on;

	seat->seen_on = cpu;
	if (!twice || cpu == seat->placed_on || is_taken(seat, cpu))
		return;
	if (cpu)
		words[(cpu - 1) / 64] = UINT64_C(1) << (cpu - 1) % 64;
	if (gmemi_sys_set_affinity(cpu ? words : seat->pager->home, GMEMI_CPU_WORDS) == 0)
		seat->placed_on = cpu;
}

void gmemi_seat_saw(struct gmemi_seat *seat, uint32_t thread)
{
	uint32_t number = seat->faults++;

	if (!seat->own || seat->pager->cpus || !thread)
		return;
	if (number < LOOKS_AT_FIRST || number % LOOK_EVERY == 0)
		follow(seat, only_cpu(thread));
}
