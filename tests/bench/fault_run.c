/* SPDX-License-Identifier: MIT */
#include "fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fault_watch.h"
#include "judge.h"
#include "machine.h"
#include "process.h"
#include "trap.h"
#include "world.h"

#define STUCK 60 /* seconds for a run that takes less than one: a fault was forgotten */
#define AROUND 4 /* more pages than are touched may be brought in */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

const char *fault_open(struct world *world, size_t most)
{
	const char *why = watch_absent();
	struct fault_run *run;

	if (!why)
		why = world_with_memfd(world);
	if (why)
		return why;
	if (world->size > most)
		world->size = most;
	content_begin(&world->content, PATTERN_DENSE, world->size);
	content_make_file(&world->content);
	run = world->fault = calloc(1, sizeof(*run));
	if (!run)
		give_up("out of memory");
	run->content = &world->content;
	run->vm = world->vm;
	run->size = world->size;
	pthread_mutex_init(&run->lock, NULL);
	pthread_cond_init(&run->moved, NULL);
	machine_cores(run->cores);
	run->pages = calloc(run->size / FAULT_PAGE, sizeof(*run->pages));
	run->ns = calloc(run->size / FAULT_PAGE, sizeof(*run->ns));
	if (!run->pages || !run->ns)
		give_up("out of memory");
	return NULL;
}

/* Called when no other thread has the lock for long: a faulter waits for the gate only. */
static void move_gate(struct fault_run *run, enum fault_gate gate)
{
	pthread_mutex_lock(&run->lock);
	run->gate = gate;
	pthread_cond_broadcast(&run->moved);
	pthread_mutex_unlock(&run->lock);
}

static bool wait_at_gate(struct fault_run *run)
{
	enum fault_gate gate;

	pthread_mutex_lock(&run->lock);
	while (run->gate == GATE_SHUT)
		pthread_cond_wait(&run->moved, &run->lock);
	gate = run->gate;
	pthread_mutex_unlock(&run->lock);
	return gate == GATE_OPEN;
}

bool fault_is_right(const struct fault_run *run, size_t offset)
{
	return *(const volatile uint64_t *)(const void *)(run->at + offset) == content_word(offset);
}

/* One look at the clock a page: the end of one is the begin of the next. */
static void touch_pages(struct faulter *faulter)
{
	const struct fault_server *server = faulter->run->setup->server;
	bool (*touch)(const struct fault_run *, size_t) = server->touch ? server->touch : fault_is_right;
	uint64_t last = now_ns();

	for (; faulter->done < faulter->n; faulter->done++) {
		uint64_t now;

		if (!touch(faulter->run, faulter->pages[faulter->done] * FAULT_PAGE))
			return;
		now = now_ns();
		faulter->ns[faulter->done] = now - last < UINT32_MAX ? (uint32_t)(now - last) : UINT32_MAX;
		last = now;
	}
}

static void *faulter_body(void *argument)
{
	struct faulter *faulter = argument;

	if (wait_at_gate((struct fault_run *)faulter->run))
		touch_pages(faulter);
	return NULL;
}

void fault_thread(pthread_t *thread, const cpu_set_t *cores, void *(*body)(void *), void *argument)
{
	pthread_attr_t attributes;
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setaffinity_np(&attributes, sizeof(*cores), cores);
	error = pthread_create(thread, &attributes, body, argument);
	pthread_attr_destroy(&attributes);
	if (error)
		give_up("pthread_create(): %s", strerror(error));
}

static void only(cpu_set_t *cores, int core)
{
	CPU_ZERO(cores);
	CPU_SET((size_t)core, cores);
}

void fault_where(const struct fault_run *run, unsigned int handler, cpu_set_t *cores)
{
	switch (run->setup->place) {
	case PLACE_SAME: only(cores, run->cores[0]); break;
	case PLACE_ACROSS: only(cores, run->cores[1]); break;
	case PLACE_EACH: only(cores, run->cores[handler]); break;
	default: machine_allowed(cores);
	}
}

static void start_faulters(struct fault_run *run)
{
	unsigned int n = run->setup->faulters ? run->setup->faulters : 1, part = run->n / n;
	cpu_set_t core;

	run->gate = GATE_SHUT;
	for (unsigned int i = 0; i < n; i++) {
		unsigned int first = i * part, end = i + 1 < n ? first + part : run->n;

		run->faulters[i] = (struct faulter){ .run = run, .pages = run->pages + first, .ns = run->ns + first,
						     .n = end - first };
		only(&core, run->cores[i]);
		fault_thread(&run->faulters[i].thread, &core, faulter_body, &run->faulters[i]);
		run->started++;
	}
}

void fault_before(struct world *world, const struct fault_setup *setup)
{
	struct fault_run *run = world->fault;
	void *view = mmap(NULL, run->size, PROT_READ, MAP_PRIVATE, run->content->fd, 0);

	if (view == MAP_FAILED)
		give_up("mmap() of the content: %s", strerror(errno));
	run->setup = setup;
	run->view = view;
	run->failed = NULL;
	run->n = fault_order(setup->order, run->pages, (unsigned int)(run->size / FAULT_PAGE));
	memset(run->ns, 0, run->n * sizeof(*run->ns));
	setup->server->begin(run);
	start_faulters(run);
}

void fault_settle(struct world *world)
{
	size_t touched = world->fault->n * FAULT_PAGE, most = touched * AROUND;

	content_warm(&world->content);
	machine_prime(most < world->size ? most : world->size);
}

/* A thread that waits in a fault cannot be told to stop: there is no going on. */
static void join_faulters(struct fault_run *run)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += STUCK;
	for (; run->started; run->started--)
		if (pthread_timedjoin_np(run->faulters[run->started - 1].thread, NULL, &end) != 0) {
			fprintf(stderr, "bench: page %u of %u was not brought in within %d s\n",
				run->faulters[run->started - 1].done, run->n, STUCK);
			_exit(2);
		}
}

void fault_touch(struct world *world)
{
	move_gate(world->fault, GATE_OPEN);
	join_faulters(world->fault);
}

/* Pages that came with others do not count: nobody has waited for them. */
static unsigned int keep_waits(uint32_t *ns, unsigned int n)
{
	enum { TOUCH = 1000 };
	unsigned int kept = 0;

	for (unsigned int i = 0; i < n; i++)
		if (ns[i] > TOUCH)
			ns[kept++] = ns[i];
	return kept;
}

void fault_tell(struct world *world, double times[MEASURE_WAYS])
{
	struct fault_run *run = world->fault;
	unsigned int n = keep_waits(run->ns, run->n);

	if (!n)
		return;
	times[MEASURE_P50] = judge_percentile(run->ns, n, 50) * 1e-9;
	times[MEASURE_P99] = judge_percentile(run->ns, n, 99) * 1e-9;
}

void fault_failed(struct fault_run *run, const char *what, int error)
{
	const char *none = NULL;

	if (atomic_load(&run->failed))
		return;
	run->error = error;
	atomic_compare_exchange_strong(&run->failed, &none, what);
}

static void compare(const struct fault_run *run)
{
	if (run->failed)
		give_up("%s: %s", run->failed, strerror(run->error));
	for (unsigned int i = 0; i < FAULT_MOST; i++)
		if (run->faulters[i].done < run->faulters[i].n)
			give_up("page %u had not got its content when it was touched", run->faulters[i].pages[run->faulters[i].done]);
	for (unsigned int i = 0; run->at && i < run->n; i++) {
		size_t offset = run->pages[i] * FAULT_PAGE;

		if (memcmp(run->at + offset, run->view + offset, FAULT_PAGE) != 0)
			give_up("page %u has not got its content", run->pages[i]);
	}
}

/* Also of what was only begun. */
static void drop(struct fault_run *run)
{
	if (run->started)
		move_gate(run, GATE_GONE);
	join_faulters(run);
	if (run->state)
		run->setup->server->end(run);
	if (run->view)
		munmap((void *)run->view, run->size);
	memset(run->faulters, 0, sizeof(run->faulters));
	run->view = run->at = NULL;
	run->state = NULL;
}

void fault_after(struct world *world)
{
	compare(world->fault);
	drop(world->fault);
}

void fault_end(struct world *world)
{
	struct fault_run *run = world->fault;

	if (!run)
		return;
	drop(run);
	processes_end(run->processes);
	pthread_mutex_destroy(&run->lock);
	pthread_cond_destroy(&run->moved);
	free(run->pages);
	free(run->ns);
	free(run);
	world->fault = NULL;
}
