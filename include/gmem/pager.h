/* SPDX-License-Identifier: MIT */
/** @file gmem/pager.h
 * Serves the page faults of many userfault endpoints from page sources.
 *
 * A pager gets its time in one of three ways, which do the same: threads of its own (gmem_pager_start()), threads that the
 * program lends (gmem_pager_run()), or a turn of the program's event loop (poll gmem_pager_get_fd(), then
 * gmem_pager_run() with timeout 0).
 */
#ifndef GMEM_PAGER_H
#define GMEM_PAGER_H

#include <gmem/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gmem;
struct gmem_source;
struct gmem_uffd;

/** Serves endpoints. Opaque. */
struct gmem_pager;

/** How much is brought in around a page that somebody waits for. Pages of zeros are left for whoever comes for them; but once
 * faults come in sequence, with anything but GMEM_AROUND_NONE, they come along. */
enum gmem_around {
	GMEM_AROUND_ADAPTIVE = 0, /**< 16 KiB, and up to 64 KiB while faults come in sequence. */
	GMEM_AROUND_NONE = 1,     /**< The page alone. */
	GMEM_AROUND_FIXED = 2     /**< `around` bytes. */
};

/** What a pager tells the program. A later library may add kinds. */
enum gmem_pager_event_kind {
	GMEM_PAGER_SOURCE_FAILED = 1, /**< The content of a range cannot be had before the deadline: the answer decides. */
	GMEM_PAGER_OWNER_GONE = 2,    /**< The process that the memory belongs to has ended: the endpoint is let go. */
	GMEM_PAGER_COMPLETE = 3,      /**< Every page of the endpoint is filled or discarded. */
	GMEM_PAGER_PROTECTED = 4      /**< Somebody writes to pages that gmem_uffd_protect() protects: let in after the return. */
};

/** What becomes of pages whose content cannot be had. */
enum gmem_failure {
	GMEM_FAILURE_POISON = 0, /**< Touching them is SIGBUS, to a thread in KVM_RUN too: without a handler that ends the process.
				      Before kernel 6.6: as WAIT. */
	GMEM_FAILURE_WAIT = 1    /**< Whoever waits goes on waiting, until gmem_source_deliver() brings them, or -EAGAIN. */
};

/** One event. */
struct gmem_pager_event {
	uint64_t size;          /**< bytes of the struct that the library knows */
	struct gmem_uffd *uffd; /**< the endpoint */
	struct gmem *mem;       /**< SOURCE_FAILED, PROTECTED: the memory, NULL = one without a file here */
	uint64_t offset;        /**< SOURCE_FAILED, PROTECTED: where in the memory; bytes */
	uint64_t length;        /**< SOURCE_FAILED, PROTECTED: bytes */
	uint32_t kind;          /**< enum gmem_pager_event_kind */
	int32_t error;          /**< SOURCE_FAILED: the last code of the source; -ETIMEDOUT it did not answer */
};

/** Receives events, in a thread that serves. It may call the library, but for calls that wait for the pager: those are
 * -EDEADLK there.
 *
 * @param user   as given in the options
 * @param event  valid during the call
 * @return for GMEM_PAGER_SOURCE_FAILED an enum gmem_failure; else ignored
 *
 * @threads{callback} @since{0.1}
 */
typedef int (*gmem_pager_fn)(void *user, const struct gmem_pager_event *event);

/** Options of gmem_pager_create(). */
struct gmem_pager_create_opts {
	uint64_t size;          /**< sizeof(struct gmem_pager_create_opts) */
	uint64_t flags;         /**< none yet: 0 */
	uint64_t deadline_ns;   /**< how long a source is asked for one page, retries included; 0 = 10 s; GMEM_FOREVER */
	uint64_t around;        /**< with GMEM_AROUND_FIXED: bytes, a power of two, 2 MiB at most; else 0 */
	const uint64_t *cpus;   /**< where its own threads run: bit n of the words = CPU n, copied; NULL = see below */
	gmem_pager_fn event;    /**< told of events, or NULL: pages that cannot be had are poisoned */
	void *user;             /**< for `event` */
	uint32_t cpu_words;     /**< words at `cpus` */
	uint32_t threads;       /**< that gmem_pager_start() makes, 64 at most, 0 = 1; more are made, up to as many for each source,
				   while sources block: those stay, and serve, until gmem_pager_stop() */
	uint32_t around_mode;   /**< enum gmem_around */
	uint32_t reserved;      /**< must be 0 */
};

/** Options of gmem_pager_add(). */
struct gmem_pager_add_opts {
	uint64_t size;       /**< sizeof(struct gmem_pager_add_opts) */
	uint64_t flags;      /**< none yet: 0 */
	uint64_t background; /**< bytes a second that are filled without being asked for, 0 = none, UINT64_MAX = no cap */
	uint64_t ahead;      /**< bytes behind a fault that are allocated, not filled, once it is resolved; 0 = none */
	uint64_t max_faults; /**< events a second that are read of it, page faults and others, 0 = no limit: whoever causes more
				  waits until they are read; those of a tenth of a second may come at once */
};

/** What gmem_pager_query() tells. */
struct gmem_pager_info {
	uint64_t size;      /**< sizeof(struct gmem_pager_info), set by the caller */
	uint64_t endpoints; /**< served now */
	uint64_t threads;   /**< of its own, now */
	uint64_t queued;    /**< page faults read and not resolved yet, of all endpoints */
	uint64_t faults;    /**< page faults read, of all endpoints so far */
	uint64_t bytes;     /**< of content filled, of all endpoints so far */
	uint64_t poisoned;  /**< pages, of all endpoints so far */
	uint64_t busy_ns;   /**< that its threads, lent ones too, have spent serving */
};

/** Makes a pager; it has no thread yet.
 *
 * Where its own threads run: a fault costs least when it is served on the CPU of whoever waits (measured: 10 against 48 us
 * from an idle CPU). With `cpus` all threads keep to those. Without, a thread moves to the CPU that the faults it serves come
 * from where those threads are pinned to one CPU each, and else runs where the scheduler puts it.
 *
 * @param pager  out: the pager; give it up with gmem_pager_destroy()
 * @param opts   options, or NULL
 * @return 0; -EINVAL a NULL argument or bad option; -E2BIG an option of a later library; -ENOMEM, -EMFILE, -ENFILE
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_pager_create(struct gmem_pager **pager, const struct gmem_pager_create_opts *opts);

/** Stops the pager, lets all endpoints go and frees it. Whoever waits for a page goes on waiting.
 *
 * @param pager  from gmem_pager_create(), or NULL; destroyed once, not from a callback; no thread is lent to it any more
 *
 * @threads{object} @blocks{waits} (for its threads, and callbacks of sources in them) @since{0.1}
 */
GMEM_API void gmem_pager_destroy(struct gmem_pager *pager);

/** Serves an endpoint from a source; running or not.
 *
 * @param pager   the pager
 * @param uffd    the endpoint, kept alive until it is let go; regions may be registered later
 * @param source  where content comes from, kept alive likewise
 * @param opts    options, or NULL
 * @return 0; -EINVAL a NULL argument or bad option; -EEXIST the pager serves it; -EBUSY another pager serves it; -E2BIG an
 *         option of a later library; -ENOMEM, -ENOSPC of epoll; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_pager_add(struct gmem_pager *pager, struct gmem_uffd *uffd, struct gmem_source *source,
			    const struct gmem_pager_add_opts *opts);

/** Lets an endpoint go: no new faults of it are read, what is under way is ended, the rest stays blocked for a successor.
 *
 * @param pager    the pager
 * @param uffd     the endpoint
 * @param pending  out, may be NULL: page faults that were read and stay unresolved; a successor that begins with
 *                 gmem_uffd_resolve(..., GMEM_RESOLVE_WAKE, ...) over all regions hears of them again
 * @return 0; -EINVAL a NULL argument; -ENOENT the pager does not serve it; -EDEADLK called from a callback of this pager
 *
 * @threads{any} @blocks{waits} (for fills, and callbacks of its source) @since{0.1}
 */
GMEM_API int gmem_pager_remove(struct gmem_pager *pager, struct gmem_uffd *uffd, uint64_t *pending);

/** Fills every page of an endpoint that is still empty, at full speed whatever `background` says, ends the watching of its
 * regions and lets it go: afterwards the pager does not know it any more. Somebody else has to serve meanwhile; a program that
 * serves in its own turns alone calls this with timeout 0 between them. The filling goes on after -ETIMEDOUT and -EINTR.
 *
 * @param pager       the pager, which has threads, its own or lent ones
 * @param uffd        the endpoint
 * @param timeout_ns  nanoseconds, or GMEM_FOREVER
 * @return 0; -ETIMEDOUT it is still served, call again; -EIO pages are poisoned or their source failed: they stay watched, and
 *         the endpoint served; -EINTR a signal came; -ESHUTDOWN the pager was stopped; -EINVAL, -ENOENT, -EDEADLK as
 *         gmem_pager_remove()
 *
 * @threads{any} @blocks{waits} (for the source) @since{0.1}
 */
GMEM_API int gmem_pager_finish(struct gmem_pager *pager, struct gmem_uffd *uffd, uint64_t timeout_ns);

/** Asks for a range in the background, before other background work.
 *
 * @param pager   the pager
 * @param uffd    the endpoint
 * @param mem     as registered
 * @param offset  bytes, a multiple of the page size
 * @param length  bytes, a multiple of the page size, not 0
 * @return 0; -EINVAL a bad argument; -ENOENT the pager does not serve the endpoint, or it does not watch the range; -EAGAIN
 *         too many are queued (64)
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_pager_prefetch(struct gmem_pager *pager, struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset,
				 uint64_t length);

/** Starts the pager's own threads, named "gmem-pager". They block all signals but those of their own faults.
 *
 * @param pager  the pager
 * @return 0, also when it has been started; -EINVAL for NULL; -EAGAIN no thread can be made; -ENOMEM; -EDEADLK from a
 *         callback of this pager; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_pager_start(struct gmem_pager *pager);

/** Serves in the calling thread; several may, also beside the pager's own.
 *
 * @param pager       the pager
 * @param timeout_ns  nanoseconds to wait for the first event; 0 = what is there; GMEM_FOREVER = serve until it is stopped
 * @return how much was done, 0 = nothing in time; -EINTR a signal came; -ESHUTDOWN it was stopped; -EINVAL for NULL;
 *         -EDEADLK from a callback of this pager
 *
 * @threads{any} @blocks{waits} (for faults, and for a source that blocks) @since{0.1}
 */
GMEM_API int gmem_pager_run(struct gmem_pager *pager, uint64_t timeout_ns);

/** The fd to poll: readable = gmem_pager_run() has something to do.
 *
 * @param pager  the pager
 * @return the fd, lent: not to be read or closed; -EINVAL for NULL
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_pager_get_fd(const struct gmem_pager *pager);

/** Stops serving: no new faults are read, fills under way are ended, own threads are joined, lent ones return. What is not
 * resolved stays blocked. gmem_pager_start() or gmem_pager_run() after it goes on: also a lent thread that has not been in
 * gmem_pager_run() yet.
 *
 * @param pager    the pager
 * @param pending  out, may be NULL: page faults that were read and are not resolved; they are when it goes on
 * @return 0; -EINVAL for NULL; -EDEADLK from a callback of this pager
 *
 * @threads{any} @blocks{waits} (for its threads, and callbacks of sources in them) @since{0.1}
 */
GMEM_API int gmem_pager_stop(struct gmem_pager *pager, uint64_t *pending);

/** What the pager does.
 *
 * @param pager  the pager
 * @param info   out: set `size` before
 * @return 0; -EINVAL a bad argument
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_pager_query(const struct gmem_pager *pager, struct gmem_pager_info *info);

#ifdef __cplusplus
}
#endif

#endif
