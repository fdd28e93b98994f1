/* SPDX-License-Identifier: MIT */
/* Floor 6: the server. server.c makes and ends it, server_thread.c waits and accepts, server_visitor.c is what becomes of who
 * has come, server_answer.c is what a VM that is served asks.
 *
 * Why a thread of its own, and not the pager's: a handshake can have thousands of ranges, and the program may open files, or
 * wait for a network, to choose a source. A pager's thread that did so would leave the faults of all other VMs waiting. So the
 * pager's threads never see a socket, and this one never sees a fault. */
#ifndef GMEMI_SERVER_H
#define GMEMI_SERVER_H

#include <gmem/server.h>

#include "channel.h"
#include "pager.h"

#define GMEMI_STATISTICS 6                     /* counters that a VM is told */
#define GMEMI_SERVER_FAULTS 128                /* of a VM, under way */
#define GMEMI_SERVER_FAULT (UINT64_C(2) << 20) /* bytes of one, or one page */

enum gmemi_visitor_state {
	GMEMI_VISITOR_COMING, /* in its handshake */
	GMEMI_VISITOR_SERVED,
	GMEMI_VISITOR_LEAVING, /* the pager has been told to let it go */
	GMEMI_VISITOR_GONE     /* to be freed, at the end of the turn */
};

struct gmemi_server_fault;

/* Somebody who has connected. The server's thread's own, but for what its lock guards. */
struct gmemi_visitor {
	struct gmemi_endpoint_watch watch;
	struct gmemi_visitor *next;
	struct gmem_server *server;
	struct gmem_channel *channel; /* NULL = its connection is closed */
	struct gmem_uffd *uffd;       /* NULL = it has not come */
	struct gmem_source *source;   /* NULL = it was not admitted; kept until `leave` has returned */
	enum gmemi_visitor_state state;
	_Atomic uint64_t *counter; /* of the server's, in which it is counted until it is freed */
	int reason;
	uint32_t endpoint; /* its number on the channel */
	bool detached;
	bool gave_up;                    /* it has let its endpoint go before all of that had come */
	bool asks;                       /* for statistics */
	uint32_t faults;                 /* that it has sent, and that are not answered */
	struct gmemi_server_fault *done; /* of them; under the server's lock */
	bool ended;                      /* the pager is done with it; under the server's lock */
	uint64_t pending;
};

struct gmem_server {
	struct gmem_pager *pager;
	struct gmem_vm *vm; /* of all endpoints */
	struct gmem_server_ops ops;
	void *user;
	struct gmem_channel_open_opts channel; /* identity: the copy below */
	char identity[GMEMI_IDENTITY + 1];
	uint32_t max_vms, max_handshakes;
	uint32_t process; /* that made it */
	int epoll, timer, wakeup;
	pthread_mutex_t listen_lock; /* guards the next two, for a moment at a time */
	int listener;                /* -1 = none is accepted any more */
	bool listens;                /* is it waited for? */
	pthread_t thread;
	atomic_bool stopping;
	pthread_mutex_t lock; /* guards `ended`, `pending` and `done` of visitors */
	/* The thread's own. */
	struct gmemi_visitor *visitors;
	bool short_of; /* is there a lack of something for connections? */
	bool ticks;    /* the timer is set */
	_Atomic uint64_t vms, handshakes, admitted, refused, broken, left;
};

/* server_thread.c */
void *gmemi_server_body(void *server);
bool gmemi_server_is_inside(const struct gmem_server *server); /* the calling thread, in a callback */

/* server_visitor.c */
/* 0 = it is a visitor, or nothing came of it; a code if there is a lack of something. Takes the fd. */
int gmemi_visitor_come(struct gmem_server *server, int fd);
/* Its channel has something. */
void gmemi_visitor_hear(struct gmemi_visitor *visitor);
/* Its faults may be done. */
void gmemi_visitor_tell(struct gmemi_visitor *visitor);
/* Of one without a connection: does its owner still live? */
void gmemi_visitor_look(struct gmemi_visitor *visitor);
/* Lets go whom nobody has let go yet. */
void gmemi_visitor_stop(struct gmemi_visitor *visitor);
/* If the pager is done with it. */
void gmemi_visitor_take_end(struct gmemi_visitor *visitor);
void gmemi_visitor_free(struct gmemi_visitor *visitor);

/* server_answer.c */
/* Messages about the endpoint as a whole; gmemi_channel_fn. */
int gmemi_visitor_notice(void *visitor, struct gmem_channel *channel, const struct gmemi_wire *wire);
/* What can be answered is, or forgotten where nobody listens: a code if the connection has failed. */
int gmemi_visitor_answer(struct gmemi_visitor *visitor);

#endif
