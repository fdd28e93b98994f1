/* SPDX-License-Identifier: MIT */
/* Floor 6: the guard. guard.c makes and ends it, guard_attach.c hands the endpoint out, guard_run.c hears what becomes of the
 * pager, guard_say.c is what the pager is asked.
 *
 * When may another pager have the memory? One that lives cannot have it taken away: its mappings stay, and it may be in the
 * middle of storing a page. So the one before has to have said that it has let go, or its connection has to have ended *and*
 * the process that has answered on it to be dead. The end of a connection alone may be a living process that closed it; the
 * end of the process alone may leave a child of it that serves. A process gives up its memory before its fds when it dies, so
 * nothing is stored any more when the connection ends that way.
 *
 * A pager that was too slow to take the endpoint may have it, and serve it. It is asked to let go, and what it says is heard
 * on: RELEASE, or ERROR in the place of READY, is as good as from one that was attached.
 */
#ifndef GMEMI_GUARD_H
#define GMEMI_GUARD_H

#include <gmem/guard.h>

#include "channel.h"

#define GMEMI_GUARD_NEWS 8     /* events that one turn may have to tell */
#define GMEMI_GUARD_FAULTS 128 /* under way: what the library's server takes of a VM */
#define GMEMI_GUARD_COUNTERS 7 /* of the pager, by their numbers in the protocol, from 1 on */

/* That the pager was told of. */
struct gmemi_guard_fault {
	struct gmemi_guard_fault *next;
	uint64_t number; /* its cookie on the wire */
	uint64_t cookie; /* of the program's choice */
	int result;
};

struct gmem_guard {
	struct gmemi_uffd_listener listener;
	struct gmem_uffd *uffd; /* held */
	gmem_guard_fn event;
	gmem_guard_done_fn done;
	void *user;
	uint32_t process; /* that made it */
	int epoll, timer;
	pthread_mutex_t lock;         /* guards what follows, and what is sent */
	struct gmem_channel *channel; /* claimed; NULL = there is no connection */
	struct gmem_channel *leaver;  /* claimed; was too slow to take the endpoint, and is to let it go; or NULL */
	int pidfd;                    /* of the pager; -1 = none, or it has ended */
	uint32_t endpoint;            /* its number, another one for each pager */
	bool lost;                    /* no pager is spoken to any more, and there is no proof yet that it has ended */
	bool dead, released;
	struct gmemi_guard_fault *faults, *done_faults; /* under way; to be told */
	uint32_t fault_count;                           /* under way */
	uint64_t fault_number;                          /* of the last one */
	uint64_t grace_end;                             /* of a pager that is lost: when it is called silent */
	bool counted;                                   /* STATISTICS have come, which is to be told */
	bool wants_room;                                /* something waits until the pager reads */
	bool drains;                                    /* reads the endpoint's events */
	atomic_bool firecracker;                        /* it was handed out by that protocol: once and for all */
	_Atomic uint32_t state, pager_pid;
	_Atomic uint64_t deaths, answers, counters[GMEMI_GUARD_COUNTERS];
};

/* guard.c */
int gmemi_guard_check(const struct gmem_guard *guard);

/* guard_run.c; the lock is held */
/* The connection is over, without the pager having let go. */
void gmemi_guard_lose(struct gmem_guard *guard);
/* The attaching has failed, and the pager may say yet that it has let go. */
void gmemi_guard_part(struct gmem_guard *guard);
/* Begins, or ends, reading events in the place of a pager. */
void gmemi_guard_drain(struct gmem_guard *guard, bool on);
/* The fds of the pager are not watched any more, and are closed. */
void gmemi_guard_forget_pager(struct gmem_guard *guard);
/* Of the peer; gmemi_channel_fn. */
int gmemi_guard_notice(void *guard, struct gmem_channel *channel, const struct gmemi_wire *wire);

/* guard_say.c; the lock is held */
/* STATISTICS. */
int gmemi_guard_count(struct gmem_guard *guard, const struct gmemi_wire *wire);
/* FAULT_DONE. */
void gmemi_guard_fault_done(struct gmem_guard *guard, const struct gmemi_wire_fault_done *done);
/* All that are under way: the pager will not answer. */
void gmemi_guard_fail_faults(struct gmem_guard *guard);
void gmemi_guard_free_faults(struct gmemi_guard_fault *faults);
/* Of another pager. */
void gmemi_guard_count_anew(struct gmem_guard *guard);
/* Waits for room in the socket of the channel or leaver as long as there is something to be sent. */
void gmemi_guard_want_room(struct gmem_guard *guard, const struct gmem_channel *channel);

#endif
