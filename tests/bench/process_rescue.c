/* SPDX-License-Identifier: MIT */
/* A thread in a page fault waits for ever when its pager's process is gone. */
#include "process.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "trap.h"

/* Zeros, which are not the content: nothing of it counts. In a thread that has no way out by trap.h. */
static void rescue_waiting(struct rescue *rescue, int error)
{
	struct handed *vm;
	int r = 0;

	pthread_mutex_lock(&rescue->lock);
	vm = rescue->waits;
	if (vm && rescue->run)
		fault_failed(rescue->run, "a page that another process was to bring", error);
	if (vm)
		r = gmem_uffd_resolve(vm->uffd, vm->mem, 0, vm->size, GMEM_RESOLVE_ZERO, NULL, NULL);
	pthread_mutex_unlock(&rescue->lock);
	if (r < 0) {
		fprintf(stderr, "bench: who waits for a pager's process cannot be let go: %s\n", gmem_last_error());
		_exit(2);
	}
}

/* A process says nothing without being asked, and its answers are read by who has asked. */
static void look_at_line(struct rescue *rescue, unsigned int i, const struct pollfd *fd)
{
	if (!(fd->revents & (POLLHUP | POLLERR)))
		return;
	rescue->lines[i] = -1;
	rescue_waiting(rescue, ESRCH);
}

static void *watch(void *argument)
{
	enum { TIMER = PROCESSES, STOP, ALL };
	struct rescue *rescue = argument;
	struct pollfd fds[ALL];
	uint64_t times;

	for (;;) {
		for (unsigned int i = 0; i < PROCESSES; i++)
			fds[i] = (struct pollfd){ .fd = rescue->lines[i] };
		fds[TIMER] = (struct pollfd){ .fd = rescue->timer, .events = POLLIN };
		fds[STOP] = (struct pollfd){ .fd = rescue->stop, .events = POLLIN };
		if (poll(fds, ALL, -1) < 0)
			continue; /* a signal came */
		if (fds[STOP].revents)
			return NULL;
		for (unsigned int i = 0; i < PROCESSES; i++)
			look_at_line(rescue, i, &fds[i]);
		if (fds[TIMER].revents && read(rescue->timer, &times, sizeof(times)) == sizeof(times))
			rescue_waiting(rescue, ETIMEDOUT);
	}
}

void rescue_begin(struct rescue *rescue, const struct pager_process *processes)
{
	for (unsigned int i = 0; i < PROCESSES; i++)
		rescue->lines[i] = processes[i].line;
	pthread_mutex_init(&rescue->lock, NULL);
	rescue->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	rescue->stop = eventfd(0, EFD_CLOEXEC);
	rescue->started = rescue->timer >= 0 && rescue->stop >= 0 && pthread_create(&rescue->thread, NULL, watch, rescue) == 0;
	if (rescue->started)
		return;
	if (rescue->timer >= 0)
		close(rescue->timer);
	if (rescue->stop >= 0)
		close(rescue->stop);
	pthread_mutex_destroy(&rescue->lock);
	give_up("no thread can be made to watch processes");
}

void rescue_end(struct rescue *rescue)
{
	if (!rescue->started)
		return;
	eventfd_write(rescue->stop, 1);
	pthread_join(rescue->thread, NULL);
	close(rescue->timer);
	close(rescue->stop);
	pthread_mutex_destroy(&rescue->lock);
	rescue->started = false;
}

static void set(struct rescue *rescue, struct handed *vm, struct fault_run *run, time_t seconds)
{
	const struct itimerspec when = { .it_value.tv_sec = seconds };

	pthread_mutex_lock(&rescue->lock);
	rescue->waits = vm;
	rescue->run = run;
	pthread_mutex_unlock(&rescue->lock);
	timerfd_settime(rescue->timer, 0, &when, NULL);
}

void rescue_expect(struct rescue *rescue, struct handed *vm, struct fault_run *run)
{
	set(rescue, vm, run, RESCUE_AFTER);
}

void rescue_forget(struct rescue *rescue)
{
	set(rescue, NULL, NULL, 0);
}
