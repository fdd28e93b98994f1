/* SPDX-License-Identifier: MIT */
/** @file gmem/fault.h
 * Memory on demand, by hand: a userfault endpoint watches ranges of guest memory, tells of pages that somebody touches and
 * of pages that are given up, and makes pages be there. gmem/pager.h does all of it with threads and sources.
 *
 * What a page holds is never guessed from what the kernel has of it: the page map of the memory (GMEM_NEED_LAZY) says for
 * each page *empty* (its content is still to come), *filled* (the file holds it) or *discarded* (given up: zeros from then
 * on). Every call of the library that moves a page keeps that right.
 */
#ifndef GMEM_FAULT_H
#define GMEM_FAULT_H

#include <gmem/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gmem;
struct gmem_vm;

/** A userfault endpoint: one userfaultfd and the ranges that it watches. Opaque. */
struct gmem_uffd;

/** How the pages of a region come to be there; one way for the region's life. */
enum gmem_strategy {
	GMEM_STRATEGY_AUTO = 0, /**< FILL where the kernel has it for this backing, else COPY. */
	GMEM_STRATEGY_FILL = 1, /**< The file is filled, then the page is mapped: UFFDIO_CONTINUE. */
	GMEM_STRATEGY_COPY = 2  /**< The kernel makes the page of a buffer: UFFDIO_COPY, UFFDIO_ZEROPAGE. */
};

/** Options of gmem_uffd_create() and gmem_uffd_import(). */
struct gmem_uffd_create_opts {
	uint64_t size;  /**< sizeof(struct gmem_uffd_create_opts) */
	uint64_t flags; /**< none yet: 0 */
};

#define GMEM_REGISTER_WRITE_PROTECT (UINT64_C(1) << 0) /**< gmem_uffd_protect() will be used on the range. */
/** The process that made the endpoint has registered the range itself: it is only remembered, with that process's addresses. */
#define GMEM_REGISTER_BY_PEER (UINT64_C(1) << 1)
#define GMEM_REGISTER_CONTENT (UINT64_C(1) << 2) /**< `content` is set. */

/** Options of gmem_uffd_register(). */
struct gmem_uffd_register_opts {
	uint64_t size;      /**< sizeof(struct gmem_uffd_register_opts) */
	uint64_t flags;     /**< GMEM_REGISTER_* */
	uint64_t content;   /**< with GMEM_REGISTER_CONTENT: where the range's content begins in the source; else at `offset` */
	uint64_t hva;       /**< GMEM_REGISTER_BY_PEER only: where the range is mapped in the peer */
	uint64_t gpa;       /**< GMEM_REGISTER_BY_PEER only: where it is in the guest; UINT64_MAX = nowhere */
	uint64_t page_size; /**< memory without a file here only: bytes, 0 = the machine's page size */
	uint32_t strategy;  /**< enum gmem_strategy */
	uint32_t reserved;  /**< must be 0 */
};

/** What gmem_uffd_read() tells of. A later library may add kinds. */
enum gmem_fault_kind {
	GMEM_FAULT_PAGE = 1,      /**< Somebody waits for a page: gmem_uffd_resolve(). */
	GMEM_FAULT_PROTECTED = 2, /**< Somebody waits to write to protected pages: gmem_uffd_protect(). */
	GMEM_FAULT_REMOVED = 3,   /**< Pages were given up by madvise(); the page map says so already. */
	GMEM_FAULT_UNMAPPED = 4,  /**< The owner has unmapped the range, which is not watched there any more (imported endpoints). */
	GMEM_FAULT_MOVED = 5,     /**< The owner has moved the mapping: it is watched where it is now. */
	GMEM_FAULT_FORKED = 6     /**< The owner has forked: there, pages that were not there are SIGBUS (imported endpoints). */
};

#define GMEM_FAULT_WRITE (UINT64_C(1) << 0) /**< The page was to be written. */
#define GMEM_FAULT_MINOR (UINT64_C(1) << 1) /**< The file has the page, but it is not mapped. */

/** One event. Fixed for good: 80 bytes. */
struct gmem_fault {
	struct gmem *mem;     /**< the memory, as it was registered; NULL = memory without a file here */
	uint64_t offset;      /**< bytes in the memory, page-aligned */
	uint64_t length;      /**< bytes: one page, or what was given up, unmapped or moved */
	uint64_t content;     /**< where the content at `offset` is in the source */
	uint64_t hva;         /**< in the owner; for GMEM_FAULT_MOVED: where it is now */
	uint64_t gpa;         /**< where the guest has it; UINT64_MAX = nowhere, or not known */
	uint64_t flags;       /**< GMEM_FAULT_WRITE, GMEM_FAULT_MINOR */
	uint32_t kind;        /**< enum gmem_fault_kind */
	uint32_t thread;      /**< that waits, by its number in the owner's process namespace; 0 = not known */
	uint64_t reserved[2]; /**< 0 */
};

/** What gmem_uffd_resolve() makes of pages. */
enum gmem_resolve {
	GMEM_RESOLVE_DATA = 1,    /**< Content from a buffer. */
	GMEM_RESOLVE_ZERO = 2,    /**< Zeros. */
	GMEM_RESOLVE_PRESENT = 3, /**< What the file holds already, for those that are filled or discarded. */
	GMEM_RESOLVE_POISON = 4,  /**< Touching them is SIGBUS, to a thread in KVM_RUN too: content that cannot be had. */
	GMEM_RESOLVE_WAKE = 5     /**< Who waits tries again. */
};

#define GMEM_LATENCY_BUCKETS 40 /**< Of `latency` in struct gmem_uffd_info. */

#define GMEM_UFFD_USER_MODE_ONLY (UINT64_C(1) << 0) /**< Faults taken by the kernel (system calls, KVM) are not heard. */
#define GMEM_UFFD_IMPORTED (UINT64_C(1) << 1)       /**< Made by gmem_uffd_import(). */
#define GMEM_UFFD_OWNER_GONE (UINT64_C(1) << 2)     /**< The process whose memory it watches has ended. */

/** What gmem_uffd_query() tells: counters since the creation, read without a lock. */
struct gmem_uffd_info {
	uint64_t size;          /**< sizeof(struct gmem_uffd_info), set by the caller */
	uint64_t flags;         /**< GMEM_UFFD_* */
	uint64_t ranges;        /**< regions that are registered now */
	uint64_t length;        /**< bytes in them */
	uint64_t remaining;     /**< bytes of them that are empty in the page map */
	uint64_t faults;        /**< page faults read */
	uint64_t missing;       /**< ... of pages that the file had not */
	uint64_t minor;         /**< ... of pages that the file had */
	uint64_t write;         /**< ... that were writes */
	uint64_t protect;       /**< write-protect faults read */
	uint64_t removed;       /**< bytes given up by madvise() */
	uint64_t filled;        /**< pages filled with content */
	uint64_t zeroed;        /**< pages made zeros */
	uint64_t present;       /**< pages that were mapped as the file held them */
	uint64_t duplicate;     /**< pages that were there and mapped already when they were resolved */
	uint64_t poisoned;      /**< pages poisoned */
	uint64_t retries;       /**< resolving calls made again, since the address space was changing */
	uint64_t source_errors; /**< reads of a source that failed (by a pager) */
	uint64_t bytes;         /**< of content filled */
	uint64_t pending;       /**< page faults read and not resolved yet (by a pager) */
	uint64_t p50;           /**< nanoseconds from reading a fault to resolving it (by a pager): of half of them no more */
	uint64_t p90;           /**< ... of 90 % */
	uint64_t p99;           /**< ... of 99 % */
	uint64_t p999;          /**< ... of 99.9 %; all four to the next bucket up */
	uint64_t latency[GMEM_LATENCY_BUCKETS]; /**< how many took less than 256 ns * 2^(n/2), and not less than n - 1 says */
	uint64_t throttled;     /**< how often events were not read for a while, since as many had come as may (by a pager) */
	uint64_t page_size;     /**< bytes of a page, the largest of its regions now; 0 = it watches nothing */
};

/** Makes a userfault endpoint of this process.
 *
 * Opened through /dev/userfaultfd, or by the system call where the device cannot be used.
 *
 * @param vm    the VM whose memory it will watch
 * @param uffd  out: the endpoint; give it up with gmem_uffd_destroy()
 * @param opts  options, or NULL
 * @return 0; -EINVAL a NULL argument or bad option; -E2BIG an option of a later library; -EACCES or -EPERM this process may
 *         not (the sentence names the file or sysctl to change); for a VM with a fd also where only faults taken in user
 *         mode could be heard, since KVM's own would not be: without a VM that is good enough, and gmem_uffd_query()
 *         says so; -ENOSYS a kernel without userfaultfd; -EMFILE, -ENFILE, -ENOMEM; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} @kernel{4.3 (fs/userfaultfd.c)\, the device 6.1} @since{0.1}
 */
GMEM_API int gmem_uffd_create(struct gmem_vm *vm, struct gmem_uffd **uffd, const struct gmem_uffd_create_opts *opts);

/** Takes over an endpoint that another process, or other code, made and has shaken hands on (UFFDIO_API).
 *
 * Its ranges are told with GMEM_REGISTER_BY_PEER. Which events come was decided by whoever made it.
 *
 * @param vm    any VM, also one without a fd
 * @param fd    the userfaultfd, which is checked to be one and duplicated
 * @param uffd  out: the endpoint; give it up with gmem_uffd_destroy()
 * @param opts  options, or NULL
 * @return 0; -EINVAL a NULL argument, a bad option, or `fd` is no userfaultfd; -EBADFD nobody has shaken hands on it; -E2BIG
 *         an option of a later library; -EBADF, -EMFILE, -ENFILE, -ENOMEM; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @kernel{4.3 (fs/userfaultfd.c)} @since{0.1}
 */
GMEM_API int gmem_uffd_import(struct gmem_vm *vm, int fd, struct gmem_uffd **uffd, const struct gmem_uffd_create_opts *opts);

/** Gives up the endpoint.
 *
 * Ranges of this process stay watched as long as their memory lives, inside: whoever touches an empty page goes on waiting,
 * and never reads zeros for content. gmem_destroy() of the memory ends that.
 *
 * @param uffd  from gmem_uffd_create() or gmem_uffd_import(), or NULL; destroyed once
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API void gmem_uffd_destroy(struct gmem_uffd *uffd);

/** Watches a range: from now on whoever touches a page of it that is not mapped waits until it is resolved.
 *
 * All mappings of the range are watched, those that memslots use too; a part of the range that is not mapped yet is mapped
 * first. No other mapping of it can be made while it is watched. fork() does not pass a watched mapping on. Pages that are
 * empty in the page map lose whatever the file had there (a prefault's zeros, what was written through a mapping); those filled
 * or discarded stay. madvise() with MADV_DONTNEED, MADV_FREE (which then fails on shared memory) or MADV_REMOVE on a watched
 * mapping gives the pages up for good, and returns only when the event has been read: by another thread. gmem_discard() does
 * the same and waits for nobody. By GMEM_STRATEGY_COPY, MADV_DONTNEED leaves pages that the file has: touching them raises no
 * fault. Of a huge page that is given up in part, the page map goes on to say what it said. Where a range is mapped twice, use
 * MADV_REMOVE: after MADV_DONTNEED the other mapping still has the page.
 *
 * @param uffd    the endpoint
 * @param mem     the memory, created or imported with GMEM_NEED_LAZY, of the same VM, watched by no other endpoint; NULL,
 *                with GMEM_REGISTER_BY_PEER: memory of the peer that has no file here, with a page map of the endpoint's own
 * @param offset  bytes, a multiple of the page size; without `mem`: any such number, by which the range is spoken of
 * @param length  bytes, a multiple of the page size, not 0
 * @param opts    options, or NULL
 * @return 0; -EINVAL a bad argument or option, a range not of this memory, or memory of another VM; -EEXIST the range, or its
 *         addresses, overlap those of another; -EBUSY another endpoint watches the memory, or the kernel says that of the
 *         mapping; -EBADFD the memory has no page map (GMEM_NEED_LAZY), or GMEM_REGISTER_BY_PEER is missing for an imported
 *         endpoint, or there for one made here; -EOPNOTSUPP the kernel cannot watch memory of this backing that way, or
 *         GMEM_STRATEGY_COPY for a memfd where transparent huge pages (shmem_enabled) would make pages of zeros that nobody
 *         asked for, or a guard's pager speaks a protocol without new ranges (Firecracker's); -E2BIG an option of a later library; -ENOMEM; other codes of UFFDIO_REGISTER; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} (while gmem_guard_attach() hands the endpoint out: as long as that takes)
 * @kernel{minor faults: memfd 5.14\, hugetlb 5.13; missing pages 4.11 (mm/userfaultfd.c);
 * guest_memfd: proposed (20260306171815.3160826-1-rppt@kernel.org)} @since{0.1}
 */
GMEM_API int gmem_uffd_register(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length,
				const struct gmem_uffd_register_opts *opts);

/** Ends the watching of whole regions.
 *
 * @param uffd    the endpoint
 * @param mem     as registered
 * @param offset  bytes
 * @param length  bytes: every region that lies in the range, and none that lies in it only partly
 * @return 0; -EINVAL a bad argument, or a region lies partly in the range; -ENOENT no region lies in it; -EBUSY a page is
 *         empty in the page map, and would become zeros: fill it, gmem_discard() it, or gmem_destroy() the memory; codes of
 *         UFFDIO_UNREGISTER; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} @since{0.1}
 */
GMEM_API int gmem_uffd_unregister(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length);

/** Reads events.
 *
 * @param uffd    the endpoint
 * @param faults  out: room for `count` events
 * @param count   at most that many are read, not 0
 * @return how many were read, 0 = there are none now; -EINVAL a bad argument; -ENOMEM the next events cannot be kept track of;
 *         codes of read(); -ESTALE after fork
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_uffd_read(struct gmem_uffd *uffd, struct gmem_fault *faults, uint32_t count);

/** Makes pages be there, in the way of their region, and wakes whoever waits for them.
 *
 * What the page map says goes first: a discarded page becomes zeros and a filled one is mapped as it is, whatever `how` says
 * (but for GMEM_RESOLVE_POISON, which is for pages that are empty, and leaves others alone).
 *
 * To take a VM down when there is no content left to be had: GMEM_RESOLVE_POISON over everything, then join the vCPU
 * threads; a thread that waits in a fault hears of SIGKILL only.
 *
 * @param uffd    the endpoint
 * @param mem     as registered
 * @param offset  bytes, a multiple of the page size
 * @param length  bytes, a multiple of the page size, not 0, all of it watched
 * @param how     what becomes of empty pages
 * @param data    with GMEM_RESOLVE_DATA: `length` readable bytes, which this endpoint does not watch; else ignored
 * @param done    out, may be NULL, else always written: bytes dealt with
 * @return 0, also for pages that were there already, or are not mapped in the owner any more; -EINVAL a bad argument; -ENOENT
 *         something of the range is not watched; -EBADFD with GMEM_RESOLVE_PRESENT a page is empty; -EAGAIN the address
 *         space is changing: read events, which may be what it waits for, then go on; -ESRCH the owner is gone;
 *         -EOPNOTSUPP this kernel cannot poison (6.6), or the endpoint cannot; -ENOMEM, -ENOSPC, -EFBIG of filling the
 *         file; other codes of the kernel; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} @kernel{UFFDIO_CONTINUE: 5.13; UFFDIO_POISON: 6.6 (fs/userfaultfd.c)} @since{0.1}
 */
GMEM_API int gmem_uffd_resolve(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length, enum gmem_resolve how,
			       const void *data, uint64_t *done);

/** Protects pages that are mapped against writing, or lets writes in again and wakes whoever waits to write.
 *
 * @param uffd    the endpoint
 * @param mem     as registered, with GMEM_REGISTER_WRITE_PROTECT
 * @param offset  bytes, a multiple of the page size
 * @param length  bytes, a multiple of the page size, not 0, all of it watched
 * @param on      1 = protect, 0 = let writes in
 * @param done    out, may be NULL, else always written: bytes dealt with
 * @return 0; -EINVAL a bad argument; -ENOENT something of the range is not watched; -EBADFD a region was registered without
 *         GMEM_REGISTER_WRITE_PROTECT; -EAGAIN as gmem_uffd_resolve(); -ESRCH the owner is gone; other codes of the
 *         kernel; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} @kernel{shmem and hugetlbfs: 5.19 (fs/userfaultfd.c)} @since{0.1}
 */
GMEM_API int gmem_uffd_protect(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length, int on,
			       uint64_t *done);

/** The fd to poll: readable = gmem_uffd_read() has something. What a call of it had no room for does not make it readable again:
 * read until it says 0.
 *
 * @param uffd  the endpoint
 * @return the fd, lent: not to be read or closed; -EINVAL for NULL; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_uffd_get_fd(const struct gmem_uffd *uffd);

/** What the endpoint has done. For `remaining` it looks at the state of every page: some 2 ms for 64 GiB of 4 KiB pages.
 *
 * @param uffd  the endpoint
 * @param info  out: set `size` before
 * @return 0; -EINVAL a bad argument; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API int gmem_uffd_query(const struct gmem_uffd *uffd, struct gmem_uffd_info *info);

#ifdef __cplusplus
}
#endif

#endif
