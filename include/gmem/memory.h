/* SPDX-License-Identifier: MIT */
/** @file gmem/memory.h
 * Guest memory: one file, its mappings and its memslots.
 *
 * The usual end is: stop the vCPUs, gmem_unbind(), gmem_destroy(), gmem_vm_close(), give back address ranges. Any other order
 * is safe too: what others need lives on inside, and a memslot is deleted before its memory goes away.
 */
#ifndef GMEM_MEMORY_H
#define GMEM_MEMORY_H

#include <gmem/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gmem_vm;

/** One guest memory file: a guest_memfd, a memfd, or a memfd on huge pages. Opaque. */
struct gmem;

#define GMEM_NEED_MAPPABLE (UINT64_C(1) << 0) /**< The VMM may map and touch it. */
#define GMEM_NEED_PRIVATE (UINT64_C(1) << 1)  /**< Ranges can be made private to the guest (by the program). */
#define GMEM_NEED_LAZY (UINT64_C(1) << 2)     /**< The guest's own page faults can be served by a pager. */
#define GMEM_NEED_HIDDEN (UINT64_C(1) << 3)   /**< Out of the host kernel's direct map. */
#define GMEM_NEED_HUGE_2M (UINT64_C(1) << 4)  /**< On 2 MiB pages. */
#define GMEM_NEED_HUGE_1G (UINT64_C(1) << 5)  /**< On 1 GiB pages. */

/** What the memory is made of.
 *
 * GMEM_BACKING_AUTO takes a guest_memfd where that serves the needs: its pages have the ordinary size and do not swap, it
 * follows a NUMA policy from 6.19 on, each range of it can be in one memslot at a time, and dirty logging takes
 * GMEM_BIND_PLAIN. A VMM that wants otherwise says GMEM_BACKING_MEMFD. */
enum gmem_backing {
	GMEM_BACKING_AUTO = 0,        /**< The best that satisfies the needs. */
	GMEM_BACKING_GUEST_MEMFD = 1, /**< KVM_CREATE_GUEST_MEMFD; with GMEM_NEED_PRIVATE perhaps beside a memfd. */
	GMEM_BACKING_MEMFD = 2,       /**< memfd_create(). */
	GMEM_BACKING_HUGETLB = 3      /**< memfd_create() on huge pages; 2 MiB unless GMEM_NEED_HUGE_1G. */
};

/** Printable name of a backing: "auto", "guest_memfd", "memfd", "hugetlb".
 *
 * @param backing  any value
 * @return a static string; "unknown" for a value that this library does not know
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API const char *gmem_backing_name(enum gmem_backing backing);

/** Options of gmem_create(). */
struct gmem_create_opts {
	uint64_t size;     /**< sizeof(struct gmem_create_opts) */
	uint64_t need;     /**< GMEM_NEED_*, all that shall hold: GMEM_NEED_PRIVATE alone is memory that cannot be mapped; 0 =
			      GMEM_NEED_MAPPABLE; GMEM_NEED_HUGE_2M and GMEM_NEED_HUGE_1G exclude each other */
	uint64_t flags;    /**< none yet: 0 */
	uint32_t backing;  /**< enum gmem_backing; a named backing is made or the call fails, it is never replaced */
	uint32_t reserved; /**< must be 0 */
	const char *name;  /**< shown in /proc/PID/maps for memfds, copied, 200 bytes at most; NULL = "gmem" */
};

#define GMEM_MAP_READONLY (UINT64_C(1) << 0) /**< Map for reading only. */

/** Options of gmem_map(). */
struct gmem_map_opts {
	uint64_t size;  /**< sizeof(struct gmem_map_opts) */
	uint64_t flags; /**< GMEM_MAP_* */
	/** Put the mapping exactly here, replacing whatever is mapped there; page-aligned, inside an address range that the
	 * caller reserved with PROT_NONE (not checked) and keeps until gmem_unmap() or gmem_destroy() has given it back,
	 * as PROT_NONE; also when the call fails. NULL = anywhere. The program may madvise() a mapping, but leaves
	 * mprotect(), mremap() and munmap() to the library. */
	void *address;
};

#define GMEM_BIND_READONLY (UINT64_C(1) << 0)  /**< The guest may only read; its writes become MMIO exits. */
/** KVM records which pages the guest writes, for KVM_GET_DIRTY_LOG on the VM fd. Writes by the host, gmem_populate() too, are
 * not in the log. */
#define GMEM_BIND_DIRTY_LOG (UINT64_C(1) << 1)
/** Through the mapping, also where the file itself could be bound: dirty logging can then be switched on and off while bound.
 * Means nothing where the memory is no guest_memfd. */
#define GMEM_BIND_PLAIN (UINT64_C(1) << 2)

/** Options of gmem_bind(). */
struct gmem_bind_opts {
	uint64_t size;  /**< sizeof(struct gmem_bind_opts) */
	uint64_t flags; /**< GMEM_BIND_* */
	void *address;  /**< the mapping to use: where gmem_map() has put the range, writable; NULL = chosen, see gmem_bind() */
};

/** What gmem_query_slot() tells of a memslot. */
struct gmem_slot_info {
	uint64_t size;     /**< sizeof(struct gmem_slot_info), set by the caller */
	uint64_t gpa;      /**< where it begins in the guest */
	uint64_t length;   /**< bytes */
	uint64_t offset;   /**< where it begins in the memory */
	uint64_t flags;    /**< GMEM_BIND_* that hold of it */
	struct gmem *mem;  /**< the memory: lent, until somebody destroys it */
	void *address;     /**< `userspace_addr`: where it begins in this process; NULL = not mapped */
	uint32_t slot;     /**< as given to gmem_bind() */
	uint32_t reserved; /**< 0 */
};

/** The file can shrink, since it is not sealed against that, and the caller vouches that nobody will make it: where it is
 * cut off, touching the memory is SIGBUS. For files that take no seals, such as those of a tmpfs or hugetlbfs mount. */
#define GMEM_IMPORT_UNSEALED (UINT64_C(1) << 0)

/** Options of gmem_import(). */
struct gmem_import_opts {
	uint64_t size;  /**< sizeof(struct gmem_import_opts) */
	uint64_t need;  /**< GMEM_NEED_*, what must hold of the file; 0 = GMEM_NEED_MAPPABLE */
	uint64_t flags; /**< GMEM_IMPORT_* */
};

/** The content is stale, not gone for good: in the page map the pages become empty, so that a pager asks its source for
 * them again. Only for memory with a page map. */
#define GMEM_DISCARD_REFETCH (UINT64_C(1) << 0)

/** Options of gmem_discard(). */
struct gmem_discard_opts {
	uint64_t size;  /**< sizeof(struct gmem_discard_opts) */
	uint64_t flags; /**< GMEM_DISCARD_* */
};

/** How gmem_set_nodes() treats the nodes. */
enum gmem_node_policy {
	GMEM_NODES_BIND = 0,      /**< Nowhere else: full nodes are as a full machine, where the kernel may kill. */
	GMEM_NODES_PREFER = 1,    /**< There first, then elsewhere; of several nodes any (MPOL_PREFERRED_MANY, kernel 5.15). */
	GMEM_NODES_INTERLEAVE = 2 /**< Page by page over the nodes in turn. */
};

/** Options of gmem_set_nodes(). */
struct gmem_set_nodes_opts {
	uint64_t size;     /**< sizeof(struct gmem_set_nodes_opts) */
	uint64_t flags;    /**< none yet: 0 */
	uint32_t policy;   /**< enum gmem_node_policy */
	uint32_t reserved; /**< must be 0 */
};

#define GMEM_RUN_ALLOCATED (UINT64_C(1) << 0)   /**< The file has the pages, in memory or swapped out. */
#define GMEM_RUN_INITIALISED (UINT64_C(1) << 1) /**< ... and they have been zeroed or written. Weaker than GMEM_RUN_FILLED. */
/** The kernel does not say whether the file has the pages: GMEM_RUN_ALLOCATED means nothing. */
#define GMEM_RUN_ALLOCATED_UNKNOWN (UINT64_C(1) << 2)
/** The kernel does not say whether they have content, or would not tell the truth: GMEM_RUN_INITIALISED means nothing. */
#define GMEM_RUN_INITIALISED_UNKNOWN (UINT64_C(1) << 3)
#define GMEM_RUN_FILLED (UINT64_C(1) << 4)    /**< The page map says so: complete content. */
#define GMEM_RUN_DISCARDED (UINT64_C(1) << 5) /**< The page map says so: zeros for good. */

/** What gmem_query_run() tells: pages in a row that are all in one state. */
struct gmem_run {
	uint64_t size;   /**< sizeof(struct gmem_run), set by the caller */
	uint64_t length; /**< bytes from the offset asked for, one page at least; what follows may be in the same state */
	uint64_t state;  /**< GMEM_RUN_*; 0 = absent: reads as zeros and costs nothing */
};

/** Which file gmem_get_fd() lends. */
enum gmem_fd_kind {
	GMEM_FD_MEMORY = 0,      /**< The memory; of a pair the private half. */
	GMEM_FD_SHARED_HALF = 1, /**< Of a pair: the memfd that is the shared half. */
	GMEM_FD_PAGE_MAP = 2     /**< With GMEM_NEED_LAZY: the two-bit page map. */
};

/** What gmem_query() tells. */
struct gmem_info {
	uint64_t size;               /**< sizeof(struct gmem_info), set by the caller */
	uint64_t length;             /**< bytes */
	uint64_t page_size;          /**< bytes; offsets and lengths are multiples of it */
	uint64_t need;               /**< what was asked for, and the page size that a named backing brought */
	uint64_t populated;          /**< bytes that all populate calls so far have written */
	uint64_t skipped;            /**< bytes that all populate calls so far found to be zero and left unallocated */
	uint32_t backing;            /**< enum gmem_backing that was made */
	uint32_t mechanism;          /**< enum gmem_mechanism of the creation; of an imported file: what makes such files */
	uint32_t populate_mechanism; /**< enum gmem_mechanism that the last populate call ended with, 0 = none was made */
	uint32_t slots;              /**< memslots bound now */
	uint32_t in_place;           /**< 1 = private and shared pages live in one file */
	uint32_t prefault_mechanism; /**< enum gmem_mechanism that the last prefault ended with, 0 = none was made */
};

/** Makes new memory that reads as zeros. Nothing is allocated before it is touched or populated.
 *
 * Chooses the backing by need; gmem_query() tells what was chosen and gmem_vm_explain() why. A memfd is sealed against growing
 * and shrinking. With GMEM_NEED_LAZY the page map is made too: a sealed memfd with two bits for every page.
 *
 * @param vm      the VM; the memory holds a claim on it
 * @param length  bytes, 2^62 at most, a multiple of the page size of the backing: without huge pages every multiple of 64 KiB
 *                is one, on every architecture
 * @param mem     out: the handle; give it up with gmem_destroy()
 * @param opts    options, or NULL
 * @return 0; -EINVAL a NULL argument, a bad length or option; -E2BIG an option of a later library; -EOPNOTSUPP nothing
 *         here satisfies the needs (the sentence names the missing piece), or the named backing cannot; -EACCES, -EPERM
 *         and other codes of the kernel: something here could, but it is withheld or could not be asked (the sentence says
 *         what to change; of several, the code is that of the best way); -ENOMEM out of memory, or no huge page is free
 *         (with one free page it can be created, and mapping it tells whether there are enough); -EMFILE or -ENFILE no fd
 *         left; -EFBIG longer than RLIMIT_FSIZE; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded}
 * @kernel{memfd: any; guest_memfd that can be mapped: 6.18 (Documentation/virt/kvm/api.rst\, KVM_CREATE_GUEST_MEMFD)}
 * @since{0.1}
 */
GMEM_API int gmem_create(struct gmem_vm *vm, uint64_t length, struct gmem **mem, const struct gmem_create_opts *opts);

/** Makes memory around a file that was made elsewhere: received from another process, inherited, or opened on a tmpfs or
 * hugetlbfs mount.
 *
 * What the file is made of is found out by looking at it; the page size is the file's. Nothing of its content changes. A
 * guest_memfd is tried by touching its first page, which is allocated (zeros) if it was not. One that belongs to another
 * VM can be mapped and filled, and is refused by KVM when it is bound.
 *
 * With GMEM_NEED_LAZY a page map is made, in which all pages are empty.
 *
 * @param vm      the VM, or the absence of one; the memory holds a claim on it
 * @param fd      open for reading and writing; duplicated, so it may be closed at once
 * @param length  bytes, a multiple of the page size, no more than the file has; 0 = the whole file
 * @param mem     out: the handle; give it up with gmem_destroy()
 * @param opts    options, or NULL
 * @return 0; -EINVAL a NULL argument, a bad length or option, `fd` is no file of these kinds (a file on a disk is none),
 *         is not open for reading and writing, is open for appending or sealed against writing, or it could shrink (no
 *         F_SEAL_SHRINK, and GMEM_IMPORT_UNSEALED was not said); -E2BIG an option of a later library; -EOPNOTSUPP a need
 *         does not hold of it, or cannot be seen of a file (GMEM_NEED_HIDDEN); -EBADF `fd` is not open; codes of
 *         gmem_create() where what is needed is withheld; -EMFILE or -ENFILE no fd left; -ENOMEM; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded}
 * @kernel{memfd: any; guest_memfd that can be mapped: 6.18 (told by the magic of its file system from 6.19 on\, before by
 * its name in /proc)} @since{0.1}
 */
GMEM_API int gmem_import(struct gmem_vm *vm, int fd, uint64_t length, struct gmem **mem, const struct gmem_import_opts *opts);

/** Gives up the memory: deletes its memslots, removes its mappings, closes its files.
 *
 * A guest that still runs finds no memory there any more (KVM_EXIT_MMIO): stop its vCPUs first. Pages live on as long as
 * another process has the fd.
 *
 * @param mem  from gmem_create(), or NULL; destroyed once, when no other call on it is under way
 *
 * @threads{object} @blocks{waits} (as gmem_bind()) @since{0.1}
 */
GMEM_API void gmem_destroy(struct gmem *mem);

/** Address of a mapping of a range; makes one unless one that covers it is there already.
 *
 * The mapping is shared, readable and (without GMEM_MAP_READONLY) writable. It belongs to the memory, not to the caller,
 * and is not counted: it lasts until somebody calls gmem_unmap() or gmem_destroy(). Only one mapping with the same access
 * that covers the whole range counts as being there, of several the newest: a range that lies across two gets a new one.
 * With `opts->address` a new mapping is always made.
 *
 * @param mem      the memory; -EOPNOTSUPP if it cannot be mapped, which without GMEM_NEED_MAPPABLE may be so
 * @param offset   where the range begins in the memory; bytes, a multiple of the page size
 * @param length   bytes, a multiple of the page size, not 0, within the memory
 * @param address  out: where the range begins in this process
 * @param opts     options, or NULL
 * @return 0; -EINVAL a bad argument, or `opts->address` overlaps a mapping of this or another memory of the VM; -EBADFD an endpoint
 *         watches a part of the range, and no mapping that there is already has all of it (gmem/fault.h); -E2BIG an
 *         option of a later library; -EOPNOTSUPP; -ENOMEM no address space, or no huge page is free; -EAGAIN of mmap()
 *         under mlockall(); -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} @kernel{guest_memfd: 6.18; others any} @since{0.1}
 */
GMEM_API int gmem_map(struct gmem *mem, uint64_t offset, uint64_t length, void **address, const struct gmem_map_opts *opts);

/** Removes all mappings in a range that gmem_map() has told of.
 *
 * @param mem     the memory
 * @param offset  bytes, a multiple of the page size
 * @param length  bytes, a multiple of the page size, not 0, within the memory
 * @return 0, also when nothing was mapped there; -EINVAL a bad argument, or a mapping lies only partly in the range (nothing
 *         was changed); -EBUSY a memslot or a call in another thread uses one of them (nothing was changed); a code of
 *         munmap(): mappings before the failing one are gone; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} @kernel{any} @since{0.1}
 */
GMEM_API int gmem_unmap(struct gmem *mem, uint64_t offset, uint64_t length);

/** Puts a range into the guest's physical address space, through one memslot.
 *
 * Memory on a guest_memfd is bound to its file, unless a flag or GMEM_NEED_LAZY wants a plain memslot over a mapping of
 * it. `userspace_addr` of the memslot is always a mapping that covers the whole range, writable: the one at
 * `opts->address`, or the newest if there are several, made by the call where there is none (memory that cannot be mapped
 * has none). So map a flat view first, and bind by the same ranges. Huge pages serve the guest as such only where gpa,
 * offset and address are alike modulo their size.
 *
 * The same slot, gpa and range again: with the same flags nothing happens; GMEM_BIND_DIRTY_LOG can be switched on and off
 * on a plain memslot. Nothing else can change while bound. GMEM_BIND_READONLY and GMEM_BIND_DIRTY_LOG make a memslot
 * plain: a guest_memfd that is to be logged later, or no longer, is bound with GMEM_BIND_PLAIN each time.
 *
 * KVM lets a change of memslots wait until vCPUs have left the page faults they are in: a thread that serves their faults must
 * not make this call, nor gmem_unbind() or gmem_destroy().
 *
 * Memslots that the program sets by itself in the same VM are not known to libgmem; KVM refuses overlaps with them. Without a
 * VM only overlaps are checked.
 *
 * @param mem     the memory
 * @param slot    KVM's memslot number; the address space in bits 16 and up
 * @param gpa     guest physical address, a multiple of the host's page size, also for memory on huge pages
 * @param offset  where the range begins in the memory; bytes, a multiple of the host's page size
 * @param length  bytes, a multiple of the host's page size, not 0, within the memory
 * @param opts    options, or NULL
 * @return 0; -EINVAL a bad argument, `opts->address` is not such a mapping (the kernel too says so, of a slot number or
 *         gpa out of range, and of a slot number that the program took itself); -E2BIG an option of a later library;
 *         -EEXIST the slot is bound to something else, the guest addresses are taken, or the memory is a guest_memfd and
 *         part of the range is bound to its file already; -EOPNOTSUPP the flags need a mapping and the memory has none, or
 *         cannot be changed while bound; -EBADFD an endpoint watches a part of the range, which is not mapped as it
 *         would have to be (gmem/fault.h); -EIO the VM belongs to another process; -ENOMEM; -ESTALE after fork
 *
 * @threads{any} @blocks{waits} (for faults under way)
 * @kernel{guest_memfd: KVM_SET_USER_MEMORY_REGION2\, 6.8 (virt/kvm/kvm_main.c); others any. Without a VM: none} @since{0.1}
 */
GMEM_API int gmem_bind(struct gmem *mem, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t length,
		       const struct gmem_bind_opts *opts);

/** Deletes a memslot that gmem_bind() made. A mapping that gmem_map() has told of stays.
 *
 * @param mem   the memory
 * @param slot  as given to gmem_bind()
 * @return 0, also when the program has deleted the slot itself; -EINVAL `mem` is NULL; -ENOENT this memory is not bound to that
 *         slot; -EIO the VM belongs to another process; other codes of KVM; -ESTALE after fork
 *
 * @threads{any} @blocks{waits} (as gmem_bind()) @kernel{any} @since{0.1}
 */
GMEM_API int gmem_unbind(struct gmem *mem, uint32_t slot);

/** Finds the memslot that has a guest address, or else the next one above: a translation, and a way to walk all memslots.
 *
 * To walk them, begin with gpa 0 and go on with `info->gpa + info->length` until the result is 0 or that is 0. Only
 * memslots that gmem_bind() made are known. What is told may be old when it is read, where another thread binds and
 * unbinds.
 *
 * @param vm             the VM
 * @param address_space  KVM's, 0 but for system management mode: what gmem_bind() takes in bits 16 and up of `slot`
 * @param gpa            guest physical address, bytes
 * @param info           out: `info->size` says how much of it may be written; members that this library does not know become 0
 * @return 1 = filled (look at `info->gpa` whether it is above `gpa`); 0 = there is none at `gpa` or above; -EINVAL `vm` or
 *         `info` is NULL, or `info->size` is below 8; -E2BIG it is above 4096; -ESTALE after fork
 *
 * @threads{any} @blocks{waits} (as gmem_bind(), while one is under way) @kernel{none} @since{0.1}
 */
GMEM_API int gmem_query_slot(struct gmem_vm *vm, uint32_t address_space, uint64_t gpa, struct gmem_slot_info *info);

/** Frees pages: from now on they read as zeros, and cost nothing until they are touched again (balloon, virtio-mem).
 *
 * In the page map, if the memory has one, they are marked discarded before they are freed, so that no pager brings old
 * content back; with GMEM_DISCARD_REFETCH they are marked empty, and a pager of this process stores nothing there that its source
 * was asked for before. (What a source delivers later, and what a pager in another process is bringing in at that moment, it cannot
 * tell from new content: let those be done first.) Of a pair, pages of both halves are freed. Frees for all
 * who have the file, in this process and others, whatever the guest does meanwhile; a device that has pinned a page goes
 * on using the old one (VFIO: unmap first).
 *
 * @param mem     the memory
 * @param offset  bytes, a multiple of the page size
 * @param length  bytes, a multiple of the page size, not 0, within the memory
 * @param done    out, may be NULL, else always written: bytes dealt with
 * @param opts    options, or NULL
 * @return 0; -EINVAL a bad argument or option; -E2BIG an option of a later library; -EOPNOTSUPP GMEM_DISCARD_REFETCH and
 *         the memory has no page map, or nothing here can free pages of this file; -EPERM the file is sealed against
 *         writing; other codes of fallocate(); -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} @kernel{any (Documentation/virt/kvm/api.rst\, KVM_CREATE_GUEST_MEMFD\, for a guest_memfd)}
 * @since{0.1}
 */
GMEM_API int gmem_discard(struct gmem *mem, uint64_t offset, uint64_t length, uint64_t *done,
			  const struct gmem_discard_opts *opts);

/** Says on which NUMA nodes pages of the range shall be allocated from now on. Pages that exist stay where they are.
 *
 * The policy belongs to the file, so it holds for whoever allocates: populate calls, the guest, another process. Of a pair
 * it holds for the shared half.
 *
 * @param mem     the memory
 * @param offset  bytes, a multiple of the page size
 * @param length  bytes, a multiple of the page size, not 0, within the memory
 * @param mask    bit n % 64 of word n / 64 = node n; read in the call
 * @param words   how many words `mask` has; 0 = no policy any more, `mask` is not read
 * @param opts    options, or NULL = GMEM_NODES_BIND
 * @return 0; -EINVAL a bad argument or option, `mask` has no bit, or (of the kernel) none of its nodes is there (of several,
 *         those that are not are left out); -E2BIG an option of a later library; -EOPNOTSUPP the kernel would accept a
 *         policy and ignore it (guest_memfd before 6.19, huge pages), has none at all, or the memory cannot be mapped;
 *         -ENOMEM; -EPERM a seccomp filter; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded} @kernel{memfd: any with CONFIG_NUMA; guest_memfd: 6.19 (virt/kvm/guest_memfd.c)} @since{0.1}
 */
GMEM_API int gmem_set_nodes(struct gmem *mem, uint64_t offset, uint64_t length, const uint64_t *mask, uint32_t words,
			    const struct gmem_set_nodes_opts *opts);

/** Tells the state of the pages from an offset on: whether the file has them, and what the page map says.
 *
 * To walk a range, add `run->length` to the offset until its end. The answer may be old when it is read, where somebody
 * else touches the memory. Of a pair it is about the shared half. Nothing is allocated.
 *
 * What the kernel does not tell, or would lie about, is said to be unknown: for huge pages, pages that this process has
 * not mapped; for a guest_memfd that cannot be mapped, or is another user's, whether pages have content; before
 * cachestat() (6.5), whether pages without content are allocated.
 *
 * @param mem     the memory
 * @param offset  bytes, a multiple of the page size, within the memory
 * @param run     out: `run->size` says how much of it may be written; members that this library does not know become 0
 * @return 0; -EINVAL a bad argument or `run->size` is below 8; -E2BIG it is above 4096; -ENOMEM; -ESTALE after fork
 *
 * @threads{any} @blocks{bounded}
 * @kernel{lseek(SEEK_DATA)\, mincore() (mm/mincore.c)\, cachestat() 6.5 (mm/filemap.c)} @since{0.1}
 */
GMEM_API int gmem_query_run(struct gmem *mem, uint64_t offset, struct gmem_run *run);

/** Tells what was chosen and done.
 *
 * @param mem   the memory
 * @param info  out: `info->size` says how much of it may be written; members that this library does not know become 0
 * @return 0; -EINVAL a NULL argument or `info->size` is below 8; -E2BIG it is above 4096; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @kernel{none} @since{0.1}
 */
GMEM_API int gmem_query(const struct gmem *mem, struct gmem_info *info);

/** Lends a file, for a VMM's own use: to pass it to another process, or to look at it.
 *
 * The fd belongs to the memory: do not close it. A guest_memfd can be mapped where the memory can, and has no read() or
 * write(); the file offset of a memfd is the library's.
 *
 * @param mem   the memory
 * @param kind  which file
 * @return the fd, 3 or more; -EINVAL `mem` is NULL or `kind` unknown; -ENOENT this memory has no such file; -ESTALE after fork
 *
 * @threads{any} @blocks{no} @kernel{none} @since{0.1}
 */
GMEM_API int gmem_get_fd(const struct gmem *mem, enum gmem_fd_kind kind);

#ifdef __cplusplus
}
#endif

#endif
