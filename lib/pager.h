/* SPDX-License-Identifier: MIT */
/* Floor 5: the pager. pager.c makes, starts and stops it, pager_endpoint.c knows what it serves, pager_serve.c waits for
 * events, pager_fault.c makes requests of page faults, pager_list.c has them, pager_request.c carries them out,
 * pager_forward.c is what is asked for by word, pager_background.c is what nobody waits for, pager_late.c takes what comes by
 * itself, pager_finish.c is what the program asks for, pager_wait.c is what threads wait on, pager_place.c is about where threads
 * run. */
#ifndef GMEMI_PAGER_H
#define GMEMI_PAGER_H

#include <gmem/pager.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "budget.h"
#include "fault.h"
#include "source.h"

#define GMEMI_REQUESTS 128           /* of one endpoint at a time; more faults than that wait in the kernel */
#define GMEMI_BACKGROUND_REQUESTS 16 /* ... that nobody waits for */
#define GMEMI_PREFETCHES 64
#define GMEMI_STREAMS 4            /* that fault-around tells apart */
#define GMEMI_TAG_TIMER UINT64_MAX /* in the place of an endpoint's tag */
#define GMEMI_TAG_WAKEUP (UINT64_MAX - 1)
#define GMEMI_CPU_WORDS 16 /* 1024 CPUs */
#define GMEMI_ENDED (UINT32_C(1) << 31)

enum gmemi_request_state {
	GMEMI_REQUEST_FREE,
	GMEMI_REQUEST_QUEUED,  /* its source is to be asked, by the next thread that may */
	GMEMI_REQUEST_READING, /* a thread asks */
	GMEMI_REQUEST_LATER,   /* the source will deliver */
	GMEMI_REQUEST_RETRY,   /* to be queued again when it is due */
	GMEMI_REQUEST_RESOLVE, /* the content is there, but the address space was changing: again when due */
	GMEMI_REQUEST_PARKED   /* failed, and whoever waits goes on waiting */
};

/* What is added up over endpoints. */
struct gmemi_past {
	uint64_t faults, bytes, poisoned;
};

/* Pages that are to be brought in. Under the endpoint's lock. */
struct gmemi_request {
	struct gmemi_request *next;
	struct gmemi_region *region;    /* claimed */
	struct gmem *mem;               /* for the program's eyes */
	uint64_t offset, length;        /* bytes of the memory */
	uint64_t needed, needed_length; /* of them: what somebody waits for; 0 bytes = nobody does */
	uint64_t since, due, deadline;  /* nanoseconds; since: when the first fault was read */
	uint64_t comer;                 /* the number of the last who came to wait */
	uint64_t age;                   /* of the content that the source is asked for */
	uint64_t delivered;             /* of what it was asked for, a bit for each 64th of the range: some of it has come */
	uint32_t tries, faults, serial;
	int32_t early; /* the source has refused before its read returned, or is to be asked again: -EAGAIN; 0 = neither */
	int32_t error; /* its last code */
	bool along;    /* in a sequence of faults: pages of it that are zeros, or there, are mapped too */
	enum gmemi_request_state state;
};

/* Where faults came in sequence. */
struct gmemi_stream {
	uint64_t end;
	uint32_t length;
};

struct gmemi_prefetch {
	struct gmemi_region *region; /* claimed */
	uint64_t offset, length;
};

/* A range that is asked for by word, as if it had been touched: whoever asks fills in what is before the line. */
struct gmemi_forward {
	struct gmem *mem;                                      /* NULL = without a file here */
	uint64_t at, end;                                      /* of it: what is not there yet */
	void (*done)(struct gmemi_forward *forward, int code); /* once, in any thread, with no lock: it is the caller's again */
	/* --- under the endpoint's lock --- */
	struct gmemi_forward *next;
	struct gmemi_watched *watched;       /* held */
	const struct gmemi_request *request; /* that it waits for, as long as that has the serial */
	uint64_t asked_end;                  /* of what the request is for */
	uint32_t serial, tries;
	int error; /* of the request */
};

/* Who has to know when an endpoint is let go, by whomever: the last that is done with it, in any thread. */
struct gmemi_endpoint_watch {
	void (*ended)(struct gmemi_endpoint_watch *watch, uint64_t pending);
};

struct gmemi_endpoint {
	struct gmem_pager *pager;
	struct gmemi_endpoint_watch *watch; /* or NULL */
	struct gmem_uffd *uffd;
	struct gmem_source *source;
	struct gmemi_source_user user; /* for what the source delivers */
	_Atomic uint64_t tag;          /* in the pager's table, and to epoll; 0 = not there yet */
	_Atomic uint32_t claims;       /* the table's, and of threads that are in it; GMEMI_ENDED: out of the table */
	uint64_t rate, ahead;          /* as in the options */
	_Atomic uint64_t due;          /* when it wants a thread without an event: UINT64_MAX = never */
	atomic_bool finishing;
	atomic_bool queued;       /* a request may be; written with the lock */
	_Atomic uint32_t changes; /* counts what gmem_pager_finish() waits for */
	struct gmemi_lock lock;   /* guards what follows; held for a moment at a time */
	struct gmemi_request *unused, *pending;
	struct gmemi_budget budget;   /* of events */
	uint64_t comers;              /* who have come to wait so far */
	uint32_t background, reading; /* requests that nobody waits for; threads that are in the source */
	bool deaf;                    /* no request is left, or its budget is spent: its events are not waited for */
	bool failed, complete;
	struct gmemi_stream streams[GMEMI_STREAMS];
	uint32_t next_stream;
	uint64_t cursor, background_due, ahead_end; /* where the background is; an address of the owner's */
	uint64_t look_due;          /* when it is looked whether all is there; UINT64_MAX = nothing has come since */
	bool looking;               /* a thread does, and has the next */
	struct gmemi_search search; /* for what is empty */
	uint64_t search_comers;     /* `comers`, when it began at the beginning */
	struct gmemi_past before;   /* what the endpoint had counted when it came here */
	uint32_t prefetch_first, prefetch_count;
	struct gmemi_forward *forwards; /* oldest first */
	/* Large, so behind what every fault needs. Under the lock too. */
	struct gmemi_prefetch prefetches[GMEMI_PREFETCHES];
	struct gmemi_request requests[GMEMI_REQUESTS];
};

/* A thread's place in the pager: its buffer. */
struct gmemi_seat {
	struct gmemi_seat *next;
	struct gmem_pager *pager;
	unsigned char *buffer;
	void *memory; /* that it is in */
	uint64_t room;
	bool own; /* a thread of the pager's */
	pthread_t thread;
	int epoll;                  /* of its own, or -1 */
	_Atomic uint64_t placed_on; /* CPU + 1, of the last two looks; 0 = nowhere */
	uint64_t seen_on;
	uint32_t faults;
	uint32_t batch; /* events that came the last time, below the most that are read at a time */
	uint32_t eager; /* how often more the next fault is looked for before the thread waits for one */
};

struct gmem_pager {
	uint64_t deadline_ns, around;
	enum gmem_around around_mode;
	uint32_t threads, cpu_words;
	uint64_t *cpus;
	uint64_t home[GMEMI_CPU_WORDS]; /* where whoever started it may run */
	gmem_pager_fn event;
	void *user;
	uint32_t process; /* that made it */
	int epoll, timer, wakeup;
	_Atomic uint64_t armed;      /* for when the timer is set */
	_Atomic uint32_t last_timed; /* the endpoint that had a turn of its own last: where it is in the table */
	pthread_mutex_t timer_lock;
	pthread_mutex_t stop_lock; /* one stop, or start, at a time */
	_Atomic bool stopping;
	_Atomic uint32_t inside; /* threads that serve, own and lent */
	pthread_mutex_t lock;    /* guards what follows; held for a moment at a time */
	struct gmemi_endpoint **table;
	uint32_t table_room, generation;
	_Atomic uint32_t table_count; /* read without the lock too */
	struct gmemi_seat *seats, *own_seats; /* to be had; and of own threads */
	uint32_t own_threads, blocked;        /* own threads; those of them that wait in a source */
	bool started;
	_Atomic uint64_t busy_ns;
	struct gmemi_past past; /* of endpoints that were let go */
};

/* pager.c */
int gmemi_pager_check(const struct gmem_pager *pager);
/* A thread that serves begins, and ends. */
void gmemi_pager_come_in(struct gmem_pager *pager);
void gmemi_pager_go(struct gmem_pager *pager);

/* pager_endpoint.c */
/* The one with the tag, claimed; NULL = gone. */
struct gmemi_endpoint *gmemi_endpoint_enter(struct gmem_pager *pager, uint64_t tag);
void gmemi_endpoint_leave(struct gmemi_endpoint *endpoint);
/* gmem_pager_add(), with somebody to be told, if it succeeds. */
int gmemi_pager_add(struct gmem_pager *pager, struct gmem_uffd *uffd, struct gmem_source *source,
		    const struct gmem_pager_add_opts *opts, struct gmemi_endpoint_watch *watch);
/* Lets it go, if it is there, and waits for nobody: the watch is told. */
void gmemi_pager_drop(struct gmem_pager *pager, const struct gmem_uffd *uffd);
/* In turn, claimed: begin with *index = 0; NULL = no more. */
struct gmemi_endpoint *gmemi_endpoint_next(struct gmem_pager *pager, uint32_t *index);
/* Out of the table and unwatched; true for the one who did it. It ends when the last has left. */
bool gmemi_endpoint_end(struct gmemi_endpoint *endpoint);
/* With a claim of the caller's alone left. */
void gmemi_endpoint_wait_alone(struct gmemi_endpoint *endpoint);
/* The one that serves the endpoint, claimed; NULL with -ENOENT and a sentence in *r. */
struct gmemi_endpoint *gmemi_endpoint_find(struct gmem_pager *pager, const struct gmem_uffd *uffd, int *r);
/* Arguments of public calls; the second: of those that wait for threads of the pager. */
int gmemi_endpoint_check(const struct gmem_pager *pager, const struct gmem_uffd *uffd);
int gmemi_endpoint_check_waiting(const struct gmem_pager *pager, const struct gmem_uffd *uffd);
/* Pages that are empty in all regions. */
uint64_t gmemi_endpoint_empty(struct gmem_uffd *uffd);
/* The owner's memory is gone: tells the program, and ends it. */
void gmemi_endpoint_orphaned(struct gmemi_endpoint *endpoint);
void gmemi_endpoint_changed(struct gmemi_endpoint *endpoint);
/* Pages came to be there: it is looked soon whether those were the last. */
void gmemi_endpoint_came(struct gmemi_endpoint *endpoint); /* held */
/* Looks, if it is time. */
void gmemi_endpoint_look(struct gmemi_endpoint *endpoint, uint64_t now);
/* A thread is woken for events only when they come (with EPOLLET: else each would wake another thread for nothing): those that
 * were not read then have to be asked for. If there is room again for faults that wait in the kernel; or in any case. */
void gmemi_endpoint_hear_again(struct gmemi_endpoint *endpoint); /* held */
void gmemi_endpoint_rearm(struct gmemi_endpoint *endpoint);
/* What it has counted here. */
struct gmemi_past gmemi_endpoint_past(const struct gmemi_endpoint *endpoint);
int gmemi_endpoint_tell(struct gmemi_endpoint *endpoint, enum gmem_pager_event_kind kind, const struct gmemi_request *about,
			int error);

/* pager_serve.c */
/* One turn: waits for something to do at most so long, and does it. How much, -EINTR, or -ESHUTDOWN. */
int gmemi_pager_turn(struct gmemi_seat *seat, uint64_t timeout_ns);
/* The endpoint wants a thread at that time. */
void gmemi_pager_want(struct gmemi_endpoint *endpoint, uint64_t when);
bool gmemi_pager_is_inside(const struct gmem_pager *pager); /* the calling thread, in a callback */
const struct gmem_pager *gmemi_pager_go_inside(const struct gmem_pager *pager);
void gmemi_pager_go_outside(const struct gmem_pager *before);

/* pager_wait.c; the pager's lock is held but where a call takes it */
int gmemi_wait_begin(const struct gmem_pager *pager, int *epoll); /* a new epoll, on everything that there is */
void gmemi_wait_apart(struct gmemi_seat *seat);                   /* for a new thread: by itself, if that is good */
int gmemi_wait_on(const struct gmemi_seat *seat);                 /* no lock */
int gmemi_wait_add(const struct gmemi_endpoint *endpoint);
void gmemi_wait_remove(const struct gmemi_endpoint *endpoint);
int gmemi_wait_rearm(const struct gmemi_endpoint *endpoint); /* takes it */

/* pager_fault.c */
#define GMEMI_SPARES 8 /* and events of one endpoint that a thread takes at a time, when it is the only one */
/* Requests that a thread keeps for the next faults of one endpoint. */
struct gmemi_spares {
	struct gmemi_request *requests[GMEMI_SPARES];
	uint32_t count;
};
/* Reads events of the endpoint and serves them. How many. Not drained: there may be more, and nobody will be woken for those. */
int gmemi_endpoint_serve(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, struct gmemi_spares *spares, bool *drained);
void gmemi_endpoint_put_spares(struct gmemi_endpoint *endpoint, struct gmemi_spares *spares);

/* pager_list.c, pager_request.c: the endpoint's lock is held where it says so */
struct gmemi_request *gmemi_request_get(struct gmemi_endpoint *endpoint);               /* held */
void gmemi_request_put(struct gmemi_endpoint *endpoint, struct gmemi_request *request); /* held: one that was not begun */
/* Begins one that was got. */
void gmemi_request_begin(struct gmemi_endpoint *endpoint, struct gmemi_request *request, struct gmemi_region *region,
			 uint64_t offset, uint64_t length, uint64_t now); /* held; the region is entered */
/* Somebody waits for this page of it too. */
void gmemi_request_need(struct gmemi_endpoint *endpoint, struct gmemi_request *request, uint64_t offset, uint64_t length,
			uint64_t now); /* held */
/* One that overlaps the range, or NULL. */
struct gmemi_request *gmemi_request_at(const struct gmemi_endpoint *endpoint, const struct gmemi_region *region,
				       uint64_t offset, uint64_t length);               /* held */
void gmemi_request_end(struct gmemi_endpoint *endpoint, struct gmemi_request *request); /* held */
/* Asks the source, if it answers at once; else the request is queued. The caller has claimed the region. */
void gmemi_request_try(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint,
		       struct gmemi_request *request); /* held, and given back */
/* Maps what is there for whoever waits. */
void gmemi_request_present(struct gmemi_endpoint *endpoint, struct gmemi_request *request); /* held, and given back */
/* Perhaps: whoever queues one looks himself. No lock. */
static inline bool gmemi_request_is_queued(const struct gmemi_endpoint *endpoint)
{
	return atomic_load_explicit(&endpoint->queued, memory_order_relaxed);
}
/* Asks the source for what is queued, in this thread, which may have to wait in it. */
void gmemi_request_run_queue(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint);
/* Those whose region is gone. */
void gmemi_request_drop_gone(struct gmemi_endpoint *endpoint); /* held */
/* What is due by time: it may queue some. */
void gmemi_request_run_due(struct gmemi_endpoint *endpoint, uint64_t now);
/* Nothing is to come any more: of what somebody waits for, or, where nobody does, of all of it. The region may be gone. */
bool gmemi_request_is_over(const struct gmemi_request *request); /* held */
/* Its source says no. */
void gmemi_request_failed(struct gmemi_endpoint *endpoint, struct gmemi_request *request, int error); /* held, and given back */

/* pager_forward.c */
/* Asks for a range: 0 = `done` will be called; -ENOENT it is not watched, or not served. Waits for nobody. */
int gmemi_pager_forward(struct gmem_pager *pager, struct gmem_uffd *uffd, struct gmemi_forward *forward);
/* What can go on does. */
void gmemi_forwards_step(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, uint64_t now);
/* The request is given up: those who wait for it are told in their next step. */
void gmemi_forwards_fail(struct gmemi_endpoint *endpoint, const struct gmemi_request *request, int error); /* held */
/* The endpoint is let go: -ENOENT to all. */
void gmemi_forwards_end(struct gmemi_endpoint *endpoint); /* nobody else has it */

/* pager_background.c: a step of what nobody waits for, if one is due. */
void gmemi_background_step(struct gmemi_seat *seat, struct gmemi_endpoint *endpoint, uint64_t now);
/* When the next is due. */
uint64_t gmemi_background_due(const struct gmemi_endpoint *endpoint); /* held */
/* There may be something empty after all. */
void gmemi_background_resume(struct gmemi_endpoint *endpoint, uint64_t now); /* held */
/* Allocates behind a fault. */
void gmemi_background_ahead(struct gmemi_endpoint *endpoint, struct gmemi_region *region, uint64_t offset);

/* pager_late.c */
/* Somebody waits for an empty page of a request that was begun before: where it has been delivered already, and was given up for
 * new content since, the source is asked again. */
void gmemi_request_join(struct gmemi_endpoint *endpoint, struct gmemi_request *request, uint64_t offset, uint64_t length,
			uint64_t now); /* held */
int gmemi_endpoint_deliver(struct gmemi_source_user *user, uint64_t offset, uint64_t length, const void *data, int answer);

/* pager_place.c */
int gmemi_seat_room(struct gmemi_seat *seat, uint64_t room);
/* Before and after a call of the source that may wait: there is another thread for the others meanwhile. */
void gmemi_seat_blocks(struct gmemi_seat *seat);
void gmemi_seat_unblocks(struct gmemi_seat *seat);
void gmemi_seat_saw(struct gmemi_seat *seat, uint32_t thread); /* a fault of this thread */
int gmemi_seat_start(struct gmem_pager *pager);                /* another own thread; the pager's lock is held */
struct gmemi_seat *gmemi_seat_take(struct gmem_pager *pager);
void gmemi_seat_give(struct gmemi_seat *seat);
void gmemi_seat_free(struct gmemi_seat *seat);

#endif
