/* SPDX-License-Identifier: MIT */
/* Fault service: in every run memory that is new and watched is touched by threads, each page of an order once, and somebody
 * serves the faults. What runs differ in is a setup; who serves is a server. Every page is compared in the end. */
#ifndef FAULT_H
#define FAULT_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "measure.h"

#define FAULT_PAGE ((size_t)4096)
#define FAULT_ADAPTIVE ((size_t)1)
#define FAULT_MOST 2u /* faulters, or handlers */

struct gmem;
struct gmem_uffd;
struct gmem_vm;
struct world;
struct processes;
struct fault_run;

enum fault_order {
	ORDER_FORWARD,
	ORDER_SHUFFLED,
	ORDER_RUNS /* 1 to 8 pages in a row, scattered; one page in 16: what a guest works on after it was restored */
};

/* Faulter i is pinned to core i, the first one being the core of the process. */
enum fault_place {
	PLACE_SAME,   /* handlers on the first core */
	PLACE_ACROSS, /* ... on the second one */
	PLACE_EACH,   /* handler i beside faulter i */
	PLACE_FREE    /* ... wherever the scheduler puts them */
};

struct fault_server {
	/* Makes memory that is watched, and serves it. May give up in the middle: `end` comes all the same. */
	void (*begin)(struct fault_run *run);
	void (*end)(struct fault_run *run);
	/* What a faulter does with a page, if not touch it. False: wrong. */
	bool (*touch)(const struct fault_run *run, size_t offset);
};

struct fault_setup {
	const struct fault_server *server;
	const void *way; /* the server's own */
	size_t around;   /* bytes brought in with a page, FAULT_ADAPTIVE, or 0 = the page alone */
	enum fault_order order;
	enum fault_place place;
	unsigned int faulters, handlers; /* 0 = 1 */
	bool ready;                      /* the memory has its content, and only has to be mapped */
};

struct faulter {
	const struct fault_run *run;
	const uint32_t *pages;
	unsigned int n, done; /* done < n: what page `done` had was wrong */
	uint32_t *ns;         /* of each page */
	pthread_t thread;
};

enum fault_gate { GATE_SHUT, GATE_OPEN, GATE_GONE };

struct fault_run {
	const struct fault_setup *setup;
	const struct content *content; /* dense, a file */
	struct gmem_vm *vm;
	struct processes *processes; /* process.h, or NULL */
	size_t size;
	int cores[2];
	unsigned char *at;         /* the watched mapping: the server's */
	const unsigned char *view; /* the content mapped, anew in every run */
	void *state;               /* the server's; NULL = it has not begun */
	uint32_t *pages, *ns;
	unsigned int n; /* pages of the order */
	struct faulter faulters[FAULT_MOST];
	unsigned int started;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	enum fault_gate gate;
	_Atomic(const char *) failed; /* what a handler could not do */
	int error;
};

/* fault_order.c. Room for `n` pages; how many there are in the order. The same each time. */
unsigned int fault_order(enum fault_order order, uint32_t *pages, unsigned int n);

/* fault_run.c: parts of a group. */
const char *fault_open(struct world *world, size_t most); /* NULL, or why there is nothing to measure */
void fault_end(struct world *world);
void fault_before(struct world *world, const struct fault_setup *setup);
void fault_settle(struct world *world);
void fault_touch(struct world *world);
void fault_tell(struct world *world, double times[MEASURE_WAYS]);
void fault_after(struct world *world);
/* Cases: a function that makes ready for the setup, and the case. */
#define FAULT_SETUP(function, ...) \
	static void function(struct world *world) \
	{ \
		static const struct fault_setup setup = { __VA_ARGS__ }; \
\
		fault_before(world, &setup); \
	}
#define FAULT_CASE(name, before) { name, before, fault_touch, fault_after }

/* ... and for servers. */
bool fault_is_right(const struct fault_run *run, size_t offset);     /* touches the page */
void fault_failed(struct fault_run *run, const char *what, int error); /* in a handler; the first one counts */
void fault_where(const struct fault_run *run, unsigned int handler, cpu_set_t *cores);
void fault_thread(pthread_t *thread, const cpu_set_t *cores, void *(*body)(void *), void *argument);

/* Servers, and their ways. */
extern const struct fault_server fault_by_hand, fault_by_eventfd, fault_by_pager;
struct hand_way;
extern const struct hand_way hand_simple, hand_fill, hand_fill_one, hand_copy, hand_ready, hand_firecracker,
	hand_firecracker_file;
struct pager_way;
extern const struct pager_way pager_auto, pager_fill, pager_copy, pager_ranges;

/* Memory as pagers of the benchmark serve it, and an endpoint that watches all of it. */
void pager_memory(struct gmem_vm *vm, size_t size, struct gmem **mem);
void pager_watch(struct gmem_vm *vm, size_t size, const struct pager_way *way, struct gmem *mem, struct gmem_uffd **uffd);

/* Private bytes of one of `n` VMs on a pager: endpoint, which watches so many bytes, source, and the handle of the memory. */
double fault_bytes_of_endpoint(struct world *world, size_t watched, unsigned int n);

/* fault_count.c: what the statistics of a fault take, in percent of a fault that the pager serves; `size` as it was opened. */
double fault_share_of_statistics(struct world *world, size_t size);

#endif
