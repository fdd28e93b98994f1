/* SPDX-License-Identifier: MIT */
/** @file gmem/vm.h
 * A VM as libgmem sees it, and what this kernel, this VM and this process can do.
 */
#ifndef GMEM_VM_H
#define GMEM_VM_H

#include <gmem/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A VM, or the absence of one, with every answer the kernel gave about it. Opaque. */
struct gmem_vm;

/** What kind of VM a VM fd stands for. The kernel has no call that tells. */
enum gmem_vm_kind {
	GMEM_VM_AUTO = 0,         /**< Not said: what only one kind can do is left out. */
	GMEM_VM_PLAIN = 1,        /**< No private memory; SEV and SEV-ES too, whose memory KVM does not tell apart. */
	GMEM_VM_SW_PROTECTED = 2, /**< KVM_X86_SW_PROTECTED_VM: private memory for development, without hardware. */
	GMEM_VM_SNP = 3,          /**< AMD SEV-SNP. */
	GMEM_VM_TDX = 4,          /**< Intel TDX. */
	GMEM_VM_CCA = 5,          /**< Arm CCA realm. */
	GMEM_VM_PKVM = 6          /**< Protected VM of arm64's pKVM: KVM pins memfd memory; it cannot use a guest_memfd. */
};

/** May try ioctl numbers that were proposed once, never merged, and used again for something else. Only for kernels whose
 * patches the caller knows; without it the features KVM_MAP_MEMORY and KVM_GUEST_MEMFD_POPULATE stay undetermined. */
#define GMEM_VM_RFC_IOCTLS (UINT64_C(1) << 0)

/** Options of gmem_vm_open(). */
struct gmem_vm_open_opts {
	uint64_t size;     /**< sizeof(struct gmem_vm_open_opts) */
	uint64_t flags;    /**< GMEM_VM_RFC_IOCTLS or 0 */
	uint32_t kind;     /**< enum gmem_vm_kind; believed, since it cannot be checked; means nothing without a VM */
	uint32_t reserved; /**< must be 0 */
};

/** What can be asked of gmem_vm_probe(). Numbered without gaps from 1; later libraries add at the end. */
enum gmem_feature {
	GMEM_FEATURE_NONE = 0,                    /**< No feature. */
	GMEM_FEATURE_KVM = 1,                     /**< KVM answers: the VM fd, or /dev/kvm. */
	GMEM_FEATURE_USER_MEMORY2 = 2,            /**< KVM_SET_USER_MEMORY_REGION2. */
	GMEM_FEATURE_GUEST_MEMFD = 3,             /**< A guest_memfd can be created and bound to this VM. */
	GMEM_FEATURE_GUEST_MEMFD_MMAP = 4,        /**< ... and mapped. */
	GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED = 5, /**< ... and touched by the host. */
	GMEM_FEATURE_GUEST_MEMFD_WRITE = 6,       /**< ... and written by pwrite() (proposed). */
	GMEM_FEATURE_NO_DIRECT_MAP = 7,           /**< ... and kept out of the host's direct map (proposed). */
	GMEM_FEATURE_GUEST_MEMFD_NUMA = 8,        /**< ... and follows the NUMA policy of its mapping. */
	GMEM_FEATURE_ATTRIBUTES_VM = 9,           /**< KVM_SET_MEMORY_ATTRIBUTES with PRIVATE on the VM. */
	GMEM_FEATURE_ATTRIBUTES_FILE = 10,        /**< KVM_SET_MEMORY_ATTRIBUTES2 on the file: conversion in place (queued). */
	GMEM_FEATURE_MEMORY_FAULT_EXIT = 11,      /**< KVM_EXIT_MEMORY_FAULT is announced (x86). */
	GMEM_FEATURE_KVM_USERFAULT = 12,          /**< KVM_MEM_USERFAULT memslots (proposed). */
	GMEM_FEATURE_PRE_FAULT = 13,              /**< KVM_PRE_FAULT_MEMORY; needs a vCPU to ask. */
	GMEM_FEATURE_MAP_MEMORY = 14,             /**< KVM_MAP_MEMORY, second form (proposed, recycled number); needs a vCPU. */
	GMEM_FEATURE_MAP_MEMORY_V1 = 15,          /**< KVM_MAP_MEMORY, first form (proposed, recycled number); needs a vCPU. */
	GMEM_FEATURE_POPULATE_IOCTL = 16,         /**< KVM_GUEST_MEMFD_POPULATE (proposed, recycled number). */
	GMEM_FEATURE_VM_SW_PROTECTED = 17,        /**< This KVM can make VMs of kind GMEM_VM_SW_PROTECTED. */
	GMEM_FEATURE_VM_SNP = 18,                 /**< This KVM can make VMs of kind GMEM_VM_SNP. */
	GMEM_FEATURE_VM_TDX = 19,                 /**< This KVM can make VMs of kind GMEM_VM_TDX. */
	GMEM_FEATURE_SEV_COMMANDS = 20,           /**< KVM_MEMORY_ENCRYPT_OP answers as for SEV on this VM. */
	GMEM_FEATURE_CCA_POPULATE = 21,           /**< KVM_ARM_RMI_POPULATE (proposed). */
	GMEM_FEATURE_MEMFD = 22,                  /**< memfd_create() with seals. */
	GMEM_FEATURE_HUGETLB_2M = 23,             /**< A memfd on 2 MiB huge pages, with at least one free page. */
	GMEM_FEATURE_HUGETLB_1G = 24,             /**< A memfd on 1 GiB huge pages, with at least one free page. */
	GMEM_FEATURE_MADV_POPULATE = 25,          /**< madvise(MADV_POPULATE_WRITE). */
	GMEM_FEATURE_UFFD = 26,                   /**< A userfaultfd of any sort. */
	GMEM_FEATURE_UFFD_DEVICE = 27,            /**< ... from /dev/userfaultfd. */
	GMEM_FEATURE_UFFD_KERNEL_FAULTS = 28,     /**< ... that hears of faults taken by KVM and by system calls. */
	GMEM_FEATURE_UFFD_GUEST_MEMFD_MINOR = 29,   /**< Minor faults on guest_memfd mappings (proposed). */
	GMEM_FEATURE_UFFD_GUEST_MEMFD_MISSING = 30, /**< Missing faults on guest_memfd mappings (proposed). */
	GMEM_FEATURE_UFFD_GUEST_MEMFD_WP_ASYNC = 31, /**< Asynchronous write-protection on guest_memfd mappings. */
	GMEM_FEATURE_UFFD_PAGEFAULT_WP = 32,      /**< UFFD_FEATURE_PAGEFAULT_FLAG_WP. */
	GMEM_FEATURE_UFFD_EVENT_FORK = 33,        /**< UFFD_FEATURE_EVENT_FORK. */
	GMEM_FEATURE_UFFD_EVENT_REMAP = 34,       /**< UFFD_FEATURE_EVENT_REMAP. */
	GMEM_FEATURE_UFFD_EVENT_REMOVE = 35,      /**< UFFD_FEATURE_EVENT_REMOVE. */
	GMEM_FEATURE_UFFD_MISSING_HUGETLB = 36,   /**< UFFD_FEATURE_MISSING_HUGETLBFS. */
	GMEM_FEATURE_UFFD_MISSING_MEMFD = 37,     /**< UFFD_FEATURE_MISSING_SHMEM. */
	GMEM_FEATURE_UFFD_EVENT_UNMAP = 38,       /**< UFFD_FEATURE_EVENT_UNMAP. */
	GMEM_FEATURE_UFFD_SIGBUS = 39,            /**< UFFD_FEATURE_SIGBUS. */
	GMEM_FEATURE_UFFD_THREAD_ID = 40,         /**< UFFD_FEATURE_THREAD_ID. */
	GMEM_FEATURE_UFFD_MINOR_HUGETLB = 41,     /**< UFFD_FEATURE_MINOR_HUGETLBFS. */
	GMEM_FEATURE_UFFD_MINOR_MEMFD = 42,       /**< UFFD_FEATURE_MINOR_SHMEM. */
	GMEM_FEATURE_UFFD_EXACT_ADDRESS = 43,     /**< UFFD_FEATURE_EXACT_ADDRESS. */
	GMEM_FEATURE_UFFD_WP_MEMFD = 44,          /**< UFFD_FEATURE_WP_HUGETLBFS_SHMEM. */
	GMEM_FEATURE_UFFD_WP_UNPOPULATED = 45,    /**< UFFD_FEATURE_WP_UNPOPULATED. */
	GMEM_FEATURE_UFFD_POISON = 46,            /**< UFFD_FEATURE_POISON. */
	GMEM_FEATURE_UFFD_WP_ASYNC = 47,          /**< UFFD_FEATURE_WP_ASYNC. */
	GMEM_FEATURE_UFFD_MOVE = 48,              /**< UFFD_FEATURE_MOVE. */
	GMEM_FEATURE_UFFD_RWP = 49,               /**< UFFD_FEATURE_RWP. */
	GMEM_FEATURE_UFFD_RWP_ASYNC = 50          /**< UFFD_FEATURE_RWP_ASYNC. */
};

/** What is known of a feature. */
enum gmem_state {
	GMEM_UNDETERMINED = 0, /**< Could not be asked; struct gmem_probe says why and what would let it be asked. */
	GMEM_ABSENT = 1,       /**< This kernel or this VM has it not. Remembered. */
	GMEM_FORBIDDEN = 2,    /**< It is there, but permissions, limits or settings withhold it; the hint says what to change. */
	GMEM_PRESENT = 3       /**< It was tried, and works. Remembered. */
};

/** What gmem_vm_probe() saw. The strings are static. */
struct gmem_probe {
	uint64_t size;        /**< sizeof(struct gmem_probe), set by the caller */
	int32_t error;        /**< negative errno that decided it, 0 = none */
	uint32_t reserved;    /**< 0 */
	const char *facility; /**< what was tried, such as "/dev/userfaultfd" or "KVM_CREATE_GUEST_MEMFD" */
	const char *hint;     /**< what to change or do so that the answer can become better; NULL = nothing is known */
};

/** Something that can be done in more than one way. */
enum gmem_task {
	GMEM_TASK_CREATE = 1,           /**< gmem_create() */
	GMEM_TASK_POPULATE = 2,         /**< gmem_populate(), gmem_populate_fd() */
	GMEM_TASK_POPULATE_PRIVATE = 3, /**< put content into private memory before the guest runs */
	GMEM_TASK_PREFAULT = 4,         /**< allocate and map ahead of the first touch */
	GMEM_TASK_RESOLVE = 5,          /**< answer a page fault */
	GMEM_TASK_CONVERT = 6,          /**< make memory private or shared */
	GMEM_TASK_DISCARD = 7           /**< free pages */
};

/** One row of a fallback chain, as gmem_vm_explain() fills it. The strings are static. */
struct gmem_step {
	uint64_t size;      /**< sizeof(struct gmem_step), set by the caller */
	uint32_t mechanism; /**< enum gmem_mechanism */
	uint32_t backing;   /**< enum gmem_backing that the row makes or works on; 0 = any, or several */
	uint32_t feature;   /**< enum gmem_feature that decided about the row, 0 = none did */
	uint32_t state;     /**< enum gmem_state of that feature; means nothing where `feature` is 0 */
	uint32_t chosen;    /**< 1 on the row that will be used, else 0 */
	uint32_t reserved;  /**< 0 */
	const char *why;    /**< why chosen, or why passed over and what would change that */
};

/** Makes libgmem's view of a VM.
 *
 * Nothing is probed yet and nothing happens to the VM. The library keeps a duplicate of the fd, so the program may close its
 * own at once: the VM lives at least as long as the handle and the memory made from it.
 *
 * @param vm_fd  result of KVM_CREATE_VM in this process, duplicated; or -1: no VM. Then memory is memfd or hugetlb memory, and
 *               binding records addresses only.
 * @param vm     out: the handle; give it up with gmem_vm_close()
 * @param opts   options, or NULL
 * @return 0; -EINVAL `vm` is NULL, `vm_fd` is negative but not -1, is not a VM fd, or an option is wrong; -E2BIG an option of a
 *         later library; -EIO the VM belongs to another process; -EBADF `vm_fd` is not open; -EMFILE or -ENFILE no fd left;
 *         -ENOMEM
 *
 * @threads{any} @blocks{no}
 * @kernel{none; a VM answers only the process which made it (virt/kvm/kvm_main.c\, kvm_vm_ioctl)} @since{0.1}
 */
GMEM_API int gmem_vm_open(int vm_fd, struct gmem_vm **vm, const struct gmem_vm_open_opts *opts);

/** Gives up the caller's claim on the view.
 *
 * Memory and vCPUs made from it go on working: they have claims of their own, so the handles can be given up in any order.
 *
 * @param vm  from gmem_vm_open(), or NULL; closed once, by whoever opened it, when no other call on it is under way
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API void gmem_vm_close(struct gmem_vm *vm);

/** Asks whether a feature works here, by trying it without side effects; never by a kernel version.
 *
 * The first call tries, and answers `present` and `absent` are remembered; `forbidden` and `undetermined` are asked again each
 * time, since permissions and limits change, and so are free huge pages and device nodes. An answer that needs a vCPU and is
 * not remembered waits for one to leave KVM_RUN.
 *
 * @param vm       the VM
 * @param feature  what to ask
 * @param probe    out: what was seen; may be NULL
 * @return enum gmem_state; -EINVAL `vm` is NULL, `feature` is unknown, or `probe->size` is below 8;
 *         -E2BIG it is above 4096; -ESTALE after fork
 *
 * @threads{any} @blocks{waits} (for a vCPU in KVM_RUN, in the one case above) @kernel{none} @since{0.1}
 */
GMEM_API int gmem_vm_probe(struct gmem_vm *vm, enum gmem_feature feature, struct gmem_probe *probe);

/** Tells, row by row, the chain of mechanisms for a task: which is chosen, which are passed over, and why.
 *
 * For tasks on existing memory the answer is for memory that gmem_create() would make with the same needs and backing.
 *
 * @param vm     the VM
 * @param task   what is to be done; a task for which this library has no call yet is explained all the same
 * @param need   GMEM_NEED_* of memory.h, 0 = GMEM_NEED_MAPPABLE
 * @param backing  enum gmem_backing of memory.h, as in the options of gmem_create(); 0 = the best
 * @param index  row number, from 0, best first
 * @param step   out: the row
 * @return 1 = `step` was filled; 0 = the chain has no such row; -EINVAL `vm` or `step` is NULL, `task` or `backing` is unknown,
 *         the needs contradict each other, or `step->size` is below 8; -E2BIG a need of a later library, or a size above 4096;
 *         -ESTALE after fork
 *
 * @threads{any} @blocks{waits} (as gmem_vm_probe()) @kernel{none} @since{0.1}
 */
GMEM_API int gmem_vm_explain(struct gmem_vm *vm, enum gmem_task task, uint64_t need, uint32_t backing, uint32_t index,
			     struct gmem_step *step);

/** Printable name of a state: "undetermined", "absent", "forbidden", "present".
 *
 * @param state  any value
 * @return a static string; "unknown" for a value that this library does not know
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API const char *gmem_state_name(enum gmem_state state);

/** Printable name of a task, such as "populate".
 *
 * @param task  any value; counting up from 1 until NULL lists all tasks
 * @return a static string, or NULL if this library has no such task
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API const char *gmem_task_name(enum gmem_task task);

/** Printable name of a feature, such as "guest_memfd_mmap".
 *
 * @param feature  any value; counting up from 1 until NULL lists all features
 * @return a static string, or NULL if this library has no such feature
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API const char *gmem_feature_name(enum gmem_feature feature);

#ifdef __cplusplus
}
#endif

#endif
