/* SPDX-License-Identifier: MIT */
/* Making and ending a server. */
#include "server.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"

#define DEFAULT_VMS 1024
#define DEFAULT_HANDSHAKES 64

/* --- arguments ---------------------------------------------------------------------------------------------------------- */

static int check_listener(int fd)
{
	struct gmemi_socket about;
	int r = gmemi_sys_socket(fd, &about);

	if (r < 0)
		return gmemi_failed(r, "asking about the socket", r == -ENOTSOCK ? "it is none" : NULL);
	if (!about.unix_domain || (!about.stream && !about.packets) || !about.listens)
		return gmemi_refuse(-EINVAL, "fd %d is no listening AF_UNIX socket of type SOCK_STREAM or SOCK_SEQPACKET", fd);
	return 0;
}

/* The options of a connection are checked when there is one; here by themselves, so that the caller hears of mistakes. */
static int take_opts(struct gmem_server *server, const struct gmem_server_create_opts *given)
{
	struct gmem_server_create_opts o;
	int r = GMEMI_OPTS_IN(o, given);

	if (r == 0)
		r = gmemi_opts_flags(o.flags, 0, "opts->flags");
	if (r == 0)
		r = gmemi_channel_opts(&server->channel, o.channel);
	if (r < 0)
		return r;
	server->channel.size = sizeof(server->channel);
	if (server->channel.identity) {
		memcpy(server->identity, server->channel.identity, strnlen(server->channel.identity, GMEMI_IDENTITY));
		server->channel.identity = server->identity;
	}
	server->max_vms = o.max_vms ? o.max_vms : DEFAULT_VMS;
	server->max_handshakes = o.max_handshakes ? o.max_handshakes : DEFAULT_HANDSHAKES;
	return 0;
}

static int take_ops(struct gmem_server *server, const struct gmem_server_ops *ops)
{
	int r;

	if (!ops)
		return gmemi_refuse(-EINVAL, "ops is NULL");
	r = GMEMI_OPTS_IN(server->ops, ops);
	if (r == 0 && !server->ops.admit)
		r = gmemi_refuse(-EINVAL, "ops->admit is NULL");
	return r;
}

/* --- create and destroy ------------------------------------------------------------------------------------------------- */

/* accept() of a socket that blocks could wait for ever, for a connection that somebody else has taken. */
static int open_listener(struct gmem_server *server, int fd)
{
	int flags;

	server->listener = gmemi_sys_dup(fd);
	if (server->listener < 0)
		return gmemi_failed(server->listener, "duplicating the socket", NULL);
	flags = gmemi_sys_open_flags(server->listener);
	if (flags >= 0)
		flags = gmemi_sys_set_flags(server->listener, flags | O_NONBLOCK);
	return flags < 0 ? gmemi_failed(flags, "making the socket non-blocking", NULL) : 0;
}

static int open_fds(struct gmem_server *server, int fd)
{
	int r = open_listener(server, fd);

	if (r < 0)
		return r;
	server->epoll = gmemi_sys_epoll();
	server->timer = gmemi_sys_timer();
	server->wakeup = gmemi_sys_eventfd();
	r = server->epoll < 0 ? server->epoll : server->timer < 0 ? server->timer : server->wakeup;
	if (r >= 0)
		r = gmemi_sys_epoll_add(server->epoll, server->timer, EPOLLIN, (uintptr_t)&server->timer);
	if (r == 0)
		r = gmemi_sys_epoll_add(server->epoll, server->wakeup, EPOLLIN, (uintptr_t)&server->wakeup);
	return r < 0 ? gmemi_failed(r, "making what the server waits on", NULL) : 0;
}

static struct gmem_server *new_server(struct gmem_pager *pager, void *user)
{
	struct gmem_server *server = gmemi_alloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->pager = pager;
	server->user = user;
	server->process = gmemi_sys_process();
	server->listener = server->epoll = server->timer = server->wakeup = -1;
	pthread_mutex_init(&server->lock, NULL);
	pthread_mutex_init(&server->listen_lock, NULL);
	return server;
}

static void end(struct gmem_server *server)
{
	gmem_vm_close(server->vm);
	gmemi_sys_close(server->listener);
	gmemi_sys_close(server->epoll);
	gmemi_sys_close(server->timer);
	gmemi_sys_close(server->wakeup);
	pthread_mutex_destroy(&server->lock);
	pthread_mutex_destroy(&server->listen_lock);
	gmemi_free(server);
}

static int begin(struct gmem_server *server, int listen_fd)
{
	int r = open_fds(server, listen_fd);

	if (r == 0)
		r = gmem_vm_open(-1, &server->vm, NULL);
	if (r < 0)
		return r;
	r = gmemi_sys_thread(&server->thread, gmemi_server_body, server);
	return r < 0 ? gmemi_failed(r, "making a thread", NULL) : 0;
}

int gmem_server_create(struct gmem_pager *pager, int listen_fd, const struct gmem_server_ops *ops, void *user,
		       struct gmem_server **result, const struct gmem_server_create_opts *opts)
{
	struct gmem_server *server;
	int r;

	GMEMI_CALL();
	r = gmemi_pager_check(pager);
	if (r == 0 && !result)
		r = gmemi_refuse(-EINVAL, "server is NULL");
	if (r < 0)
		return r;
	server = new_server(pager, user);
	if (!server)
		return -ENOMEM;
	r = take_ops(server, ops);
	if (r == 0)
		r = take_opts(server, opts);
	if (r == 0)
		r = check_listener(listen_fd);
	if (r == 0)
		r = begin(server, listen_fd);
	if (r < 0)
		end(server);
	else
		*result = server;
	return r;
}

int gmem_server_stop_accepting(struct gmem_server *server)
{
	GMEMI_CALL();
	if (!server)
		return gmemi_refuse(-EINVAL, "the server is NULL");
	if (server->process != gmemi_sys_process())
		return gmemi_refuse(-ESTALE, "the handle was made before fork: the parent goes on accepting");
	pthread_mutex_lock(&server->listen_lock);
	if (server->listens) /* others may have the socket: closing this end alone would not end the events of it */
		(void)gmemi_sys_epoll_remove(server->epoll, server->listener);
	gmemi_sys_close(server->listener);
	server->listener = -1;
	server->listens = false;
	pthread_mutex_unlock(&server->listen_lock);
	return 0;
}

/* In a forked child there is no thread, and visitors may be in the middle of anything: their copies stay. */
void gmem_server_destroy(struct gmem_server *server)
{
	GMEMI_CALL();
	if (!server)
		return;
	if (gmemi_server_is_inside(server) || gmemi_pager_is_inside(server->pager)) {
		gmemi_note(GMEM_LOG_ERROR, "gmem_server_destroy: called from a callback of the server or its pager: it stays");
		return;
	}
	if (server->process == gmemi_sys_process()) {
		atomic_store(&server->stopping, true);
		gmemi_sys_eventfd_raise(server->wakeup);
		gmemi_sys_join(server->thread);
		if (server->ops.release)
			server->ops.release(server->user);
	}
	end(server);
}

int gmem_server_query(const struct gmem_server *server, struct gmem_server_info *info)
{
	struct gmem_server_info now;
	int r;

	GMEMI_CALL();
	r = server ? gmemi_info_check(info, "info") : gmemi_refuse(-EINVAL, "the server is NULL");
	if (r < 0)
		return r;
	now = (struct gmem_server_info){
		.vms = atomic_load(&server->vms),
		.handshakes = atomic_load(&server->handshakes),
		.admitted = atomic_load(&server->admitted),
		.refused = atomic_load(&server->refused),
		.broken = atomic_load(&server->broken),
		.left = atomic_load(&server->left),
	};
	gmemi_info_out(info, &now, sizeof(now));
	return 0;
}
