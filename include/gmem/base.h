/* SPDX-License-Identifier: MIT */
/** @file gmem/base.h
 * What every call shares: version, error sentences, the log sink, names of mechanisms.
 *
 * Rules that hold for the whole library:
 *
 * - **Results.** A call returns 0, a small non-negative answer, or a negative errno value. `errno` itself is not part of the
 *   contract. Outputs are written on success only; a `done` output is written always, and the call can be made again to go on
 *   where it stopped: with `offset + done` and `length - done` if that is not 0, and its source moved on by `done` as well.
 * - **Codes.** Codes of the kernel pass untouched. Codes the library makes itself have one meaning each: -EINVAL bad argument,
 *   -E2BIG an option of a later library (flag bit or non-zero tail of an options struct), -EOPNOTSUPP nothing here can do it,
 *   -EEXIST taken already, -EBUSY still in use, -ENOENT no such thing, -ESTALE handle used after fork, -ECANCELED a callback
 *   said no, -ENODATA the input ended, -EFBIG the memory is larger than RLIMIT_FSIZE, -EPROTO a peer broke the protocol, -EIO
 *   the kernel answered what it never should, -ENOMEM out of memory. gmem_last_error() says whether a code came from the kernel or from the library.
 * - **Optional arguments** travel in a struct whose first member is its size; NULL means defaults, and so does
 *   a struct whose other members are all zero. Reserved members must be zero.
 * - **Threads.** Every call names its class: *any* (any thread, any time), *object* (calls on this object must not overlap), or
 *   *callback* (the library calls it).
 * - **fds** passed in stay the caller's, and are duplicated where the library needs them beyond the call. Every fd of the
 *   library is close-on-exec and 3 or more.
 * - **fork.** A handle used in a forked child fails with -ESTALE; giving it up there frees the child's copy only.
 * - The library prints nothing, sets no signal handler, changes no limit and never ends the process.
 */
#ifndef GMEM_BASE_H
#define GMEM_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Marks what the library exports; everything else in it is hidden. */
#define GMEM_API __attribute__((visibility("default")))

/** Version of this header; gmem_version() tells that of the library which runs. */
#define GMEM_VERSION "0.1.0"

/** A timeout without end. Timeouts are nanoseconds; 0 = do not wait. */
#define GMEM_FOREVER UINT64_MAX

/** Severity of a log message. */
enum gmem_log_level {
	GMEM_LOG_ERROR = 1,   /**< An operation failed in a way that its result cannot express. */
	GMEM_LOG_WARNING = 2, /**< Something was demoted: slower or weaker from here on. */
	GMEM_LOG_INFO = 3,    /**< What was chosen, and why. */
	GMEM_LOG_DEBUG = 4    /**< Every failed call, with its sentence. */
};

/** Receives log messages.
 *
 * Called in the thread that had something to say, with no lock of the library held. It may call the library; messages from
 * inside are dropped.
 *
 * @param user   the pointer given to gmem_set_log()
 * @param level  how severe it is
 * @param text   one line without a newline, valid during the call only
 *
 * @threads{callback} @since{0.1}
 */
typedef void (*gmem_log_fn)(void *user, enum gmem_log_level level, const char *text);

/** How something was done.
 *
 * Information only: it is printed, counted and compared by tests; no caller has to name one. Later libraries add values at the
 * end, so a program must expect values that it does not know.
 */
enum gmem_mechanism {
	GMEM_MECH_NONE = 0,              /**< Nothing; in options: chosen by the library. */
	GMEM_MECH_GUEST_MEMFD = 1,       /**< Created with KVM_CREATE_GUEST_MEMFD. */
	GMEM_MECH_MEMFD = 2,             /**< Created with memfd_create(). */
	GMEM_MECH_HUGETLB = 3,           /**< Created with memfd_create() on huge pages. */
	GMEM_MECH_GUEST_MEMFD_PAIR = 4,  /**< Private half a guest_memfd, shared half a memfd. */
	GMEM_MECH_WRITE = 10,            /**< Filled by pwrite() on the file. */
	GMEM_MECH_MAPPING = 11,          /**< Filled through a shared mapping, allocated in bulk first. */
	GMEM_MECH_SPLICE = 12,           /**< Filled by splice() from a file or pipe. */
	GMEM_MECH_POPULATE_IOCTL = 13,   /**< Filled by the proposed KVM_GUEST_MEMFD_POPULATE. */
	GMEM_MECH_IN_PLACE = 14,         /**< Filled while shared, then converted. */
	GMEM_MECH_SNP_UPDATE = 15,       /**< Measured in by SNP_LAUNCH_UPDATE. */
	GMEM_MECH_TDX_REGION = 16,       /**< Added by KVM_TDX_INIT_MEM_REGION. */
	GMEM_MECH_PRE_FAULT = 20,        /**< Prefaulted by KVM_PRE_FAULT_MEMORY. */
	GMEM_MECH_MAP_MEMORY = 21,       /**< Prefaulted by the proposed KVM_MAP_MEMORY, second form. */
	GMEM_MECH_MAP_MEMORY_V1 = 22,    /**< Prefaulted by the proposed KVM_MAP_MEMORY, first form. */
	GMEM_MECH_HOST_FAULT = 23,       /**< Prefaulted on the host side only. */
	GMEM_MECH_UFFD_CONTINUE = 30,    /**< Fault resolved by filling the file, then UFFDIO_CONTINUE. */
	GMEM_MECH_UFFD_COPY = 31,        /**< Fault resolved by UFFDIO_COPY or UFFDIO_ZEROPAGE. */
	GMEM_MECH_KVM_USERFAULT = 32,    /**< Fault resolved by filling the file and clearing a bit of KVM's userfault bitmap. */
	GMEM_MECH_ATTRIBUTES_FILE = 40,  /**< Converted by KVM_SET_MEMORY_ATTRIBUTES2 on the file. */
	GMEM_MECH_ATTRIBUTES_VM = 41,    /**< Converted by KVM_SET_MEMORY_ATTRIBUTES on the VM. */
	GMEM_MECH_PUNCH_HOLE = 50,       /**< Discarded by fallocate(PUNCH_HOLE). */
	GMEM_MECH_MADV_REMOVE = 51       /**< Discarded by madvise(MADV_REMOVE). */
};

/** Version of the library that runs, as "MAJOR.MINOR.PATCH".
 *
 * @return a static string
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API const char *gmem_version(void);

/** The calling thread's last failure, as one sentence.
 *
 * It names the public call, the step that failed, the code, whether the kernel or the library made it, and what to check. It
 * stays until the next failing call in the same thread; a call that succeeds leaves it alone.
 *
 * @return never NULL; "" if no call has failed in this thread; valid until this thread's next failing call
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API const char *gmem_last_error(void);

/** Printable name of a mechanism, such as "guest_memfd" or "write".
 *
 * @param mechanism  any value, including those of later libraries
 * @return a static string; "unknown" for a value that this library does not know, "none" for GMEM_MECH_NONE
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API const char *gmem_mechanism_name(enum gmem_mechanism mechanism);

/** Sets where log messages go: the only state of the process that libgmem has.
 *
 * Silent until it is called. The new sink takes effect for messages begun after the return; another thread may still be inside
 * the old one, so what `user` points to must outlive those calls; a message that meets the change may be lost.
 *
 * @param level  the least severe level wanted: GMEM_LOG_INFO means errors, warnings and information
 * @param fn     the sink, or NULL for silence
 * @param user   handed to `fn` untouched
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API void gmem_set_log(enum gmem_log_level level, gmem_log_fn fn, void *user);

#ifdef __cplusplus
}
#endif

#endif
