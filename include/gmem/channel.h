/* SPDX-License-Identifier: MIT */
/** @file gmem/channel.h
 * Guest memory that another process hands over: a UNIX socket on which its userfault endpoint, its files and its ranges come
 * in, and go into a pager here.
 *
 * Two protocols are spoken: the library's own (docs/guide/protocol.md), and the handshake of Firecracker, whose endpoints have
 * no memory file and are served by copying. What a peer sends is never believed: fds are looked at before they are used, ranges
 * before they are registered, and what is refused is closed.
 *
 * Handing memory out has no call here: it needs somebody who holds it while the other process may die.
 */
#ifndef GMEM_CHANNEL_H
#define GMEM_CHANNEL_H

#include <gmem/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gmem_uffd;
struct gmem_vm;

/** One end of a socket over which memory is handed over. Opaque. */
struct gmem_channel;

/** What is spoken on it. A later library may add protocols. */
enum gmem_protocol {
	GMEM_PROTOCOL_AUTO = 0,       /**< Who receives recognises it by the first byte; who sends speaks the library's own. */
	GMEM_PROTOCOL_NATIVE = 1,     /**< The library's own. */
	GMEM_PROTOCOL_FIRECRACKER = 2 /**< A JSON array with a userfaultfd beside it, in every form since Firecracker 1.1. */
};

/** Options of gmem_channel_open(). */
struct gmem_channel_open_opts {
	uint64_t size;        /**< sizeof(struct gmem_channel_open_opts) */
	uint64_t flags;       /**< none yet: 0 */
	uint64_t timeout_ns;  /**< that a handshake, or a message behind it, may take, from opening or its first byte on;
				   0 = 5 s; GMEM_FOREVER */
	uint64_t max_length;  /**< bytes of memory that one endpoint may bring, 0 = 16 TiB */
	const char *identity; /**< said to the peer: printable ASCII, 255 bytes at most, copied; NULL = "" */
	uint32_t protocol;    /**< enum gmem_protocol */
	uint32_t max_regions; /**< that one endpoint may have, 1,000,000 at most; 0 = 4096 */
	uint32_t max_memories; /**< files that one endpoint may bring, 64 at most, 0 = 64: with a page map each, and the endpoint's
				    own, these are twice as many fds and one */
	uint32_t reserved;     /**< must be 0 */
};

/** What gmem_channel_query() tells. */
struct gmem_channel_info {
	uint64_t size;        /**< sizeof(struct gmem_channel_info), set by the caller */
	uint64_t endpoints;   /**< that have come so far */
	const char *identity; /**< of the peer, as it says: printable ASCII, valid as long as the channel; or "" */
	uint32_t protocol;    /**< enum gmem_protocol; GMEM_PROTOCOL_AUTO: not recognised yet */
	uint32_t pid;         /**< of who connected, or made the pair: no proof of who holds the fds now */
	uint32_t uid;         /**< of the same, then */
	uint32_t gid;         /**< of the same, then */
};

/** Opens a channel on a connected socket.
 *
 * @param socket_fd  AF_UNIX, SOCK_STREAM or SOCK_SEQPACKET, connected; duplicated; need not be non-blocking
 * @param channel    out: the channel; give it up with gmem_channel_close()
 * @param opts       options, or NULL
 * @return 0; -EINVAL a NULL argument, a bad option, or `socket_fd` is no such socket; -ENOTCONN it is not connected;
 *         -E2BIG an option of a later library; -EBADF, -ENOTSOCK, -EMFILE, -ENFILE, -ENOMEM
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_channel_open(int socket_fd, struct gmem_channel **channel, const struct gmem_channel_open_opts *opts);

/** Closes the channel. Endpoints that came over it live on where somebody else holds them.
 *
 * @param channel  from gmem_channel_open(), or NULL; closed once
 *
 * @threads{object} @blocks{no} @since{0.1}
 */
GMEM_API void gmem_channel_close(struct gmem_channel *channel);

/** Takes the next endpoint, with its memories, ranges and page maps, once all of it has come.
 *
 * The endpoint is like one of gmem_uffd_import() on which the ranges are registered with GMEM_REGISTER_BY_PEER. Memories
 * that came with it belong to it, and go with it: not to be given to gmem_destroy(). Ranges without a memory file, all of
 * Firecracker's (but those in its guest_memfd), are spoken of by their addresses in the peer as offsets; their content is
 * where the peer said.
 *
 * A channel of the library's own protocol brings one endpoint at a time, and goes on bringing its changes: ranges that the
 * peer adds and takes away are registered and forgotten in this call, so call it again whenever the channel's fd is
 * readable. It keeps the endpoint alive until it is closed or the peer detaches it. A peer that detaches is not told when it is
 * let go: the last who uses the endpoint may be another thread, long after, with the channel closed. Its guard goes on when this
 * process has ended; a server (gmem/server.h), which knows when its pager is done, does tell.
 *
 * @param channel  the channel
 * @param vm       the VM that the endpoint and its memories are to belong to here: usually one without a fd
 * @param uffd     out: the endpoint; give it up with gmem_uffd_destroy()
 * @return 0; -EAGAIN not all of it has come yet: poll gmem_channel_get_fd(); -EPROTO the peer broke the protocol, or brought
 *         what is refused: the sentence says what, all of it is closed, and the channel is of no more use; -ETIMEDOUT the
 *         handshake took too long: the same; -ENOTCONN the peer has closed its end, with nothing begun; -EINVAL a NULL
 *         argument; -ENOMEM, -EMFILE and other codes of receiving and importing, after which the channel is of no more use
 *         either; -ESTALE after fork
 *
 * @threads{object} @blocks{no} @kernel{userfaultfd: 4.3 (fs/userfaultfd.c)} @since{0.1}
 */
GMEM_API int gmem_channel_recv(struct gmem_channel *channel, struct gmem_vm *vm, struct gmem_uffd **uffd);

/** The fd to poll: readable = gmem_channel_recv() has something to do, also when only the time for a handshake is over.
 *
 * @param channel  the channel
 * @return the fd, lent: not to be read or closed; -EINVAL for NULL
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_channel_get_fd(const struct gmem_channel *channel);

/** Who is at the other end, and what is spoken.
 *
 * @param channel  the channel
 * @param info     out: set `size` before
 * @return 0; -EINVAL a bad argument; -E2BIG `info->size` is above 4096
 *
 * @threads{object} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_channel_query(const struct gmem_channel *channel, struct gmem_channel_info *info);

#ifdef __cplusplus
}
#endif

#endif
