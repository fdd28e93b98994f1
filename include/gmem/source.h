/* SPDX-License-Identifier: MIT */
/** @file gmem/source.h
 * Where the content of guest memory comes from: files, memory, zeros, the program's own code, or layers of those.
 *
 * A source has offsets of its own. What it is asked for it gives in whole or not at all: -ENODATA says that a part of it is
 * not there, and is what lets a layer below answer.
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
	GMEM_ANSWER_ZERO = 1, /**< It is all zeros; the buffer was not written. */
	GMEM_ANSWER_LATER = 2 /**< gmem_source_deliver() will tell; the buffer is not touched any more. */
};

/** Somebody is blocked until the answer is there; without it, the content is fetched ahead. */
#define GMEM_READ_DEMAND (UINT64_C(1) << 0)

/** The functions of a source. They are called in the threads of the library's calls that use the source, several at a time
 * if those calls have threads, with no lock of the library held; they may call the library, gmem_source_deliver() too. */
struct gmem_source_ops {
	uint64_t size; /**< sizeof(struct gmem_source_ops) */

	/** Gives the content of [offset, offset + length) of the source.
	 *
	 * @param user    as given to gmem_source_create()
	 * @param offset  bytes
	 * @param length  bytes, 2 MiB at most
	 * @param buffer  room for `length` bytes; the library's, until the return
	 * @param flags   GMEM_READ_DEMAND or 0
	 * @return GMEM_ANSWER_DATA; GMEM_ANSWER_ZERO; GMEM_ANSWER_LATER: all of the range will be delivered, in parts in any
	 *         order, which may begin before this returns: of any size for gmem_populate_source(), of whole pages of the
	 *         memory for a pager (2 MiB on such huge pages), so that the range in one piece is always right; or a
	 *         negative errno, with which the call that asked ends: -ENODATA the source has not got all of it (an overlay asks
	 *         by pages of 4096 bytes then, and asks the
	 *         next layer for those that are not there), -EAGAIN not now. Anything else is -EIO there.
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
	 * @return GMEM_ANSWER_DATA: `read` has to be asked; GMEM_ANSWER_ZERO; -ENODATA not here, for so many bytes; or another
	 *         negative errno, as `read`, with which the length means nothing
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

	/** Optional: the range will be read soon, so that its input can be started. Must not wait for it.
	 *
	 * @param user    as given to gmem_source_create()
	 * @param offset  bytes
	 * @param length  bytes, not 0
	 *
	 * @threads{callback}
	 */
	void (*advise)(void *user, uint64_t offset, uint64_t length);
};

/** A part of a file that is a part of a source. Fixed for good. */
struct gmem_extent {
	uint64_t offset;      /**< where it begins in the source; bytes */
	uint64_t length;      /**< bytes; 0 = to the end that the file has now */
	uint64_t file_offset; /**< where it begins in the file; bytes */
	int32_t fd;           /**< a regular file or block device, readable, without O_DIRECT */
	uint32_t reserved;    /**< 0 */
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

/** Makes a source of memory of the program. It has the bytes from 0 to `length`, and nothing else: -ENODATA.
 *
 * @param data    `length` readable bytes, used in place: there as long as the source is
 * @param length  bytes, not 0
 * @param source  out: the handle; give it up with gmem_source_destroy()
 * @return 0; -EINVAL a NULL argument, or a range that is empty or wraps around; -ENOMEM
 *
 * @threads{any} @blocks{no} @kernel{none} @since{0.1}
 */
GMEM_API int gmem_source_create_memory(const void *data, uint64_t length, struct gmem_source **source);

/** Makes a source of files, each at its place. What is between them the source has not got: -ENODATA.
 *
 * How far an extent reaches is settled here. Where the file has got shorter since, reading is -EIO. Holes are known to be
 * zeros without being read; to find them in a file that has some, the file offset is moved, and left anywhere: who relies on
 * it, or moves it, opens the file anew. Signals may end reading with -EINTR where the file system lets them.
 *
 * @param extents  in any order, not overlapping; copied, and the fds duplicated: one for each number that occurs
 * @param count    of them, not 0
 * @param source   out: the handle; give it up with gmem_source_destroy()
 * @return 0; -EINVAL a NULL argument, no extents, two that overlap, one that wraps around, is beyond the end of any file or
 *         has nothing up to the file's end, a file of another kind or one that was opened O_DIRECT, or a reserved word that
 *         is not 0; -ENOMEM; -EBADF an fd is not open, or not for reading; -EMFILE and other codes of the kernel
 *
 * @threads{any} @blocks{bounded} @kernel{none} @since{0.1}
 */
GMEM_API int gmem_source_create_file(const struct gmem_extent *extents, uint32_t count, struct gmem_source **source);

/** Makes a source of zeros at every offset.
 *
 * @param source  out: the handle; give it up with gmem_source_destroy()
 * @return 0; -EINVAL `source` is NULL; -ENOMEM
 *
 * @threads{any} @blocks{no} @kernel{none} @since{0.1}
 */
GMEM_API int gmem_source_create_zero(struct gmem_source **source);

/** Makes a source of layers: of each page, the first layer that has it answers. A file or memory may end within a page: what
 * is behind its end in the page comes from the layers below.
 *
 * A layer has not got what it says -ENODATA to, in `read`, in `extent`, or late by gmem_source_deliver(): the next layers are
 * asked then, in the delivering thread. All other answers are those of the overlay. What a layer delivers reaches the overlay's
 * users; but unasked only from the first layer, since a page of another might be covered.
 *
 * @param layers  the first is the topmost; one more claim on each, until the overlay is gone
 * @param count   of them, 1 to 64
 * @param source  out: the handle; give it up with gmem_source_destroy()
 * @return 0; -EINVAL a NULL argument or layer, or not 1 to 64 of them; -ENOMEM
 *
 * @threads{any} @blocks{no} @kernel{none} @since{0.1}
 */
GMEM_API int gmem_source_create_overlay(struct gmem_source *const *layers, uint32_t count, struct gmem_source **source);

/** Gives up the source. `release` is called now, or when the last call that uses the source has returned.
 *
 * @param source  from gmem_source_create() and its kin, or NULL; destroyed once
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API void gmem_source_destroy(struct gmem_source *source);

/** Asks a source by hand.
 *
 * @param source  the source
 * @param offset  bytes
 * @param length  bytes, not 0, 2 MiB at most; offset + length must not wrap
 * @param buffer  room for `length` bytes; what it holds after is content only with GMEM_ANSWER_DATA
 * @param flags   GMEM_READ_DEMAND or 0
 * @return an enum gmem_answer. GMEM_ANSWER_LATER: what comes goes to the source's users, not to the caller. -EINVAL a bad
 *         argument; -E2BIG a flag of a later library; -ENODATA the source has not got it; -EIO the source answered what no
 *         source may answer, or a file has got shorter; -ENOMEM; else the codes of the source
 *
 * @threads{any} @blocks{waits} (for the source) @kernel{none} @since{0.1}
 */
GMEM_API int gmem_source_read(struct gmem_source *source, uint64_t offset, uint64_t length, void *buffer, uint64_t flags);

/** Content that comes late, or unasked. It is put where it is wanted in the calling thread, which keeps a sender from running
 * ahead.
 *
 * Whole pages of what is filled (the largest are `page_size` bytes of gmem_uffd_query()), in any order, from any thread, in several
 * threads at a time, also inside `read`. What nobody waits for is left alone.
 *
 * The source may be given up during the call: `release` is then called here. The call has to begin before that, though: a source
 * that was handed to a server is there until `leave` has returned (gmem/server.h).
 *
 * @param source  the source
 * @param offset  bytes
 * @param length  bytes, not 0; offset + length must not wrap
 * @param data    with GMEM_ANSWER_DATA `length` bytes, read in the call; else not looked at
 * @param answer  GMEM_ANSWER_DATA; GMEM_ANSWER_ZERO; or a negative errno for who waits for any of the range: -ENODATA nothing
 *                of it is here, -EAGAIN ask again for all of it that is pending
 * @return 0; -EINVAL a bad argument or answer; -ENOTCONN nobody uses the source yet, or any more; -ENOMEM; else the first
 *         failure of putting it where it is wanted. After a failure it may be delivered again.
 *
 * @threads{any} @blocks{bounded} @kernel{none} @since{0.1}
 */
GMEM_API int gmem_source_deliver(struct gmem_source *source, uint64_t offset, uint64_t length, const void *data, int answer);

#ifdef __cplusplus
}
#endif

#endif
