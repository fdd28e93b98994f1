/* SPDX-License-Identifier: MIT */
#include "inject.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "wrap.h"

#define VARIANTS 7

/* What each call may fail with in a sound kernel, the likeliest first; 0 ends a row. For ioctl() these are also the answers
 * that mean "not there" and "forbidden" to a probe. */
static const struct {
	const char *name;
	int errors[VARIANTS];
} calls[INJECT_CALLS] = {
	[INJECT_ACCEPT] = { "accept4", { EAGAIN, EMFILE, EINTR, ECONNABORTED } },
	[INJECT_CACHESTAT] = { "cachestat", { ENOSYS, EOPNOTSUPP, EPERM } },
	[INJECT_CALLOC] = { "calloc", { ENOMEM } },
	[INJECT_CLOSE] = { "close", { EINTR, EIO } },
	[INJECT_DUP] = { "dup", { EMFILE, EBADF } },
	[INJECT_EPOLL_CREATE] = { "epoll_create1", { EMFILE, ENFILE, ENOMEM } },
	[INJECT_EPOLL_CTL] = { "epoll_ctl", { ENOMEM, ENOSPC, EPERM } },
	[INJECT_EPOLL_WAIT] = { "epoll_wait", { EINTR } },
	[INJECT_EVENTFD] = { "eventfd", { EMFILE, ENFILE, ENOMEM } },
	[INJECT_FACCESSAT] = { "faccessat2", { ENOSYS, EACCES, EPERM } },
	[INJECT_FADVISE] = { "posix_fadvise", { EINVAL, ESPIPE } },
	[INJECT_FALLOCATE] = { "fallocate", { ENOSPC, EINTR, EOPNOTSUPP, ENOMEM, EINVAL } },
	[INJECT_FCNTL] = { "fcntl", { EMFILE, EINVAL, EPERM } },
	[INJECT_FSTAT] = { "fstat", { EBADF, EOVERFLOW } },
	[INJECT_FSTATFS] = { "fstatfs", { ENOSYS, EINTR, EIO } },
	[INJECT_FTRUNCATE] = { "ftruncate", { EINVAL, EINTR, ENOSPC, EPERM } },
	[INJECT_GETSOCKOPT] = { "getsockopt", { ENOMEM, EPERM } },
	[INJECT_IOCTL] = { "ioctl", { EINVAL, ENOMEM, EINTR, EIO, EPERM, EFAULT, ENOTTY } },
	[INJECT_LSEEK] = { "lseek", { ESPIPE, EINVAL, ENXIO } },
	[INJECT_MADVISE] = { "madvise", { EINVAL, ENOMEM, EINTR, EAGAIN, EFAULT } },
	[INJECT_MBIND] = { "mbind", { EINVAL, ENOMEM, EIO, EPERM, ENOSYS } },
	[INJECT_MEMFD_CREATE] = { "memfd_create", { EMFILE, ENFILE, ENOMEM, EINVAL, ENOSYS } },
	[INJECT_MINCORE] = { "mincore", { ENOMEM, EAGAIN } },
	[INJECT_MMAP] = { "mmap", { ENOMEM, EAGAIN, EPERM, ENODEV } },
	[INJECT_MPROTECT] = { "mprotect", { ENOMEM, EACCES, EINVAL } },
	[INJECT_MUNMAP] = { "munmap", { ENOMEM, EINVAL } },
	[INJECT_OPEN] = { "open", { ENOENT, EACCES, EMFILE, ENOMEM, EINTR, ENXIO } },
	[INJECT_PIPE] = { "pipe2", { EMFILE, ENFILE } },
	[INJECT_PPOLL] = { "ppoll", { EINTR, ENOMEM } },
	[INJECT_PREAD] = { "pread", { INJECT_SHORT, EIO, EINTR, EAGAIN, ENOMEM } },
	[INJECT_PREADV] = { "preadv2", { EAGAIN, EOPNOTSUPP, EIO, EINTR } },
	[INJECT_PTHREAD_CREATE] = { "pthread_create", { EAGAIN, ENOMEM } },
	[INJECT_PWRITE] = { "pwrite", { INJECT_SHORT, ENOSPC, EINTR, EIO, ESPIPE, EFAULT } },
	[INJECT_READ] = { "read", { INJECT_SHORT, EIO, EINTR, EAGAIN, ENOMEM } },
	[INJECT_READLINK] = { "readlink", { ENOENT, EACCES, ENOMEM } },
	[INJECT_RECVMSG] = { "recvmsg", { INJECT_SHORT, EAGAIN, EINTR, ENOMEM, ECONNRESET } },
	[INJECT_SENDMSG] = { "sendmsg", { INJECT_SHORT, EAGAIN, EINTR, ENOMEM, EPIPE, ETOOMANYREFS } },
	[INJECT_SETSOCKOPT] = { "setsockopt", { ENOMEM, EPERM } },
	[INJECT_SPLICE] = { "splice", { INJECT_SHORT, EINVAL, EINTR, EAGAIN, EIO, ENOMEM, ENOSPC } },
	[INJECT_SYSCALL] = { "syscall", { ENOSYS, EPERM, EMFILE, ENOMEM } },
	[INJECT_TIMERFD] = { "timerfd", { EMFILE, ENFILE, ENOMEM } },
};

/* Threads of the library may be on their way through here whenever the test arms and disarms: everything is atomic, and relaxed
 * where they pass, because the injector must not order threads that the library does not order itself. */
static struct {
	atomic_ulong nth;
	atomic_int error; /* 0 = the variant-th of the call */
	atomic_uint variant;
} order;

/* Written by the thread that met the failure, read by those who have seen `fired`. */
static struct {
	enum inject_call call;
	int error;
	unsigned long detail;
} hit;

static atomic_bool armed;
static atomic_bool fired;
static atomic_ulong passed;
static atomic_uint paused;
static _Thread_local bool exempt;

static struct {
	_Atomic uintptr_t start;
	atomic_size_t length;
} owed;

static void arm(unsigned long nth, int error, unsigned int variant)
{
	inject_disarm();
	atomic_store(&order.nth, nth);
	atomic_store(&order.error, error);
	atomic_store(&order.variant, variant);
	atomic_store(&passed, 0);
	atomic_store(&fired, false);
	atomic_store(&armed, true);
}

void inject_arm(unsigned long nth, int error)
{
	arm(nth, error, 0);
}

void inject_arm_variant(unsigned long nth, unsigned int variant)
{
	arm(nth, 0, variant);
}

static void pay_owed(void)
{
	size_t length = atomic_exchange(&owed.length, 0);
	void *start = (void *)atomic_load(&owed.start);

	if (!length)
		return;
	fake_unmapped(start, length);
	ledger_remove_range(LEDGER_MAPPING, start, length);
	__real_munmap(start, length);
}

unsigned long inject_disarm(void)
{
	atomic_store(&armed, false);
	pay_owed();
	return atomic_load(&passed);
}

void inject_reset(void)
{
	if (atomic_load(&armed) && inject_fired())
		printf("  in flight: failure point %lu, %s\n", atomic_load(&order.nth), inject_describe());
	alarm(0);
	inject_disarm();
	atomic_store(&paused, 0);
	exempt = false;
}

void inject_pause(void)
{
	atomic_fetch_add(&paused, 1);
}

void inject_resume(void)
{
	atomic_fetch_sub(&paused, 1);
}

void inject_exempt_thread(bool yes)
{
	exempt = yes;
}

static unsigned int variants_of(enum inject_call call)
{
	unsigned int count = 0;

	while (count < VARIANTS && calls[call].errors[count])
		count++;
	return count;
}

unsigned int inject_variants(void)
{
	return variants_of(hit.call);
}

static int chosen_error(enum inject_call call)
{
	int error = atomic_load_explicit(&order.error, memory_order_relaxed);
	unsigned int variant = atomic_load_explicit(&order.variant, memory_order_relaxed);
	unsigned int last = variants_of(call) - 1;

	return error ? error : calls[call].errors[variant < last ? variant : last];
}

/* Is this the call? */
static bool reached(enum inject_call call, unsigned long detail)
{
	if (!atomic_load_explicit(&armed, memory_order_relaxed) || exempt ||
	    atomic_load_explicit(&paused, memory_order_relaxed))
		return false;
	if (atomic_fetch_add_explicit(&passed, 1, memory_order_relaxed) + 1 !=
	    atomic_load_explicit(&order.nth, memory_order_relaxed))
		return false;
	hit.error = chosen_error(call);
	hit.call = call;
	hit.detail = detail;
	atomic_store_explicit(&fired, true, memory_order_release);
	return true;
}

bool inject_point(enum inject_call call, unsigned long detail)
{
	if (!reached(call, detail) || hit.error == INJECT_SHORT)
		return false;
	errno = hit.error;
	return true;
}

bool inject_point_short(enum inject_call call, size_t *length)
{
	if (!reached(call, 0))
		return false;
	if (hit.error == INJECT_SHORT) {
		*length -= *length / 2;
		return false;
	}
	errno = hit.error;
	return true;
}

bool inject_fired(void)
{
	return atomic_load(&fired);
}

const char *inject_where(void)
{
	return inject_fired() ? calls[hit.call].name : "";
}

const char *inject_describe(void)
{
	static char text[128];

	if (!inject_fired())
		return "nothing";
	snprintf(text, sizeof(text), "%s(%#lx) with %s", calls[hit.call].name, hit.detail,
		 hit.error == INJECT_SHORT ? "half of the length" : strerror(hit.error));
	return text;
}

void inject_owe_unmap(void *address, size_t length)
{
	atomic_store(&owed.start, (uintptr_t)address);
	atomic_store(&owed.length, length);
}

void inject_range_reused(const void *address, size_t length)
{
	uintptr_t start = atomic_load_explicit(&owed.start, memory_order_relaxed);
	size_t due = atomic_load_explicit(&owed.length, memory_order_relaxed);

	if (due && start < (uintptr_t)address + length && (uintptr_t)address < start + due)
		atomic_store(&owed.length, 0);
}
