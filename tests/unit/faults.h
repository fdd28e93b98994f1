/* SPDX-License-Identifier: MIT */
/* Memory that an endpoint watches, threads that touch it, and looks at its page map. */
#ifndef UNIT_FAULTS_H
#define UNIT_FAULTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <gmem.h>

#define EMPTY 0u
#define FILLED 1u
#define DISCARDED 2u

/* Lazy memory of a VM without a fd, mapped once, and an endpoint that watches nothing of it yet. */
struct lazy {
	struct gmem_vm *vm;
	struct gmem *mem;
	struct gmem_uffd *uffd;
	unsigned char *at;
	uint64_t page, length;
};

struct lazy make_lazy(uint32_t backing, uint64_t pages);
/* The same, all of it watched in one region. */
struct lazy make_watched(uint32_t backing, uint64_t pages, enum gmem_strategy strategy);
/* Gives up what is not NULL. */
void end_lazy(struct lazy *lazy);
void watch_pages(struct lazy *lazy, uint64_t first, uint64_t count, enum gmem_strategy strategy);
/* Skips where the kernel has not got it. */
void want_feature(enum gmem_feature feature, const char *what);

/* In pages: how it went, and that all of it is done where it went well. */
int resolve_pages(struct lazy *lazy, uint64_t first, uint64_t count, enum gmem_resolve how, const void *data);
/* ... and it did go well. */
void must_resolve(struct lazy *lazy, uint64_t first, uint64_t count, enum gmem_resolve how, const void *data);

unsigned int state_of(const struct gmem *mem, uint64_t page);
/* `states` a letter a page: E(mpty), F(illed), D(iscarded). */
void assert_map(const struct gmem *mem, const char *states);
struct gmem_uffd_info counted(const struct gmem_uffd *uffd);
/* Every byte of the page. */
void assert_bytes(const unsigned char *at, int byte, uint64_t length);

/* Waits for the next event, which must come. */
struct gmem_fault next_event(struct gmem_uffd *uffd);
/* ... which must be this one, of one page or so many bytes. */
struct gmem_fault expect_event(struct gmem_uffd *uffd, enum gmem_fault_kind kind, const struct gmem *mem, uint64_t offset,
			       uint64_t length);
/* No event is there. */
void no_event(struct gmem_uffd *uffd);

/* A thread that reads a byte of each of some addresses, or writes there, or asks the kernel to change an address range. */
struct toucher {
	pthread_t thread;
	unsigned char *at;
	uint64_t length;
	int what; /* -1 = read, 0 to 255 = write that, else ADVISE + an advice of madvise() */
	int result; /* the byte, or the negative signal that touching it raised, or what madvise() said */
	atomic_bool done;
};
#define READ (-1)
#define ADVISE 1000

void touch_begin(struct toucher *toucher, unsigned char *at, int what);
void advise_begin(struct toucher *toucher, unsigned char *at, uint64_t length, int advice);
/* Waits for it. */
int touch_end(struct toucher *toucher);
/* Touches here: the byte, or a negative signal. */
int touch(unsigned char *at);

#endif
