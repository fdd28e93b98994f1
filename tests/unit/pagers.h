/* SPDX-License-Identifier: MIT */
/* Pagers in each of the ways in which they get their time, memory for them to serve, sources that are told what to answer, and
 * threads that wait for pages. */
#ifndef UNIT_PAGERS_H
#define UNIT_PAGERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <gmem/fault.h>
#include <gmem/memory.h>
#include <gmem/pager.h>
#include <gmem/source.h>

#define NEEDS_PAGING (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define SECOND UINT64_C(1000000000)

/* --- memory that is watched --- */

struct paged {
	struct gmem_vm *vm;
	struct gmem *mem;
	struct gmem_uffd *uffd;
	unsigned char *at; /* where it is mapped */
	uint64_t length, page;
};

struct paged page_memory(uint32_t backing, uint64_t length, uint32_t strategy);
/* Not registered yet: at is NULL. */
struct paged bare_memory(uint32_t backing, uint64_t length);
void watch_part(struct paged *paged, uint64_t offset, uint64_t length, uint32_t strategy);
void end_paged(struct paged *paged);
struct gmem_uffd_info uffd_info(const struct paged *paged);
/* Counters agree with each other, and nothing is pending. */
void assert_adds_up(const struct paged *paged);
/* 2 MiB pages that this machine has for a test, `most` at most; skips where it has none. */
uint64_t huge_pages_for(uint64_t most);

/* --- pagers --- */

enum way { OWN, THREE_OWN, LENT, POLLED, WAYS };

struct paging {
	struct gmem_pager *pager;
	enum way way;
	bool goes;
	atomic_bool returned; /* LENT */
	int quit; /* eventfd of POLLED */
	pthread_t thread;
};

struct paging make_pager(enum way way, const struct gmem_pager_create_opts *opts);
/* Begins to serve, or goes on. */
void begin_paging(struct paging *paging);
/* Returns what is pending. */
uint64_t stop_paging(struct paging *paging);
void end_paging(struct paging *paging); /* stops, and destroys it */
void serve(struct paging *paging, const struct paged *paged, struct gmem_source *source, uint64_t background, uint64_t ahead);
struct gmem_pager_info pager_info(const struct paging *paging);

#define IN_EACH_WAY(fn)                                         \
	static void fn##_by_a_thread(void **state)              \
	{                                                       \
		(void)state;                                    \
		fn(OWN);                                        \
	}                                                       \
	static void fn##_by_three_threads(void **state)         \
	{                                                       \
		(void)state;                                    \
		fn(THREE_OWN);                                  \
	}                                                       \
	static void fn##_by_a_lent_thread(void **state)         \
	{                                                       \
		(void)state;                                    \
		fn(LENT);                                       \
	}                                                       \
	static void fn##_by_an_event_loop(void **state)         \
	{                                                       \
		(void)state;                                    \
		fn(POLLED);                                     \
	}
#define EACH_WAY(fn, needs)                                                                                                   \
	GT(fn##_by_a_thread, needs), GT(fn##_by_three_threads, needs), GT(fn##_by_a_lent_thread, needs), \
		GT(fn##_by_an_event_loop, needs)

/* --- sources --- */

#define QUESTIONS 16384

struct question {
	uint64_t offset, length, flags, at; /* at: nanoseconds */
};

/* Has `content`; answers with it unless `answer`, called with no lock, says something else. */
struct feeder {
	const unsigned char *content;
	uint64_t length;
	int (*_Atomic answer)(struct feeder *feeder, uint64_t offset, uint64_t length, void *buffer);
	void *_Atomic user;
	struct gmem_source *source;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct question asked[QUESTIONS];
	unsigned int count, seen; /* under the lock */
	atomic_bool open;	  /* for `answer` functions that wait */
	atomic_uint released, strayed;
};

#define FEEDER_GIVES 100 /* of `answer`: the content */

void make_feeder(struct feeder *feeder, const unsigned char *content, uint64_t length);
void end_feeder(struct feeder *feeder);
unsigned int asked(struct feeder *feeder);
struct question question(struct feeder *feeder, unsigned int number);
/* Waits until it has been asked so often. */
void wait_asked(struct feeder *feeder, unsigned int count);
/* The next question that this was not called for yet; waits for it. False: none came in time. */
bool next_question(struct feeder *feeder, struct question *question);
int deliver(struct feeder *feeder, uint64_t offset, uint64_t length);
/* For `answer`. */
int answers_later(struct feeder *feeder, uint64_t offset, uint64_t length, void *buffer);
int waits_until_open(struct feeder *feeder, uint64_t offset, uint64_t length, void *buffer);

/* --- events --- */

struct events {
	_Atomic unsigned int failed, gone, complete, protect;
	_Atomic int error, verdict;
	_Atomic uint64_t offset, length;
};

int take_event(void *user, const struct gmem_pager_event *event);
struct gmem_pager_create_opts with_events(struct events *events, uint64_t deadline_ns);

/* --- threads that wait --- */

struct toucher {
	pthread_t thread;
	const unsigned char *at;
	uint64_t length;
	const unsigned char *expected; /* NULL = zeros */
	atomic_int result;	       /* 1 = waits; 0, -EFAULT, or -EILSEQ: something else was there */
};

/* Reads by a system call, which says -EFAULT where a load were SIGBUS or SIGSEGV. */
void touch_in_pager(struct toucher *toucher, const unsigned char *at, uint64_t length, const unsigned char *expected);
bool still_waits(const struct toucher *toucher);
int touched(struct toucher *toucher); /* joins */
/* Until so many page faults are read and not resolved. */
void wait_pending(const struct paged *paged, uint64_t count);
uint64_t now_ns(void);
#define WAIT_FOR(condition)                                                           \
	do {                                                                          \
		uint64_t limit_ = now_ns() + 20 * SECOND;                             \
		while (!(condition)) {                                                \
			if (now_ns() > limit_)                                        \
				fail_msg("it does not come true: %s", #condition);    \
			sched_yield();                                                \
		}                                                                     \
	} while (0)

#endif
