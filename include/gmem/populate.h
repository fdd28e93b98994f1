/* SPDX-License-Identifier: MIT */
/** @file gmem/populate.h
 * Puts content into guest memory before the guest needs it.
 *
 * Ranges here are in bytes, not pages: a kernel image or a device tree of odd size goes in as it is, and a call that
 * stopped in the middle of a page can be gone on with. Bytes of a page outside the range keep what they are (zeros, in new
 * memory).
 *
 * To go on after -EINTR, -EAGAIN or -ECANCELED:
 *
 *     while (at < length) {
 *             r = gmem_populate_fd(mem, at, length - at, fd, at, &done, NULL);
 *             at += done;
 *             if (r < 0 && r != -EINTR)
 *                     break;
 *     }
 *
 * A vCPU may run meanwhile: it sees the old or the new content of each byte in the range. Calls on overlapping ranges at the
 * same time leave either content, byte by byte.
 *
 * With threads a call divides its range among them. `done` counts what is in from the beginning of the range without a
 * gap; when the call failed, more may be in behind it, and going on writes that again.
 */
#ifndef GMEM_POPULATE_H
#define GMEM_POPULATE_H

#include <gmem/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gmem;
struct gmem_source;

/** Allocate pages of zeros too. Without it, pages that are zero in the source and absent in the memory are left absent: they
 * read as zeros and cost nothing. A page that exists, or may exist (the kernel does not tell of huge pages), is always
 * overwritten. */
#define GMEM_POPULATE_KEEP_ZEROS (UINT64_C(1) << 0)

/** Told of progress after every step of the calling thread, and once when all is done.
 *
 * Called in the thread that made the call, with no lock of the library held; it may call the library.
 *
 * @param user    `user` of the options
 * @param done    bytes that this call has dealt with so far, zeros included
 * @param length  bytes that this call was asked for
 * @return 0 to go on; anything else ends the call with -ECANCELED once steps under way are done, unless everything is done
 *         already
 *
 * @threads{callback} @since{0.1}
 */
typedef int (*gmem_progress_fn)(void *user, uint64_t done, uint64_t length);

/** Options of the populate calls. */
struct gmem_populate_opts {
	uint64_t size;             /**< sizeof(struct gmem_populate_opts) */
	uint64_t flags;            /**< GMEM_POPULATE_* */
	uint64_t chunk;            /**< bytes a step at most, but for holes and zeros; a multiple of the page size, 1 GiB at
				        most; 0 = chosen */
	gmem_progress_fn progress; /**< told after every step, or NULL */
	void *user;                /**< for `progress` */
	uint32_t mechanism;        /**< force this enum gmem_mechanism (tests, benchmarks); 0 = the best that works */
	uint32_t threads;          /**< besides the caller's, 64 at most, for the time of the call; fewer where they cannot
				        be made, or are no use: what cannot seek is read by one */
};

/** Options of gmem_prefault(). */
struct gmem_prefault_opts {
	uint64_t size;             /**< sizeof(struct gmem_prefault_opts) */
	uint64_t flags;            /**< none yet: 0 */
	gmem_progress_fn progress; /**< told after every 2 MiB, or page if that is more, of the calling thread; or NULL */
	void *user;                /**< for `progress` */
	uint32_t mechanism;        /**< force this enum gmem_mechanism (tests, benchmarks); 0 = the best that works */
	uint32_t threads;          /**< besides the caller's, 64 at most, for the time of the call; through vCPUs no more than
				        there are */
};

/** Fills shared memory from a buffer.
 *
 * In the page map, if the memory has one, a page counts as filled once its last byte has been populated: a page is best not
 * divided between threads, and the tail of a last page is best populated too, since a pager fills a page that is not filled.
 * Until then it exists in the file with a part of its content: only a MINOR registration sees somebody touch it. Pages that
 * were left absent count as discarded, which is zeros.
 *
 * @param mem     the memory
 * @param offset  where to begin in the memory; bytes, at any alignment
 * @param length  bytes, not 0, within the memory
 * @param data    `length` readable bytes, at any alignment, read in the call
 * @param done    out, may be NULL, else always written: bytes dealt with
 * @param opts    options, or NULL
 * @return 0; -EINVAL a bad argument or option, or part of a page in memory that only takes whole pages (no
 *         GMEM_NEED_MAPPABLE); -EBADFD the memory was imported, and somebody has set O_APPEND on its file; -E2BIG an
 *         option of a later library; -EOPNOTSUPP nothing here can fill this memory, or the forced mechanism cannot;
 *         -ECANCELED the progress callback said stop; -ENOMEM, -ENOSPC or -EFAULT of the kernel: out of memory or huge
 *         pages; -EFBIG RLIMIT_FSIZE was lowered below the memory; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} @kernel{memfd: any; guest_memfd: 6.18} @since{0.1}
 */
GMEM_API int gmem_populate(struct gmem *mem, uint64_t offset, uint64_t length, const void *data, uint64_t *done,
			   const struct gmem_populate_opts *opts);

/** Fills shared memory from a file, memfd, pipe or stream socket (of a packet, what does not fit is lost).
 *
 * Holes of a file are not read: they are zeros. When the input ends early the result is -ENODATA and everything that was there
 * is in: `done` is exact to the byte. For a program that gave all its memory as `length` to load a file of any size that is
 * success.
 *
 * @param mem        the memory
 * @param offset     where to begin in the memory; bytes, at any alignment
 * @param length     bytes, not 0, within the memory
 * @param fd         readable; where it can seek its file offset is not used, and that of a regular file
 *                   moves during the call and is put back: who relies on it makes no other call on the same open file
 * @param fd_offset  where to begin in the file; ignored for what cannot seek
 * @param done       out, may be NULL, else always written: bytes dealt with. For a pipe or socket: bytes consumed from it and
 *                   put into memory; none is consumed and lost, except by a failure to store what was just read (at most one
 *                   step)
 * @param opts       options, or NULL
 * @return 0; -ENODATA the input ended before `length`; -EAGAIN nothing to read now on a non-blocking `fd`: poll it and go
 *         on; -EINTR a signal whose handler has no SA_RESTART came while waiting for input (of a regular file only
 *         where its file system lets reading be interrupted): go on; -EBADF, -EISDIR, -EIO and other codes of read();
 *         else as gmem_populate()
 *
 * @threads{any} @blocks{waits} (for the input) @kernel{memfd: any; guest_memfd: 6.18} @since{0.1}
 */
GMEM_API int gmem_populate_fd(struct gmem *mem, uint64_t offset, uint64_t length, int fd, uint64_t fd_offset, uint64_t *done,
			      const struct gmem_populate_opts *opts);

/** Fills shared memory from a source: files, memory, or the program's own code.
 *
 * A source that answers LATER is waited for, by each thread of the call on its own: with `threads` several reads are pending
 * at once. What gmem_source_deliver() brings may come in parts, in any order, from any thread, and before `read` has returned;
 * what nobody waits for is left alone. An error that it brings, or that the source answers, ends the call also where other
 * parts of it are waited for. What was read before counts; a read that was waited for when the call ended does not.
 *
 * @param mem            the memory
 * @param offset         where to begin in the memory; bytes, at any alignment
 * @param length         bytes, not 0, within the memory
 * @param source         asked for [source_offset, source_offset + length) in parts, in any order if there are threads
 * @param source_offset  where to begin in the source; source_offset + length must not wrap
 * @param done           out, may be NULL, else always written: bytes dealt with
 * @param opts           options, or NULL
 * @return 0; -EIO the source answered what no source may answer; the codes of the source, and those that it delivered; -EINTR
 *         a signal whose handler has no SA_RESTART came while waiting for a delivery: go on; else as gmem_populate()
 *
 * @threads{any} @blocks{waits} (for the source) @kernel{memfd: any; guest_memfd: 6.18} @since{0.1}
 */
GMEM_API int gmem_populate_source(struct gmem *mem, uint64_t offset, uint64_t length, struct gmem_source *source,
				  uint64_t source_offset, uint64_t *done, const struct gmem_populate_opts *opts);

/** Allocates a range ahead of the first touch and, where it can, maps it: the guest does not fault there any more.
 *
 * Never changes content; what was absent becomes zeros. What is bound to a memslot is mapped into the guest by the vCPUs
 * that gmem_vcpu_open() told of, where KVM can do that; everything else is allocated, cleared and mapped in this process:
 * do it before the vCPUs run, and through the mapping that the memslot uses (which is what happens when the whole memory
 * is bound, or mapped first).
 *
 * On memory that a userfaultfd watches, touching is what a fault is: the call waits until somebody serves it, which must
 * be another thread.
 *
 * @param mem     the memory
 * @param offset  bytes, a multiple of the page size
 * @param length  bytes, a multiple of the page size, not 0, within the memory
 * @param done    out, may be NULL, else always written: bytes dealt with, as populate calls count them
 * @param opts    options, or NULL
 * @return 0; -EINVAL a bad argument or option; -E2BIG an option of a later library; -EOPNOTSUPP the forced mechanism
 *         cannot, here or for this range; -ECANCELED the progress callback said stop; -EINTR a signal came while a vCPU
 *         was waited for: go on; -EAGAIN memslots are changing, or the kernel made no headway: go on; -ENOMEM, -ENOSPC or
 *         -EFAULT of the kernel: out of memory or huge pages, or a page that is private or poisoned (-EHWPOISON); -ENOENT
 *         of the kernel: the program deleted the memslot itself; -EMFILE or -ENFILE no fd to duplicate a vCPU's; -ESTALE
 *         after fork
 *
 * @threads{any} @blocks{waits} (for a vCPU to leave KVM_RUN; best before it runs)
 * @kernel{KVM_PRE_FAULT_MEMORY: 6.11 with hardware paging (Documentation/virt/kvm/api.rst); KVM_MAP_MEMORY: proposed
 * (cover.1709288671.git.isaku.yamahata@intel.com)\, with GMEM_VM_RFC_IOCTLS only; MADV_POPULATE_WRITE: 5.14
 * (mm/madvise.c)\, older ones allocate only} @since{0.1}
 */
GMEM_API int gmem_prefault(struct gmem *mem, uint64_t offset, uint64_t length, uint64_t *done,
			   const struct gmem_prefault_opts *opts);

#ifdef __cplusplus
}
#endif

#endif
