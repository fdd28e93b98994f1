/* SPDX-License-Identifier: MIT */
/* Between the files behind the wrapped calls: wrap.c asks the injector, then the stand-in kernel, then the real one. */
#ifndef WRAP_H
#define WRAP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>

_Static_assert(sizeof(off_t) == 8, "the wrapped calls are written for 64-bit file offsets");

/* The real calls: what the harness itself uses wherever a wrapped one would be counted, or answered by the stand-in. */
void *__real_calloc(size_t count, size_t size);
int __real_close(int fd);
int __real_fallocate(int fd, int mode, off_t offset, off_t length);
void __real_free(void *memory);
int __real_fstat(int fd, struct stat *about);
int __real_ftruncate(int fd, off_t length);
off_t __real_lseek(int fd, off_t offset, int whence);
int __real_madvise(void *address, size_t length, int advice);
int __real_memfd_create(const char *name, unsigned int flags);
void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *address, size_t length);

/* Every call that can fail. The order is that of the table in inject.c. */
enum inject_call {
	INJECT_ACCEPT,
	INJECT_CACHESTAT,
	INJECT_CALLOC,
	INJECT_CLOSE,
	INJECT_DUP,
	INJECT_EPOLL_CREATE,
	INJECT_EPOLL_CTL,
	INJECT_EPOLL_WAIT,
	INJECT_EVENTFD,
	INJECT_FACCESSAT,
	INJECT_FADVISE,
	INJECT_FALLOCATE,
	INJECT_FCNTL,
	INJECT_FSTAT,
	INJECT_FSTATFS,
	INJECT_FTRUNCATE,
	INJECT_GETSOCKOPT,
	INJECT_IOCTL,
	INJECT_LSEEK,
	INJECT_MADVISE,
	INJECT_MBIND,
	INJECT_MEMFD_CREATE,
	INJECT_MINCORE,
	INJECT_MMAP,
	INJECT_MPROTECT,
	INJECT_MUNMAP,
	INJECT_OPEN,
	INJECT_PIPE,
	INJECT_PPOLL,
	INJECT_PREAD,
	INJECT_PREADV,
	INJECT_PTHREAD_CREATE,
	INJECT_PWRITE,
	INJECT_READ,
	INJECT_READLINK,
	INJECT_RECVMSG,
	INJECT_SENDMSG,
	INJECT_SETSOCKOPT,
	INJECT_SPLICE,
	INJECT_SYSCALL, /* by number: all but those that have a name here */
	INJECT_TIMERFD,
	INJECT_CALLS
};

/* Passes a failure point. True: the call fails here and errno is set. detail tells calls of one name apart: the number of an
 * ioctl, an advice. */
bool inject_point(enum inject_call call, unsigned long detail);
/* The same for calls that can do half: *length is what is left to do. */
bool inject_point_short(enum inject_call call, size_t *length);
/* A munmap() that was made to fail: inject_disarm() does it, unless the range is used anew before. */
void inject_owe_unmap(void *address, size_t length);
void inject_range_reused(const void *address, size_t length);

/* Arms with the variant-th plausible errno of whichever call it will be. */
void inject_arm_variant(unsigned long nth, unsigned int variant);
/* How many variants the call that failed last has. */
unsigned int inject_variants(void);
/* "ioctl(0xc040aed4) with EINVAL", of the failure that fired last. */
const char *inject_describe(void);

/* What calloc() and anonymous mmap() gave out. */
enum ledger_kind { LEDGER_MEMORY, LEDGER_MAPPING, LEDGER_KINDS };
void ledger_add(enum ledger_kind kind, const void *start, size_t length);
void ledger_remove(enum ledger_kind kind, const void *start);
void ledger_remove_range(enum ledger_kind kind, const void *start, size_t length);

/* A test's own answers to ioctl(), on real fds: NULL, or a function that returns a result, a negative errno, or
 * FAKE_NOT_MINE. Set while no other thread makes calls. */
extern long (*wrap_ioctl_script)(int fd, unsigned long request, void *argument);

/* Where CLOCK_MONOTONIC stands still, for every thread, but not for the kernel's timers; 0 = it goes. */
extern _Atomic uint64_t wrap_clock_ns;

/* The stand-in's answers: a result, a negative errno, or that the call is none of its business. */
#define FAKE_NOT_MINE LONG_MIN
long fake_open(const char *path, int flags);
long fake_ioctl(int fd, unsigned long request, void *argument);
long fake_syscall(long number, const long argument[6]);
long fake_fcntl(int fd, int command);
long fake_ftruncate(int fd);
long fake_lseek(int fd);
long fake_read(int fd);
long fake_readlink(const char *path, char *name, size_t room);
long fake_splice(int from, int to);
long fake_pread(int fd);
/* May cut *length. */
long fake_pwrite(int fd, size_t *length, off_t offset);
long fake_fallocate(int fd, int mode, off_t offset, off_t length);
/* May change *protection. fake_mapped() hears of what was mapped in the end. */
long fake_mmap(int *protection, int flags, int fd);
void fake_mapped(void *address, size_t length, int fd);
void fake_unmapped(const void *address, size_t length);
long fake_madvise(void *address, size_t length, int advice);
long fake_mincore(const void *address);
/* Mend what the real calls said of a fake object. */
void fake_fstat(int fd, struct stat *about);
void fake_fstatfs(int fd, struct statfs *about);

#endif
