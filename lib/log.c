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

static atomic_int wanted; /* read first and without the lock: silence costs one load */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sink sink;

void gmem_set_log(enum gmem_log_level level, gmem_log_fn fn, void *user)
{
	pthread_mutex_lock(&lock);
	sink = (struct sink){ fn, user };
	atomic_store(&wanted, fn ? (int)level : 0);
	pthread_mutex_unlock(&lock);
}

static struct sink current_sink(void)
{
	struct sink now;

	pthread_mutex_lock(&lock);
	now = sink;
	pthread_mutex_unlock(&lock);
	return now;
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
