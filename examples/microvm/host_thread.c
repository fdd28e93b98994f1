/* SPDX-License-Identifier: MIT */
#include "host_thread.h"

#include <pthread.h>
#include <string.h>

#include "checksum.h"
#include "microvm.h"
#include "say.h"
#include "sigbus.h"

struct work {
	const uint64_t *words;
	uint64_t count;
	struct reading *reading;
	int result;
};

static void read_memory(void *argument)
{
	struct work *work = argument;

	work->reading->started = now_ns();
	work->reading->checksum = checksum_words(0, work->words, work->count);
	work->reading->ended = now_ns();
}

static void *run(void *argument)
{
	struct work *work = argument;

	work->result = sigbus_guard(read_memory, work);
	return NULL;
}

int host_thread_run(struct microvm *m)
{
	const struct gmem_map_opts readonly = { .size = sizeof(readonly), .flags = GMEM_MAP_READONLY };
	struct work work = { .count = m->layout.words, .reading = &m->reading };
	void *address = m->paging.address;
	pthread_t thread;
	int error;

	if (!address && gmem_map(m->mem, 0, m->layout.length, &address, &readonly) < 0)
		return fail_gmem("map guest memory");
	work.words = address;
	error = pthread_create(&thread, NULL, run, &work);
	if (!error)
		error = pthread_join(thread, NULL);
	if (error)
		return fail("cannot run a host thread: %s", strerror(error));
	return work.result;
}
