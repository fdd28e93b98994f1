/* SPDX-License-Identifier: MIT */
/** @file gmem/server.h
 * Serves whoever comes: VMs connect to a listening UNIX socket, hand their memory over (gmem/channel.h has the protocols), and
 * a pager here fills it from the source that the program chooses for each.
 *
 * A server has one thread of its own, "gmem-server", which accepts, takes the handshakes and hears of VMs that have gone; page
 * faults are served by the pager's threads alone, so no handshake, and no peer that stalls in one, delays them.
 */
#ifndef GMEM_SERVER_H
#define GMEM_SERVER_H

#include <gmem/channel.h>
#include <gmem/pager.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Accepts VMs and has a pager serve them. Opaque. */
struct gmem_server;

/** What the program does. All but `admit` may be NULL. */
struct gmem_server_ops {
	uint64_t size; /**< sizeof(struct gmem_server_ops) */
	/** A VM has handed over its memory: choose its source, or refuse it with a negative errno, which the VM is told
	 * (-EACCES and -EPERM as "denied", -EBUSY as "busy", others as "failed").
	 *
	 * It runs in the server's thread: while it takes its time, other VMs wait to be admitted, but the faults of those that
	 * were go on being served. It may call the library, but for gmem_server_destroy().
	 *
	 * @param user    as given to gmem_server_create()
	 * @param peer    who it is, valid during the call: pid and uid as the kernel has them of who connected, identity as it
	 *                says
	 * @param uffd    the endpoint, with its ranges; valid until `leave` returns
	 * @param source  out: where its content comes from; the server's from then on, which destroys it when `leave` has returned
	 * @param opts    for gmem_pager_add(), preset to zeros: may be changed
	 * @return 0, or a negative errno: nothing is taken, and `leave` is not called
	 */
	int (*admit)(void *user, const struct gmem_channel_info *peer, struct gmem_uffd *uffd, struct gmem_source **source,
		     struct gmem_pager_add_opts *opts);
	/** A VM that was admitted is served no more: nothing reads its source and nothing touches its memory any more. In the
	 * server's thread, or in gmem_server_destroy().
	 *
	 * Threads of the program that deliver late (gmem_source_deliver()) may use the source until this has returned, and have
	 * to be done with it by then: the server destroys it next. What they deliver meanwhile goes to nobody (-ENOTCONN).
	 *
	 * @param user    as given to gmem_server_create()
	 * @param uffd    the endpoint, the one that `admit` was asked about, and all that says which VM it is: a program keeps
	 *                what it knows of each in a table by that. Valid until the return; gmem_uffd_query() still tells what
	 *                was done
	 * @param reason  0 the VM has let go (gmem_guard_destroy()), or the program has (gmem_pager_finish(),
	 *                gmem_pager_remove()); -ESRCH the VM has ended; -ENOTCONN it has closed its connection and lives (not
	 *                with Firecracker's protocol, where that means nothing); -ESHUTDOWN the server is being destroyed; -EPIPE it
	 *                had gone before it was told that it is served; -EPROTO,
	 *                -ETIMEDOUT and other codes of gmem_channel_recv(): what came after the handshake was refused; codes of
	 *                gmem_pager_add()
	 */
	void (*leave)(void *user, struct gmem_uffd *uffd, int reason);
	/** The server is gone, and `user` is not needed any more.
	 *
	 * @param user  as given to gmem_server_create()
	 */
	void (*release)(void *user);
	/** Somebody has connected, and nothing of what they say has been read: may they go on? Whoever is refused takes none of
	 * `max_handshakes` places: the connection is closed at once, and told "denied" or the like in the library's own
	 * protocol as far as that needs no waiting. In the server's thread; it should not take its time.
	 *
	 * @param user  as given to gmem_server_create()
	 * @param peer  who it is, valid during the call: pid, uid and gid as the kernel has them of who connected; the identity
	 *              is "", and nothing has come
	 * @return 0 it may say what it wants, and `admit` is asked later; or a negative errno as of `admit`
	 */
	int (*meet)(void *user, const struct gmem_channel_info *peer);
};

/** Options of gmem_server_create(). */
struct gmem_server_create_opts {
	uint64_t size;                                /**< sizeof(struct gmem_server_create_opts) */
	uint64_t flags;                               /**< none yet: 0 */
	const struct gmem_channel_open_opts *channel; /**< for every connection: time of a handshake, bytes, ranges and files of a VM,
							   protocol, identity; copied; NULL = defaults */
	uint32_t max_vms;        /**< served at a time, 0 = 1024; those beyond are told that the server is busy */
	uint32_t max_handshakes; /**< under way at a time, 0 = 64; those beyond wait in the listening socket */
};

/** What gmem_server_query() tells. */
struct gmem_server_info {
	uint64_t size;       /**< sizeof(struct gmem_server_info), set by the caller */
	uint64_t vms;        /**< served now, with those that are about to leave */
	uint64_t handshakes; /**< under way now */
	uint64_t admitted;   /**< VMs so far */
	uint64_t refused;    /**< so far: by `meet` or `admit`, or since too many were served */
	uint64_t broken;     /**< handshakes so far that failed: out of time, against the protocol, closed */
	uint64_t left;       /**< VMs so far that have left */
};

/** Begins to accept VMs.
 *
 * The connection of a VM is kept until it leaves. A VM whose connection ends is let go at once; one that speaks Firecracker's
 * protocol may close its connection and be served on: its end is then noticed within a second, or by a fault that cannot be
 * served.
 *
 * @param pager      that serves them: started or not; to be destroyed after the server
 * @param listen_fd  AF_UNIX, SOCK_STREAM or SOCK_SEQPACKET, listening; duplicated, and made non-blocking, which the duplicate
 *                   shares with it; its file in a file system, and who may
 *                   connect to that, are the caller's
 * @param ops        what the program does, copied
 * @param user       for `ops`
 * @param server     out: the server; give it up with gmem_server_destroy()
 * @param opts       options, or NULL
 * @return 0; -EINVAL a NULL argument, a bad option, or `listen_fd` is no such socket; -E2BIG an option or op of a later
 *         library; -EBADF, -ENOTSOCK, -EMFILE, -ENFILE, -ENOMEM; -EAGAIN no thread can be made; -ESTALE after fork. `release` is called
 *         on success only, later
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_server_create(struct gmem_pager *pager, int listen_fd, const struct gmem_server_ops *ops, void *user,
				struct gmem_server **server, const struct gmem_server_create_opts *opts);

/** Accepts no more; handshakes that are under way go on, and VMs go on being served. The server's duplicate of the listening
 * socket is closed at the return: when the caller has closed its own, who connects is refused, and so is who was waiting to be
 * accepted; where somebody else has the socket, such as a service manager, they wait for the next who accepts there.
 *
 * @param server  the server
 * @return 0, also when it has stopped before; -EINVAL for NULL; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_server_stop_accepting(struct gmem_server *server);

/** Accepts no more, lets every VM go, and frees the server. Whoever waits for a page goes on waiting: a VM whose guard finds
 * its pager gone can hand its memory to another one.
 *
 * @param server  from gmem_server_create(), or NULL; destroyed once, not from a callback of the server, or of the pager
 *
 * @threads{object} @blocks{waits} (for callbacks, and fills under way) @since{0.1}
 */
GMEM_API void gmem_server_destroy(struct gmem_server *server);

/** What the server does.
 *
 * @param server  the server
 * @param info    out: set `size` before
 * @return 0; -EINVAL a bad argument; -E2BIG `info->size` is above 4096
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_server_query(const struct gmem_server *server, struct gmem_server_info *info);

#ifdef __cplusplus
}
#endif

#endif
