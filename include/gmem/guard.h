/* SPDX-License-Identifier: MIT */
/** @file gmem/guard.h
 * The VMM's hold on a userfault endpoint that another process serves.
 *
 * When the last fd of a userfaultfd is closed, whoever waits for a page reads zeros. So the VMM keeps one of its own as long as
 * it lives, and a guard is the only way to hand an endpoint out: whatever becomes of the pager, pages that are not there yet
 * stay blocked.
 *
 * The VMM polls gmem_guard_get_fd() and calls gmem_guard_run() when it is readable: there it hears of the pager's end.
 */
#ifndef GMEM_GUARD_H
#define GMEM_GUARD_H

#include <gmem/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gmem;
struct gmem_channel;
struct gmem_uffd;

/** Holds an endpoint that another process serves. Opaque. */
struct gmem_guard;

/** What becomes of pages that are not there yet when the pager is gone. */
enum gmem_guard_policy {
	GMEM_GUARD_BLOCK = 0,  /**< Whoever touches them waits. */
	GMEM_GUARD_POISON = 1, /**< Not yet: -EOPNOTSUPP. */
	GMEM_GUARD_ASK = 2     /**< Not yet: -EOPNOTSUPP. */
};

/** What a guard has seen. A later library may add events. */
enum gmem_guard_event {
	GMEM_GUARD_NONE = 0,     /**< As a state: no pager has been attached yet. */
	GMEM_GUARD_ATTACHED = 1, /**< A pager has taken the endpoint over. As an event: never; gmem_guard_attach() returns 0. */
	GMEM_GUARD_DEAD = 2,     /**< The pager's connection has ended, and so has its process: another may be attached. */
	GMEM_GUARD_SILENT = 3,   /**< Its connection has ended or broken, or it was too slow to answer gmem_guard_attach(), but
				      its process lives, or it is not known which one that is: it may still store into the
				      memory. GMEM_GUARD_DEAD follows when it ends; of one that was too slow
				      GMEM_GUARD_RELEASED, when it says that it has let go, or refuses after all. */
	GMEM_GUARD_RELEASED = 4, /**< The pager has let the endpoint go: another may be attached. */
	GMEM_GUARD_COMPLETE = 5, /**< Not yet. */
	GMEM_GUARD_STATISTICS = 6 /**< The pager has said what it has done: gmem_guard_query(). Never a state. */
};

/** Receives events, in a thread that is in gmem_guard_run(), with no lock held. It may call the library, also
 * gmem_guard_attach().
 *
 * @param user   as given in the options
 * @param event  what has happened
 * @return must be 0 = GMEM_GUARD_BLOCK: it will be asked for a policy by a later library
 *
 * @threads{callback} @since{0.1}
 */
typedef int (*gmem_guard_fn)(void *user, enum gmem_guard_event event);

/** Is told what became of a fault of gmem_guard_forward(), in a thread that is in gmem_guard_run(), with no lock held, after the
 * events of that turn. It may call the library, also gmem_guard_forward().
 *
 * @param user    as given in the options
 * @param cookie  as given to gmem_guard_forward()
 * @param result  0 the range is there: run the vCPU again; -ENOTCONN the pager has gone, or let go: send it to the next one;
 *                -ENOENT the pager does not watch the range, or is letting go; -EAGAIN it has too many to do; -EIO and other
 *                codes: the content cannot be had, and the pages may be poisoned
 *
 * @threads{callback} @since{0.1}
 */
typedef void (*gmem_guard_done_fn)(void *user, uint64_t cookie, int result);

/** Options of gmem_guard_create(). */
struct gmem_guard_create_opts {
	uint64_t size;       /**< sizeof(struct gmem_guard_create_opts) */
	uint64_t flags;      /**< none yet: 0 */
	uint64_t silence_ns; /**< how long a pager may say nothing; not yet, but 0 = for ever: -EOPNOTSUPP */
	gmem_guard_fn event; /**< told of events, or NULL */
	void *user;          /**< for `event` and `done` */
	uint32_t policy;     /**< enum gmem_guard_policy */
	uint32_t reserved;   /**< must be 0 */
	gmem_guard_done_fn done; /**< told of faults that were forwarded, or NULL: there will be none */
};

/** Flags of gmem_guard_forward_opts. */
#define GMEM_FORWARD_WRITE UINT64_C(1) /**< It was a write. */

/** Options of gmem_guard_forward(): what the pager may like to know. */
struct gmem_guard_forward_opts {
	uint64_t size;     /**< sizeof(struct gmem_guard_forward_opts) */
	uint64_t flags;    /**< GMEM_FORWARD_* */
	uint32_t vcpu;     /**< that waits */
	uint32_t reserved; /**< must be 0 */
};

/** What gmem_guard_query() tells. */
struct gmem_guard_info {
	uint64_t size;      /**< sizeof(struct gmem_guard_info), set by the caller */
	uint64_t deaths;    /**< pagers that were gone without having let go */
	uint64_t remaining; /**< bytes that are empty in the page maps */
	uint32_t state;     /**< the last enum gmem_guard_event */
	uint32_t pager_pid; /**< of who answered, or (Firecracker's protocol) made the socket; 0 = none, or not known */
	/* What the last pager attached has said of itself since it has the endpoint; not to be believed more than it is. */
	uint64_t pager_answers;   /**< how often it has said so: 0 = the others say nothing */
	uint64_t pager_faults;    /**< page faults */
	uint64_t pager_bytes;     /**< filled */
	uint64_t pager_zeroed;    /**< pages made zeros */
	uint64_t pager_poisoned;  /**< pages */
	uint64_t pager_remaining; /**< bytes that are empty */
	uint64_t pager_errors;    /**< of its source */
};

/** Holds an endpoint.
 *
 * @param uffd   the endpoint, made by this process: kept alive
 * @param guard  out: the guard; give it up with gmem_guard_destroy()
 * @param opts   options, or NULL
 * @return 0; -EINVAL a NULL argument or bad option; -EBADFD the endpoint is another process's; -EBUSY a pager of this process
 *         serves it, or another guard holds it; -EOPNOTSUPP a policy or option of a later library; -E2BIG ditto; -EMFILE,
 *         -ENFILE, -ENOMEM; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_guard_create(struct gmem_uffd *uffd, struct gmem_guard **guard, const struct gmem_guard_create_opts *opts);

/** Gives up the guard: tells the pager to let go, gives up its claim on the channel, and waits for nothing. The connection ends
 * when the caller has given the channel to gmem_channel_close() as well. Pages that are not there yet stay blocked as long as
 * their memory lives: gmem_destroy() of it ends that.
 *
 * @param guard  from gmem_guard_create(), or NULL; destroyed once, not from its event callback
 *
 * @threads{object} @blocks{no} @since{0.1}
 */
GMEM_API void gmem_guard_destroy(struct gmem_guard *guard);

/** Hands the endpoint to the pager at the other end of a channel: the userfaultfd, the memories with their page maps, and all
 * ranges; and returns when that has taken them over.
 *
 * Until it ends or is released, ranges of the endpoint that gmem_uffd_register() adds and gmem_uffd_unregister() or
 * gmem_destroy() takes away are told to it, by whoever calls those.
 *
 * With the library's own protocol another pager can be attached when the one before is GMEM_GUARD_DEAD or
 * GMEM_GUARD_RELEASED: page maps tell it what is there, and who waits is woken to ask again. With that of Firecracker only
 * once: there is no page map, and no answer; the ranges must have GMEM_STRATEGY_COPY.
 *
 * Leave it time: when it ends with -EINTR or -ETIMEDOUT while the pager decides whether to take the memory, that pager may have
 * it, and another, or the same, can be attached when gmem_guard_run() has told GMEM_GUARD_RELEASED or GMEM_GUARD_DEAD.
 *
 * @param guard    the guard
 * @param channel  a new channel, of which this is the first use: the guard's afterwards, whatever the result, but for -EINVAL
 *                 and -EBADFD; still to be given to gmem_channel_close() by the caller, at any time
 * @return 0; -EINVAL a NULL argument; -EBUSY a pager is attached, or it is not certain that it is dead: a pager that lives
 *         cannot have the memory taken away; or a pager of this process serves the endpoint; -EBADFD the channel has been used
 *         for something else, or the endpoint watches nothing; -EOPNOTSUPP the protocol cannot express what the endpoint
 *         watches, or a second pager; -ETIMEDOUT no answer in the channel's time; -EPROTO the pager refused, or broke the
 *         protocol: the sentence says what; -EPIPE, -ENOTCONN it has gone; -EINTR a signal came, and the channel is of no more
 *         use; -ENOMEM; -ESTALE after fork. A pager that failed after it was sent the endpoint may have it, and another one
 *         is -EBUSY until gmem_guard_run() tells that it has not: after -ETIMEDOUT and -EINTR it is asked to let go, and the
 *         guard keeps the connection until it says so, or ends
 *
 * @threads{object} @blocks{waits} (for the pager, as long as the channel lets a handshake take) @since{0.1}
 */
GMEM_API int gmem_guard_attach(struct gmem_guard *guard, struct gmem_channel *channel);

/** Asks the pager what it has done so far. The answer comes to gmem_guard_run(), as GMEM_GUARD_STATISTICS, and is in
 * gmem_guard_query() from then on; a pager need not answer, and may answer several questions at once.
 *
 * @param guard  the guard
 * @return 0; -ENOTCONN no pager is attached, or it has just gone; -EOPNOTSUPP it is served by Firecracker's protocol; -EAGAIN the
 *         pager does not read what it is sent; -EPIPE, -ECONNRESET the connection has failed: gmem_guard_run() tells; -EINVAL for
 *         NULL; -ESTALE after fork
 *
 * @threads{any} @blocks{waits} (while a range is told to the pager by who registers or unregisters it) @since{0.1}
 */
GMEM_API int gmem_guard_ask(struct gmem_guard *guard);

/** Sends the pager a fault that the userfaultfd does not tell it of: of a vCPU that has come back with KVM_EXIT_MEMORY_FAULT,
 * say. The pager brings the range in as if somebody had touched it, and `done` is told in gmem_guard_run() when it is there, or
 * will not come. None is lost: a pager that ends or lets go has answered with -ENOTCONN. After gmem_guard_destroy() nothing is told
 * any more.
 *
 * @param guard   the guard, made with `done`
 * @param mem     that the endpoint watches, NULL = what has no memory: `offset` is then as when it was registered
 * @param offset  bytes
 * @param length  bytes, not 0: all pages that have some of them; a pager may refuse more than 2 MiB, or one page that is larger
 * @param cookie  for `done`: anything
 * @param opts    options, or NULL
 * @return 0 `done` will be told; -EINVAL a bad argument, or the guard has no `done`; -ENOENT the endpoint watches nothing of the
 *         memory; -ENOTCONN no pager is attached, or it has just gone; -EOPNOTSUPP it is served by Firecracker's protocol;
 *         -EAGAIN 128 are under way, or the pager does not read what it is sent; -EPIPE, -ECONNRESET the connection has failed;
 *         -E2BIG an option of a later library; -ENOMEM; -ESTALE after fork
 *
 * @threads{any} @blocks{waits} (while a range is told to the pager by who registers or unregisters it) @since{0.1}
 */
GMEM_API int gmem_guard_forward(struct gmem_guard *guard, struct gmem *mem, uint64_t offset, uint64_t length, uint64_t cookie,
				const struct gmem_guard_forward_opts *opts);

/** The fd to poll, always: readable = gmem_guard_run() has something to do.
 *
 * @param guard  the guard
 * @return the fd, lent: not to be read or closed; -EINVAL for NULL
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_guard_get_fd(const struct gmem_guard *guard);

/** Takes what the fd announced, and tells the events.
 *
 * While no pager is there it also reads the endpoint's events, so that a madvise() of this process on a watched range does not
 * wait for a pager that is not there.
 *
 * @param guard       the guard
 * @param timeout_ns  nanoseconds to wait for something; 0 = what is there; GMEM_FOREVER
 * @return how many events and faults were told, 0 = none in time; -EINTR a signal came; -EINVAL for NULL; -EDEADLK from its event
 *         callback; -ESTALE after fork
 *
 * @threads{object} @blocks{waits} (for the pager) @since{0.1}
 */
GMEM_API int gmem_guard_run(struct gmem_guard *guard, uint64_t timeout_ns);

/** How things are.
 *
 * @param guard  the guard
 * @param info   out: set `size` before
 * @return 0; -EINVAL a bad argument; -E2BIG `info->size` is above 4096; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_guard_query(const struct gmem_guard *guard, struct gmem_guard_info *info);

#ifdef __cplusplus
}
#endif

#endif
