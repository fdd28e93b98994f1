/* SPDX-License-Identifier: MIT */
/* The server's thread: waiting, and accepting. */
#include "server.h"

#include <sys/epoll.h>

#include "err.h"

#define EVENTS 8
#define AT_ONCE 16                /* connections that are accepted before others are heard */
#define TICK UINT64_C(1000000000) /* nanoseconds */

static _Thread_local const struct gmem_server *inside;

bool gmemi_server_is_inside(const struct gmem_server *server)
{
	return inside == server;
}

/* --- accepting ---------------------------------------------------------------------------------------------------------- */

/* A connection, or a code. */
static int accept_one(struct gmem_server *server)
{
	int r;

	pthread_mutex_lock(&server->listen_lock);
	r = server->listener < 0 ? -EAGAIN : gmemi_sys_accept(server->listener);
	pthread_mutex_unlock(&server->listen_lock);
	return r;
}

static void accept_some(struct gmem_server *server)
{
	int r = 0;

	for (int i = 0; r == 0 && i < AT_ONCE && atomic_load(&server->handshakes) < server->max_handshakes; i++) {
		r = accept_one(server);
		if (r >= 0)
			r = gmemi_visitor_come(server, r);
	}
	server->short_of = r < 0 && r != -EAGAIN && r != -ECONNABORTED;
	if (server->short_of)
		gmemi_note(GMEM_LOG_WARNING, "gmem-server: a connection cannot be taken now (%d)", r);
}

static int listen_or_not(struct gmem_server *server, bool wanted)
{
	int r;

	if (wanted)
		r = gmemi_sys_epoll_add(server->epoll, server->listener, EPOLLIN, (uintptr_t)&server->listener);
	else
		r = gmemi_sys_epoll_remove(server->epoll, server->listener);
	if (r == 0)
		server->listens = wanted;
	return r;
}

/* Not while nobody could be taken: the socket would not stop being readable. */
static void choose_listening(struct gmem_server *server)
{
	bool wanted = !server->stopping && !server->short_of && atomic_load(&server->handshakes) < server->max_handshakes;
	int r = 0;

	pthread_mutex_lock(&server->listen_lock);
	if (server->listener >= 0 && wanted != server->listens)
		r = listen_or_not(server, wanted);
	pthread_mutex_unlock(&server->listen_lock);
	server->short_of = server->short_of || r < 0; /* tried again later */
}

/* --- turns -------------------------------------------------------------------------------------------------------------- */

static bool wants_tick(const struct gmem_server *server)
{
	const struct gmemi_visitor *visitor = server->visitors;

	while (visitor && (visitor->state != GMEMI_VISITOR_SERVED || visitor->channel))
		visitor = visitor->next;
	return visitor || server->short_of;
}

static void tick(struct gmem_server *server)
{
	if (!gmemi_sys_timer_take(server->timer))
		return;
	server->ticks = false;
	server->short_of = false;
	for (struct gmemi_visitor *visitor = server->visitors; visitor; visitor = visitor->next)
		if (visitor->state == GMEMI_VISITOR_SERVED && !visitor->channel)
			gmemi_visitor_look(visitor);
}

static void serve_event(struct gmem_server *server, uint64_t tag)
{
	if (tag == (uintptr_t)&server->listener)
		accept_some(server);
	else if (tag == (uintptr_t)&server->timer)
		tick(server);
	else if (tag == (uintptr_t)&server->wakeup)
		gmemi_sys_eventfd_lower(server->wakeup);
	else
		gmemi_visitor_hear((struct gmemi_visitor *)(uintptr_t)tag);
}

/* Whoever has gone is freed when no event of this turn can be about him any more. */
static void sweep(struct gmem_server *server)
{
	struct gmemi_visitor **place = &server->visitors, *visitor;

	while ((visitor = *place)) {
		if (atomic_load(&server->stopping))
			gmemi_visitor_stop(visitor);
		gmemi_visitor_tell(visitor);
		gmemi_visitor_take_end(visitor);
		if (visitor->state != GMEMI_VISITOR_GONE) {
			place = &visitor->next;
			continue;
		}
		*place = visitor->next;
		gmemi_visitor_free(visitor);
		server->short_of = false;
	}
}

static void turn(struct gmem_server *server)
{
	struct epoll_event events[EVENTS];
	int count;

	if (!server->ticks && wants_tick(server))
		server->ticks = gmemi_sys_timer_set(server->timer, gmemi_sys_now() + TICK) == 0;
	count = gmemi_sys_epoll_wait(server->epoll, events, EVENTS, UINT64_MAX);
	for (int i = 0; i < count; i++)
		serve_event(server, events[i].data.u64);
	sweep(server);
	choose_listening(server);
}

void *gmemi_server_body(void *argument)
{
	struct gmem_server *server = argument;
	const char *previous = gmemi_enter("gmem-server");

	inside = server;
	gmemi_sys_begin_thread("gmem-server");
	choose_listening(server);
	while (!atomic_load(&server->stopping) || server->visitors)
		turn(server);
	gmemi_leave(&previous);
	return NULL;
}
