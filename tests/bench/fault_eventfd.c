/* SPDX-License-Identifier: MIT */
/* What no fault that another thread serves can be faster than: one thread asks another one and waits for the answer. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fault.h"
#include "trap.h"

struct pair {
	int ask, answer; /* -1 = none */
	bool started;
	pthread_t thread;
};

#define ASK 1
#define STOP 2

static void *answer(void *argument)
{
	struct pair *pair = argument;
	eventfd_t asked;

	while (eventfd_read(pair->ask, &asked) == 0 && asked == ASK)
		eventfd_write(pair->answer, 1);
	return NULL;
}

static bool ask(const struct fault_run *run, size_t offset)
{
	struct pair *pair = run->state;
	eventfd_t answered;

	(void)offset;
	return eventfd_write(pair->ask, ASK) == 0 && eventfd_read(pair->answer, &answered) == 0;
}

static void begin(struct fault_run *run)
{
	struct pair *pair = run->state = calloc(1, sizeof(*pair));
	cpu_set_t cores;

	if (!pair)
		give_up("out of memory");
	pair->answer = -1;
	pair->ask = eventfd(0, EFD_CLOEXEC);
	must_errno(pair->ask, "eventfd()");
	pair->answer = eventfd(0, EFD_CLOEXEC);
	must_errno(pair->answer, "eventfd()");
	fault_where(run, 0, &cores);
	fault_thread(&pair->thread, &cores, answer, pair);
	pair->started = true;
}

static void end(struct fault_run *run)
{
	struct pair *pair = run->state;

	if (pair->started) {
		eventfd_write(pair->ask, STOP);
		pthread_join(pair->thread, NULL);
	}
	if (pair->ask >= 0)
		close(pair->ask);
	if (pair->answer >= 0)
		close(pair->answer);
	free(pair);
}

const struct fault_server fault_by_eventfd = { begin, end, ask };
