/* SPDX-License-Identifier: MIT */
#include "host_thread.h"

#include <pthread.h>
#include <string.h>

#include "checksum.h"
#include "microvm.h"
#include "say.h"

struct work {
	const uint64_t *words;
	uint64_t count;
	struct reading *reading;
};

static void *read_memory(void *argument)
{
	struct work *work = argument;

	work->reading->started = now_ns();
	work->reading->checksum = checksum_words(0, work->words, work->count);
	work->reading->ended = now_ns();
	return NULL;
}

int host_thread_run(struct gmem *mem, const struct layout *layout, struct reading *reading)
{
	const struct gmem_map_opts readonly = { .size = sizeof(readonly), .flags = GMEM_MAP_READONLY };
	struct work work = { .count = layout->words, .reading = reading };
	pthread_t thread;
	void *address;
	int error;

	if (gmem_map(mem, 0, layout->length, &address, &readonly) < 0)
		return fail_gmem("map guest memory");
	work.words = address;
	error = pthread_create(&thread, NULL, read_memory, &work);
	if (!error)
		error = pthread_join(thread, NULL);
	if (error)
		return fail("cannot run a host thread: %s", strerror(error));
	return 0;
}
