/* SPDX-License-Identifier: MIT */
/** @file gmem/source.h
 * Where the content of guest memory comes from, when it is neither a buffer nor a file: the program's own code.
 */
#ifndef GMEM_SOURCE_H
#define GMEM_SOURCE_H

#include <gmem/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A source of page content. Opaque. */
struct gmem_source;

/** What a source answers when it does not fail. */
enum gmem_answer {
	GMEM_ANSWER_DATA = 0, /**< The content is in the buffer, all of it. */
	GMEM_ANSWER_ZERO = 1  /**< It is all zeros; the buffer was not written. */
};

/** The functions of a source. They are called in the threads of the library's calls that use the source, several at a time
 * if those calls have threads, with no lock of the library held; they may call the library. */
struct gmem_source_ops {
	uint64_t size; /**< sizeof(struct gmem_source_ops) */

	/** Gives the content of [offset, offset + length) of the source.
	 *
	 * @param user    as given to gmem_source_create()
	 * @param offset  bytes
	 * @param length  bytes, 2 MiB at most
	 * @param buffer  room for `length` bytes; the library's, until the return
	 * @param flags   0
	 * @return GMEM_ANSWER_DATA; GMEM_ANSWER_ZERO; or a negative errno, with which the call that asked ends: -ENODATA
	 *         the source has not got it, -EAGAIN not now. Anything else is -EIO there.
	 *
	 * @threads{callback}
	 */
	int (*read)(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags);

	/** Optional: tells what is at an offset without reading it.
	 *
	 * @param user    as given to gmem_source_create()
	 * @param offset  bytes
	 * @param length  in: bytes that are of interest; out: for how many of them, from `offset` on, the answer holds: 1
	 *                at least
	 * @return GMEM_ANSWER_DATA, GMEM_ANSWER_ZERO or a negative errno, as `read`
	 *
	 * @threads{callback}
	 */
	int (*extent)(void *user, uint64_t offset, uint64_t *length);

	/** Optional: called exactly once, when nothing uses the source any more.
	 *
	 * @param user  as given to gmem_source_create()
	 *
	 * @threads{callback}
	 */
	void (*release)(void *user);
};

/** Makes a source of the program's own functions.
 *
 * @param ops     the functions, copied; `read` must be there
 * @param user    handed to them untouched
 * @param source  out: the handle; give it up with gmem_source_destroy()
 * @return 0; -EINVAL a NULL argument, `ops->size` is below 8, or there is no `read`; -E2BIG an option of a later library;
 *         -ENOMEM
 *
 * @threads{any} @blocks{no} @kernel{none} @since{0.1}
 */
GMEM_API int gmem_source_create(const struct gmem_source_ops *ops, void *user, struct gmem_source **source);

/** Gives up the source. `release` is called now, or when the last call that uses the source has returned.
 *
 * @param source  from gmem_source_create(), or NULL; destroyed once
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API void gmem_source_destroy(struct gmem_source *source);

#ifdef __cplusplus
}
#endif

#endif
