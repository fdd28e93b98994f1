/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

struct sink {
	gmem_log_fn fn;
	void *user;
};

#define TRIES 1000

/* Read without a lock, so that a child forked at any moment is never stuck: a sequence number that is odd while the sink
 * changes. A message that meets a change which does not end is dropped. */
static atomic_int wanted;
static atomic_uint sequence;
static pthread_mutex_t writers = PTHREAD_MUTEX_INITIALIZER;
static _Atomic gmem_log_fn sink_fn;
static void *_Atomic sink_user;

void gmem_set_log(enum gmem_log_level level, gmem_log_fn fn, void *user)
{
	pthread_mutex_lock(&writers);
	atomic_fetch_add(&sequence, 1);
	atomic_store(&sink_fn, fn);
	atomic_store(&sink_user, user);
	atomic_fetch_add(&sequence, 1);
	atomic_store(&wanted, fn ? (int)level : 0);
	pthread_mutex_unlock(&writers);
}

static struct sink current_sink(void)
{
	for (int i = 0; i < TRIES; i++) {
		unsigned int before = atomic_load(&sequence);
		struct sink now = { atomic_load(&sink_fn), atomic_load(&sink_user) };

		if (before % 2 == 0 && atomic_load(&sequence) == before)
			return now;
	}
	return (struct sink){ NULL, NULL };
}

void gmemi_log(enum gmem_log_level level, const char *format, va_list arguments)
{
	static _Thread_local bool inside; /* what the sink's own calls have to say would go on for ever */
	char text[512];
	struct sink to;

	if ((int)level > atomic_load_explicit(&wanted, memory_order_relaxed) || inside)
		return;
	to = current_sink();
	if (!to.fn)
		return;
	vsnprintf(text, sizeof(text), format, arguments);
	inside = true;
	to.fn(to.user, level, text);
	inside = false;
}
