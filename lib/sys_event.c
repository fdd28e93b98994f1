/* SPDX-License-Identifier: MIT */
/* System calls about waiting, time and where threads run. */
#include "sys.h"

#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "sys_int.h"

#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#define NO_WAIT 8 /* RWF_NOWAIT, kernel 4.14 */
#define NANOSECONDS UINT64_C(1000000000)

uint64_t gmemi_sys_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* fails for a bad pointer or clock only */
	return (uint64_t)now.tv_sec * NANOSECONDS + (uint64_t)now.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / NANOSECONDS), .tv_nsec = (long)(ns % NANOSECONDS) };
}

int gmemi_sys_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
	struct timespec timeout = timespec_of(timeout_ns);

	return gmemi_nothing(
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns == UINT64_MAX ? NULL : &timeout));
}

void gmemi_sys_wake(const _Atomic uint32_t *word)
{
	/* There is nothing that can go wrong with it, and all is lost if it did: not twice. */
	if (syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX) < 0)
		(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX);
}

/* preadv2(), which not every C library has: the offset comes in two halves, of which a 64-bit kernel looks at the first. */
static int64_t read_now(int fd, void *buffer, size_t length, off_t offset)
{
	struct iovec piece = { .iov_base = buffer, .iov_len = length };

	return gmemi_amount(syscall(SYS_preadv2, fd, &piece, 1, (long)offset, (long)(offset >> 32), NO_WAIT), length);
}

int64_t gmemi_sys_pread_now(int fd, void *buffer, size_t length, uint64_t offset)
{
	return read_now(fd, buffer, length, (off_t)offset);
}

int64_t gmemi_sys_read_now(int fd, void *buffer, size_t length)
{
	return read_now(fd, buffer, length, -1);
}

int gmemi_sys_epoll(void)
{
	return gmemi_moved_up(epoll_create1(EPOLL_CLOEXEC));
}

static int control(int epoll, int what, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event event = { .events = events, .data.u64 = tag };

	return gmemi_nothing(epoll_ctl(epoll, what, fd, &event));
}

int gmemi_sys_epoll_add(int epoll, int fd, uint32_t events, uint64_t tag)
{
	return control(epoll, EPOLL_CTL_ADD, fd, events, tag);
}

int gmemi_sys_epoll_change(int epoll, int fd, uint32_t events, uint64_t tag)
{
	return control(epoll, EPOLL_CTL_MOD, fd, events, tag);
}

int gmemi_sys_epoll_remove(int epoll, int fd)
{
	return control(epoll, EPOLL_CTL_DEL, fd, 0, 0);
}

static int milliseconds(uint64_t ns)
{
	uint64_t ms = ns / 1000000 + (ns % 1000000 != 0);

	return ns == UINT64_MAX ? -1 : ms > INT_MAX ? INT_MAX : (int)ms;
}

int gmemi_sys_epoll_wait(int epoll, struct epoll_event *events, int room, uint64_t timeout_ns)
{
	return (int)gmemi_amount(epoll_wait(epoll, events, room, milliseconds(timeout_ns)), (size_t)room);
}

int gmemi_sys_eventfd(void)
{
	return gmemi_moved_up(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void gmemi_sys_eventfd_raise(int fd)
{
	uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR) /* full is as good as raised */
		;
}

void gmemi_sys_eventfd_lower(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR) /* lowered already is as good */
		;
}

int gmemi_sys_timer(void)
{
	return gmemi_moved_up(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
}

int gmemi_sys_timer_set(int fd, uint64_t when)
{
	struct itimerspec at = { .it_value = timespec_of(when == UINT64_MAX ? 0 : when ? when : 1) };

	return gmemi_nothing(timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL));
}

bool gmemi_sys_timer_take(int fd)
{
	uint64_t times;

	return read(fd, &times, sizeof(times)) == (ssize_t)sizeof(times);
}

uint32_t gmemi_sys_process(void)
{
	return (uint32_t)getpid();
}

int gmemi_sys_affinity(uint32_t thread, uint64_t *words, uint32_t count)
{
	int64_t r = gmemi_outcome(syscall(SYS_sched_getaffinity, (pid_t)thread, count * sizeof(*words), words));

	if (r < 0)
		return (int)r;
	memset((unsigned char *)words + r, 0, count * sizeof(*words) - (size_t)r);
	return 0;
}

int gmemi_sys_set_affinity(const uint64_t *words, uint32_t count)
{
	return gmemi_nothing(syscall(SYS_sched_setaffinity, 0, count * sizeof(*words), words));
}

void gmemi_sys_yield(void)
{
	(void)sched_yield(); /* always succeeds */
}
