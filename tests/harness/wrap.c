/* SPDX-License-Identifier: MIT */
/* The wrapped calls. Each asks the injector (may this one succeed?), then the stand-in kernel (is it about one of mine?), then
 * the real call. Where libc has two names for one call, both are here: compiler flags decide which of them a program uses. */
#include "wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __real_epoll_create1(int flags);
int __real_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event);
int __real_epoll_wait(int epoll, struct epoll_event *events, int room, int milliseconds);
int __real_eventfd(unsigned int count, int flags);
int __real_mprotect(void *address, size_t length, int protection);
int __real_timerfd_create(int clock, int flags);
int __real_timerfd_settime(int fd, int flags, const struct itimerspec *at, struct itimerspec *before);
int __real_dup(int fd);
int __real_dup2(int fd, int to);
int __real_dup3(int fd, int to, int flags);
int __real_fcntl(int fd, int command, ...);
int __real_fstatfs(int fd, struct statfs *about);
int __real_ioctl(int fd, unsigned long request, ...);
int __real_mincore(void *address, size_t length, unsigned char *vector);
int __real_open(const char *path, int flags, ...);
int __real_openat(int directory, const char *path, int flags, ...);
int __real_pipe2(int ends[2], int flags);
int __real_posix_fadvise(int fd, off_t offset, off_t length, int advice);
ssize_t __real_pread(int fd, void *buffer, size_t length, off_t offset);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument);
ssize_t __real_pwrite(int fd, const void *data, size_t length, off_t offset);
ssize_t __real_read(int fd, void *buffer, size_t length);
ssize_t __real_readlink(const char *path, char *name, size_t room);
ssize_t __real_splice(int from, off_t *from_offset, int to, off_t *to_offset, size_t length, unsigned int flags);
long __real_syscall(long number, ...);

/* The one variable argument of open(), fcntl() and ioctl(), there or not: as libc itself fetches it. */
#define LAST_ARGUMENT(type, after, into)              \
	do {                                          \
		va_list last_argument;                \
		va_start(last_argument, after);       \
		(into) = va_arg(last_argument, type); \
		va_end(last_argument);                \
	} while (0)

/* The stand-in's answer in the manner of libc. */
static long answer(long result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

/* Memory */

/* In a static program libc's own calls of calloc() come here too; what it keeps for threads is nobody's leak. */
static _Thread_local bool inside_libc;

void *__wrap_calloc(size_t count, size_t size)
{
	void *memory;

	if (inside_libc)
		return __real_calloc(count, size);
	if (inject_point(INJECT_CALLOC, 0))
		return NULL;
	memory = __real_calloc(count, size);
	if (memory)
		ledger_add(LEDGER_MEMORY, memory, count * size);
	return memory;
}

void __wrap_free(void *memory)
{
	if (memory)
		ledger_remove(LEDGER_MEMORY, memory);
	__real_free(memory);
}

void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	long fake;
	void *at;

	if (inject_point(INJECT_MMAP, (unsigned long)flags))
		return MAP_FAILED;
	fake = fake_mmap(&protection, flags, fd);
	if (fake != FAKE_NOT_MINE) {
		answer(fake);
		return MAP_FAILED;
	}
	at = __real_mmap(address, length, protection, flags, fd, offset);
	if (at == MAP_FAILED)
		return at;
	inject_range_reused(at, length);
	fake_mapped(at, length, fd);
	/* What is put into a range that somebody reserved goes away with the reservation. */
	if ((flags & MAP_ANONYMOUS) && !(flags & MAP_FIXED))
		ledger_add(LEDGER_MAPPING, at, length);
	return at;
}

int __wrap_munmap(void *address, size_t length)
{
	if (inject_point(INJECT_MUNMAP, length)) {
		inject_owe_unmap(address, length);
		return -1;
	}
	/* Before the range is free: right after, another thread may get it. */
	inject_range_reused(address, length);
	fake_unmapped(address, length);
	ledger_remove_range(LEDGER_MAPPING, address, length);
	return __real_munmap(address, length);
}

int __wrap_madvise(void *address, size_t length, int advice)
{
	long fake;

	if (inject_point(INJECT_MADVISE, (unsigned long)advice))
		return -1;
	fake = fake_madvise(address, length, advice);
	return fake != FAKE_NOT_MINE ? (int)answer(fake) : __real_madvise(address, length, advice);
}

int __wrap_mincore(void *address, size_t length, unsigned char *vector)
{
	long fake;

	if (inject_point(INJECT_MINCORE, length))
		return -1;
	fake = fake_mincore(address);
	return fake != FAKE_NOT_MINE ? (int)answer(fake) : __real_mincore(address, length, vector);
}

/* fds */

int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode;
	long fake;

	LAST_ARGUMENT(mode_t, flags, mode);
	if (inject_point(INJECT_OPEN, 0))
		return -1;
	fake = fake_open(path, flags);
	return fake != FAKE_NOT_MINE ? (int)answer(fake) : __real_open(path, flags, mode);
}

int __wrap_openat(int directory, const char *path, int flags, ...)
{
	mode_t mode;
	long fake;

	LAST_ARGUMENT(mode_t, flags, mode);
	if (inject_point(INJECT_OPEN, 0))
		return -1;
	fake = fake_open(path, flags);
	return fake != FAKE_NOT_MINE ? (int)answer(fake) : __real_openat(directory, path, flags, mode);
}

int __wrap_close(int fd)
{
	bool fails = inject_point(INJECT_CLOSE, 0);
	int error = errno, result = __real_close(fd);

	if (!fails)
		return result;
	errno = error; /* Linux has freed the number all the same */
	return -1;
}

int __wrap_dup(int fd)
{
	return inject_point(INJECT_DUP, 0) ? -1 : __real_dup(fd);
}

int __wrap_dup2(int fd, int to)
{
	return inject_point(INJECT_DUP, 2) ? -1 : __real_dup2(fd, to);
}

int __wrap_dup3(int fd, int to, int flags)
{
	return inject_point(INJECT_DUP, 3) ? -1 : __real_dup3(fd, to, flags);
}

int __wrap_fcntl(int fd, int command, ...)
{
	void *argument;
	long fake;

	LAST_ARGUMENT(void *, command, argument);
	if (inject_point(INJECT_FCNTL, (unsigned long)command))
		return -1;
	fake = fake_fcntl(fd, command);
	return fake != FAKE_NOT_MINE ? (int)answer(fake) : __real_fcntl(fd, command, argument);
}

int __wrap_memfd_create(const char *name, unsigned int flags)
{
	return inject_point(INJECT_MEMFD_CREATE, flags) ? -1 : __real_memfd_create(name, flags);
}

int __wrap_pipe2(int ends[2], int flags)
{
	return inject_point(INJECT_PIPE, (unsigned long)flags) ? -1 : __real_pipe2(ends, flags);
}

long (*wrap_ioctl_script)(int fd, unsigned long request, void *argument);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	void *argument;
	long fake;

	LAST_ARGUMENT(void *, request, argument);
	if (inject_point(INJECT_IOCTL, request))
		return -1;
	fake = wrap_ioctl_script ? wrap_ioctl_script(fd, request, argument) : FAKE_NOT_MINE;
	if (fake == FAKE_NOT_MINE)
		fake = fake_ioctl(fd, request, argument);
	return fake != FAKE_NOT_MINE ? (int)answer(fake) : __real_ioctl(fd, request, argument);
}

/* Numbers that are younger than some C libraries. */
#define FACCESSAT2 439
#define CACHESTAT 451

static enum inject_call call_of(long number)
{
	switch (number) {
	case CACHESTAT:
		return INJECT_CACHESTAT;
	case FACCESSAT2:
		return INJECT_FACCESSAT;
	case SYS_preadv2:
		return INJECT_PREADV;
	case SYS_mbind:
		return INJECT_MBIND;
	default:
		return INJECT_SYSCALL;
	}
}

/* Fetches six arguments whether they are there or not, as libc does: the last one is on the stack, in somebody else's frame. */
__attribute__((no_sanitize_address)) long __wrap_syscall(long number, ...)
{
	long argument[6], fake;
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		argument[i] = va_arg(list, long);
	va_end(list);
	if (inject_point(call_of(number), (unsigned long)number))
		return -1;
	fake = fake_syscall(number, argument);
	if (fake != FAKE_NOT_MINE)
		return answer(fake);
	return __real_syscall(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}

/* Files */

int __wrap_fstat(int fd, struct stat *about)
{
	int result;

	if (inject_point(INJECT_FSTAT, 0))
		return -1;
	result = __real_fstat(fd, about);
	if (result == 0)
		fake_fstat(fd, about);
	return result;
}

int __wrap_fstatfs(int fd, struct statfs *about)
{
	int result;

	if (inject_point(INJECT_FSTATFS, 0))
		return -1;
	result = __real_fstatfs(fd, about);
	if (result == 0)
		fake_fstatfs(fd, about);
	return result;
}

int __wrap_ftruncate(int fd, off_t length)
{
	long fake;

	if (inject_point(INJECT_FTRUNCATE, (unsigned long)length))
		return -1;
	fake = fake_ftruncate(fd);
	return fake != FAKE_NOT_MINE ? (int)answer(fake) : __real_ftruncate(fd, length);
}

off_t __wrap_lseek(int fd, off_t offset, int whence)
{
	long fake;

	if (inject_point(INJECT_LSEEK, (unsigned long)whence))
		return -1;
	fake = fake_lseek(fd);
	return fake != FAKE_NOT_MINE ? answer(fake) : __real_lseek(fd, offset, whence);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t length)
{
	long fake;

	if (inject_point(INJECT_FALLOCATE, (unsigned long)mode))
		return -1;
	fake = fake_fallocate(fd, mode, offset, length);
	return fake != FAKE_NOT_MINE ? (int)answer(fake) : __real_fallocate(fd, mode, offset, length);
}

/* Says what went wrong by its result. */
int __wrap_posix_fadvise(int fd, off_t offset, off_t length, int advice)
{
	return inject_point(INJECT_FADVISE, (unsigned long)advice) ? errno : __real_posix_fadvise(fd, offset, length, advice);
}

ssize_t __wrap_read(int fd, void *buffer, size_t length)
{
	long fake;

	if (inject_point_short(INJECT_READ, &length))
		return -1;
	fake = fake_read(fd);
	return fake != FAKE_NOT_MINE ? answer(fake) : __real_read(fd, buffer, length);
}

ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset)
{
	long fake;

	if (inject_point_short(INJECT_PREAD, &length))
		return -1;
	fake = fake_pread(fd);
	return fake != FAKE_NOT_MINE ? answer(fake) : __real_pread(fd, buffer, length, offset);
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t length, off_t offset)
{
	long fake;

	if (inject_point_short(INJECT_PWRITE, &length))
		return -1;
	fake = fake_pwrite(fd, &length, offset);
	return fake != FAKE_NOT_MINE ? answer(fake) : __real_pwrite(fd, data, length, offset);
}

ssize_t __wrap_readlink(const char *path, char *name, size_t room)
{
	long fake;

	if (inject_point(INJECT_READLINK, 0))
		return -1;
	fake = fake_readlink(path, name, room);
	return fake != FAKE_NOT_MINE ? answer(fake) : __real_readlink(path, name, room);
}

ssize_t __wrap_splice(int from, off_t *from_offset, int to, off_t *to_offset, size_t length, unsigned int flags)
{
	long fake;

	if (inject_point_short(INJECT_SPLICE, &length))
		return -1;
	fake = fake_splice(from, to);
	return fake != FAKE_NOT_MINE ? answer(fake) : __real_splice(from, from_offset, to, to_offset, length, flags);
}

int __wrap_mprotect(void *address, size_t length, int protection)
{
	return inject_point(INJECT_MPROTECT, (unsigned long)protection) ? -1 : __real_mprotect(address, length, protection);
}

/* Waiting */

int __wrap_epoll_create1(int flags)
{
	return inject_point(INJECT_EPOLL_CREATE, 0) ? -1 : __real_epoll_create1(flags);
}

int __wrap_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
	return inject_point(INJECT_EPOLL_CTL, (unsigned long)what) ? -1 : __real_epoll_ctl(epoll, what, fd, event);
}

int __wrap_epoll_wait(int epoll, struct epoll_event *events, int room, int milliseconds)
{
	return inject_point(INJECT_EPOLL_WAIT, 0) ? -1 : __real_epoll_wait(epoll, events, room, milliseconds);
}

int __wrap_eventfd(unsigned int count, int flags)
{
	return inject_point(INJECT_EVENTFD, 0) ? -1 : __real_eventfd(count, flags);
}

_Atomic uint64_t wrap_clock_ns;

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	uint64_t stopped = clock == CLOCK_MONOTONIC ? wrap_clock_ns : 0;

	if (!stopped)
		return __real_clock_gettime(clock, now);
	*now = (struct timespec){ .tv_sec = (time_t)(stopped / 1000000000), .tv_nsec = (long)(stopped % 1000000000) };
	return 0;
}

int __wrap_timerfd_create(int clock, int flags)
{
	return inject_point(INJECT_TIMERFD, 0) ? -1 : __real_timerfd_create(clock, flags);
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *at, struct itimerspec *before)
{
	return inject_point(INJECT_TIMERFD, 1) ? -1 : __real_timerfd_settime(fd, flags, at, before);
}

/* Threads */

/* Says what went wrong by its result. */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument)
{
	int result;

	if (inject_point(INJECT_PTHREAD_CREATE, 0))
		return errno;
	inside_libc = true;
	result = __real_pthread_create(thread, attributes, body, argument);
	inside_libc = false;
	return result;
}

/* The names that -D_FILE_OFFSET_BITS=64 makes of them in glibc, where off_t has 64 bits anyway: the same functions. */
#define SAME_AS(name) __attribute__((alias("__wrap_" #name)))

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length) SAME_AS(fallocate);
int __wrap_fcntl64(int fd, int command, ...) SAME_AS(fcntl);
int __wrap_fstat64(int fd, struct stat *about) SAME_AS(fstat);
int __wrap_fstatfs64(int fd, struct statfs *about) SAME_AS(fstatfs);
int __wrap_ftruncate64(int fd, off_t length) SAME_AS(ftruncate);
off_t __wrap_lseek64(int fd, off_t offset, int whence) SAME_AS(lseek);
void *__wrap_mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset) SAME_AS(mmap);
int __wrap_open64(const char *path, int flags, ...) SAME_AS(open);
int __wrap_openat64(int directory, const char *path, int flags, ...) SAME_AS(openat);
int __wrap_posix_fadvise64(int fd, off_t offset, off_t length, int advice) SAME_AS(posix_fadvise);
ssize_t __wrap_pread64(int fd, void *buffer, size_t length, off_t offset) SAME_AS(pread);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t length, off_t offset) SAME_AS(pwrite);

/* What fortified builds make of an open() without a mode, when the flags are not known to the compiler. */
int __wrap___open_2(const char *path, int flags)
{
	return __wrap_open(path, flags, 0);
}

int __wrap___open64_2(const char *path, int flags)
{
	return __wrap_open(path, flags, 0);
}
