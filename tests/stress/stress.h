/* SPDX-License-Identifier: MIT */
/* What stress tests are made of: a time to go on for, a memory with the image that it shall hold, and a crew of threads
 * that all do something to it. */
#ifndef STRESS_H
#define STRESS_H

#include <gmem.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define MIB ((uint64_t)1 << 20)

/* Watching every access for races is slow, and more memory has no more races in it. */
#ifdef __SANITIZE_THREAD__
#define STRESS_WATCHED true
#define STRESS_LENGTH MIB
#else
#define STRESS_WATCHED false
#define STRESS_LENGTH (8 * MIB)
#endif

/* A test goes on for STRESS_SECONDS of the environment, or for a moment, and for one round at least:
 *
 *     struct stress_time time = stress_begin();
 *
 *     do
 *             ...
 *     while (stress_goes_on(&time));
 */
struct stress_time {
	uint64_t end; /* ns */
	unsigned long rounds;
};

struct stress_time stress_begin(void);
bool stress_goes_on(struct stress_time *time);

/* A memory, and the VM it is for where it is a guest_memfd. */
struct arena {
	struct gmem_vm *vm;
	struct gmem *mem;
	int vm_fd; /* -1 = none */
	uint32_t backing;
	bool lazy;      /* has a page map */
	bool contested; /* several fill the same bytes at the same time, which leaves either content */
	uint64_t seed, length, page;
	unsigned char *image; /* what the test puts in; some pages are zeros */
	int file;             /* the same as a file */
};

struct arena arena_make(uint32_t backing, bool lazy, uint64_t length);
void arena_end(struct arena *a);
/* Another memory of the same sort, in place of the present one; the image stays. */
void arena_renew(struct arena *a);
/* A mapping of the test's own, which the library knows nothing of. */
unsigned char *arena_map(struct arena *a);
/* Every byte is as in the image. */
void arena_assert_filled(struct arena *a);
bool stress_is_zero(const unsigned char *page, uint64_t size);
struct range {
	uint64_t offset, length;
};
/* A seed of its own for each thread. */
uint64_t stress_seed(const struct arena *a, unsigned int number);
/* Units in a row, by chance. */
struct range stress_range(const struct arena *a, uint64_t *seed, uint64_t unit);

/* Threads that block all signals. They must not use assertions: what goes wrong they say, and stop. */
struct crew {
	void *arg;
	atomic_bool stop; /* for those who go on until they are told */
	pthread_mutex_t lock;
	char failure[300];
	pthread_t threads[32];
	unsigned int count;
};

typedef void (*crew_fn)(struct crew *crew, unsigned int number);

void crew_begin(struct crew *crew, void *arg);
void crew_start(struct crew *crew, crew_fn fn, unsigned int number);
__attribute__((format(printf, 2, 3))) void crew_failed(struct crew *crew, const char *format, ...);
bool crew_goes_on(struct crew *crew);
/* Waits for all; a failure fails the test. The crew can start others then. */
void crew_wait(struct crew *crew);
void crew_end(struct crew *crew);

#endif
