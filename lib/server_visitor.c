/* SPDX-License-Identifier: MIT */
/* What becomes of who has connected: a handshake, the program's decision, and the end. */
#include "server.h"

#include <sys/epoll.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"

/* --- coming ------------------------------------------------------------------------------------------------------------- */

/* In any thread of the pager. */
static void ended(struct gmemi_endpoint_watch *watch, uint64_t pending)
{
	struct gmemi_visitor *visitor = (struct gmemi_visitor *)watch;
	struct gmem_server *server = visitor->server;

	pthread_mutex_lock(&server->lock); /* seen by the server only when nothing of this is touched here any more */
	visitor->ended = true;
	visitor->pending = pending;
	gmemi_sys_eventfd_raise(server->wakeup);
	pthread_mutex_unlock(&server->lock);
}

static int connect_to(struct gmemi_visitor *visitor, int fd)
{
	struct gmem_server *server = visitor->server;
	int r = gmem_channel_open(fd, &visitor->channel, &server->channel);

	if (r < 0)
		return r;
	visitor->channel->puts_off = true;
	visitor->channel->notify = gmemi_visitor_notice;
	visitor->channel->notify_user = visitor;
	r = gmemi_sys_epoll_add(server->epoll, visitor->channel->epoll, EPOLLIN, (uintptr_t)visitor);
	return r < 0 ? gmemi_failed(r, "EPOLL_CTL_ADD", "fs.epoll.max_user_watches?") : 0;
}

static int ask_who(struct gmem_server *server, int fd, struct gmem_channel_info *peer)
{
	struct gmemi_socket about;
	int r = gmemi_sys_socket(fd, &about);

	if (r < 0)
		return gmemi_failed(r, "asking about the socket", NULL);
	*peer = (struct gmem_channel_info){
		.size = sizeof(*peer),
		.identity = "",
		.protocol = server->channel.protocol,
		.pid = about.pid,
		.uid = about.uid,
		.gid = about.gid,
	};
	return 0;
}

/* 1 = it is turned away. Nobody can tell what it speaks yet; who knows Firecracker's protocol alone reads nothing. */
static int meet(struct gmem_server *server, int fd)
{
	struct gmem_channel_info peer;
	int r;

	if (!server->ops.meet)
		return 0;
	r = ask_who(server, fd, &peer);
	if (r < 0)
		return r;
	r = server->ops.meet(server->user, &peer);
	if (r == 0)
		return 0;
	r = gmemi_refuse(r < 0 ? r : -ECANCELED, "who has connected may not");
	if (server->channel.protocol != GMEM_PROTOCOL_FIRECRACKER)
		(void)gmemi_channel_turn_away(fd, r);
	gmemi_tolerated();
	atomic_fetch_add(&server->refused, 1);
	return 1;
}

static int come_in(struct gmem_server *server, int fd)
{
	struct gmemi_visitor *visitor = gmemi_alloc(1, sizeof(*visitor));
	int r = -ENOMEM;

	if (visitor) {
		visitor->server = server;
		visitor->watch.ended = ended;
		r = connect_to(visitor, fd);
	}
	if (r < 0) {
		gmemi_visitor_free(visitor);
		return r;
	}
	visitor->next = server->visitors;
	server->visitors = visitor;
	visitor->counter = &server->handshakes;
	atomic_fetch_add(visitor->counter, 1);
	return 0;
}

int gmemi_visitor_come(struct gmem_server *server, int fd)
{
	int r = meet(server, fd);

	if (r == 0)
		r = come_in(server, fd);
	gmemi_sys_close(fd);
	return r < 0 ? r : 0;
}

void gmemi_visitor_free(struct gmemi_visitor *visitor)
{
	if (!visitor)
		return;
	gmem_channel_close(visitor->channel);
	visitor->channel = NULL;
	(void)gmemi_visitor_answer(visitor);
	gmem_uffd_destroy(visitor->uffd);
	if (visitor->counter)
		atomic_fetch_sub(visitor->counter, 1);
	gmemi_free(visitor);
}

/* --- the end ------------------------------------------------------------------------------------------------------------ */

static void close_channel(struct gmemi_visitor *visitor)
{
	gmem_channel_close(visitor->channel);
	visitor->channel = NULL;
}

/* In its handshake, or before it was served. */
static void turn_away(struct gmemi_visitor *visitor, _Atomic uint64_t *counter)
{
	visitor->state = GMEMI_VISITOR_GONE;
	atomic_fetch_add(counter, 1);
}

/* The pager is told, and this goes on when it is done with it. The channel is heard no more. */
static void dismiss(struct gmemi_visitor *visitor, int reason)
{
	visitor->state = GMEMI_VISITOR_LEAVING;
	visitor->reason = reason;
	if (visitor->channel)
		(void)gmemi_sys_epoll_remove(visitor->server->epoll, visitor->channel->epoll);
	gmemi_pager_drop(visitor->server->pager, visitor->uffd);
}

void gmemi_visitor_stop(struct gmemi_visitor *visitor)
{
	if (visitor->state == GMEMI_VISITOR_COMING)
		turn_away(visitor, &visitor->server->broken);
	else if (visitor->state == GMEMI_VISITOR_SERVED)
		dismiss(visitor, -ESHUTDOWN);
}

static bool has_ended(struct gmemi_visitor *visitor)
{
	bool ended;

	pthread_mutex_lock(&visitor->server->lock);
	ended = visitor->ended;
	pthread_mutex_unlock(&visitor->server->lock);
	return ended;
}

/* The source goes after that: threads of the program may deliver by it until it has been told. */
static void take_leave(struct gmemi_visitor *visitor, int reason)
{
	struct gmem_server *server = visitor->server;

	visitor->state = GMEMI_VISITOR_GONE;
	atomic_fetch_add(&server->left, 1);
	if (server->ops.leave)
		server->ops.leave(server->user, visitor->uffd, reason);
	gmem_source_destroy(visitor->source);
	visitor->source = NULL;
}

/* So that its guard knows that another pager may take over. A peer that does not read it is no reason to wait. */
static void say_release(struct gmemi_visitor *visitor)
{
	struct gmem_channel *channel = visitor->channel;
	int code = visitor->reason;

	if (!channel || channel->broken || channel->ended || channel->protocol != GMEM_PROTOCOL_NATIVE)
		return;
	if (code == 0 && gmemi_uffd_remaining(visitor->uffd))
		code = -ECANCELED;
	if (gmemi_channel_say_release(channel, visitor->endpoint, code, visitor->pending) < 0)
		gmemi_tolerated();
}

void gmemi_visitor_take_end(struct gmemi_visitor *visitor)
{
	if (visitor->state != GMEMI_VISITOR_SERVED && visitor->state != GMEMI_VISITOR_LEAVING)
		return;
	if (!has_ended(visitor))
		return;
	if (visitor->state == GMEMI_VISITOR_SERVED && atomic_load(&visitor->uffd->owner_gone))
		visitor->reason = -ESRCH;
	visitor->state = GMEMI_VISITOR_GONE;
	gmemi_visitor_tell(visitor);
	say_release(visitor);
	take_leave(visitor, visitor->reason);
}

/* --- handshake ---------------------------------------------------------------------------------------------------------- */

static int ask_program(struct gmemi_visitor *visitor, struct gmem_pager_add_opts *opts)
{
	struct gmem_channel_info peer = { .size = sizeof(peer) };
	struct gmem_server *server = visitor->server;
	struct gmem_source *source = NULL;
	int r;

	if (atomic_load(&server->vms) >= server->max_vms)
		return gmemi_refuse(-EBUSY, "as many VMs are served as may be: %u", server->max_vms);
	r = gmem_channel_query(visitor->channel, &peer);
	if (r < 0)
		return r;
	r = server->ops.admit(server->user, &peer, visitor->uffd, &source, opts);
	if (r != 0)
		return gmemi_refuse(r < 0 ? r : -ECANCELED, "the VM is not admitted");
	visitor->source = source;
	return source ? 0 : gmemi_refuse(-EINVAL, "the VM was admitted without a source");
}

/* Whoever waited while its pager before had gone asks again. */
static int begin_service(struct gmemi_visitor *visitor, const struct gmem_pager_add_opts *opts)
{
	int r = gmemi_opts_flags(opts->flags, 0, "opts->flags");

	if (r == 0)
		r = gmemi_pager_add(visitor->server->pager, visitor->uffd, visitor->source, opts, &visitor->watch);
	if (r < 0)
		return r;
	gmemi_uffd_wake_all(visitor->uffd);
	return 0;
}

/* Admitted, and the pager cannot serve it. */
static void fail(struct gmemi_visitor *visitor, int code)
{
	(void)gmemi_channel_break(visitor->channel, code);
	take_leave(visitor, code);
}

static void serve(struct gmemi_visitor *visitor, const struct gmem_pager_add_opts *opts)
{
	struct gmem_server *server = visitor->server;
	int r = begin_service(visitor, opts);

	atomic_fetch_add(&server->admitted, 1);
	atomic_fetch_add(&server->vms, 1);
	atomic_fetch_sub(visitor->counter, 1);
	visitor->counter = &server->vms;
	if (r < 0) {
		fail(visitor, r);
		return;
	}
	visitor->state = GMEMI_VISITOR_SERVED;
	r = gmemi_channel_accept(visitor->channel);
	if (r < 0)
		dismiss(visitor, r);
}

static void arrive(struct gmemi_visitor *visitor)
{
	struct gmem_pager_add_opts opts = { .size = sizeof(opts) };
	int r;

	visitor->endpoint = visitor->channel->build.endpoint;
	r = ask_program(visitor, &opts);
	if (r == 0) {
		serve(visitor, &opts);
		return;
	}
	turn_away(visitor, &visitor->server->refused);
	(void)gmemi_channel_break(visitor->channel, r);
}

/* --- what a connection says --------------------------------------------------------------------------------------------- */

void gmemi_visitor_look(struct gmemi_visitor *visitor)
{
	if (!gmemi_uffd_owner_lives(visitor->uffd))
		dismiss(visitor, -ESRCH);
}

/* Of Firecracker's the connection may be closed when the handshake is over. */
static void hang_up(struct gmemi_visitor *visitor)
{
	if (!gmemi_uffd_owner_lives(visitor->uffd))
		dismiss(visitor, -ESRCH);
	else if (visitor->channel->protocol == GMEM_PROTOCOL_FIRECRACKER)
		close_channel(visitor);
	else
		dismiss(visitor, -ENOTCONN);
}

static void lose(struct gmemi_visitor *visitor, int code)
{
	if (visitor->state == GMEMI_VISITOR_COMING)
		turn_away(visitor, &visitor->server->broken);
	else if (code == -ENOTCONN)
		hang_up(visitor);
	else
		dismiss(visitor, code);
	gmemi_tolerated(); /* the program hears of the reason */
}

/* One VM a connection: another one is as good as a broken protocol. */
static void come_again(struct gmemi_visitor *visitor, struct gmem_uffd *another)
{
	gmem_uffd_destroy(another);
	lose(visitor, gmemi_refuse(-EPROTO, "a second endpoint on one connection"));
}

/* It does not wait for an answer to its handshake any more, but for this. */
static void give_up(struct gmemi_visitor *visitor)
{
	turn_away(visitor, &visitor->server->broken);
	(void)gmemi_channel_break(visitor->channel, gmemi_refuse(-ECANCELED, "the endpoint is let go before it is whole"));
}

static void hear_once(struct gmemi_visitor *visitor)
{
	struct gmem_uffd *uffd;
	int r = gmem_channel_recv(visitor->channel, visitor->server->vm, &uffd);

	if (r == 0 && visitor->uffd) {
		come_again(visitor, uffd);
	} else if (r == 0) {
		visitor->uffd = uffd;
		arrive(visitor);
	} else if (visitor->detached && visitor->state == GMEMI_VISITOR_SERVED) {
		dismiss(visitor, 0);
	} else if (r != -EAGAIN) {
		lose(visitor, r);
	} else if (visitor->gave_up && !visitor->uffd) {
		give_up(visitor);
	}
	gmemi_tolerated();
}

void gmemi_visitor_tell(struct gmemi_visitor *visitor)
{
	int r = gmemi_visitor_answer(visitor);

	if (r < 0 && visitor->state == GMEMI_VISITOR_SERVED)
		lose(visitor, r);
	gmemi_tolerated();
}

void gmemi_visitor_hear(struct gmemi_visitor *visitor)
{
	bool arrives;

	if (visitor->state > GMEMI_VISITOR_SERVED || !visitor->channel)
		return; /* by an event of this turn before */
	arrives = !visitor->uffd;
	hear_once(visitor);
	if (arrives && visitor->state == GMEMI_VISITOR_SERVED && visitor->channel->in_have)
		hear_once(visitor); /* what has come with the handshake: the socket says nothing of it any more */
	gmemi_visitor_tell(visitor);
}
