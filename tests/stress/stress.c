/* SPDX-License-Identifier: MIT */
#include "stress.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../live/content.h"
#include "../live/guest.h"
#include "../live/promise.h"
#include "gt.h"

#define SECOND UINT64_C(1000000000)
#define MOMENT (SECOND / 8)

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

struct stress_time stress_begin(void)
{
	const char *seconds = getenv("STRESS_SECONDS");
	uint64_t length = seconds && *seconds ? strtoull(seconds, NULL, 10) * SECOND : MOMENT;

	return (struct stress_time){ .end = now() + length };
}

bool stress_goes_on(struct stress_time *time)
{
	time->rounds++;
	if (now() < time->end)
		return true;
	printf("  %lu rounds\n", time->rounds);
	return false;
}

/* --- memory --- */

bool stress_is_zero(const unsigned char *page, uint64_t size)
{
	return page[0] == 0 && memcmp(page, page + 1, size - 1) == 0;
}

uint64_t stress_seed(const struct arena *a, unsigned int number)
{
	return a->seed * (2 * number + 3) + 1;
}

struct range stress_range(const struct arena *a, uint64_t *seed, uint64_t unit)
{
	uint64_t units = a->length / unit, first = content_random(seed) % units, most = units - first;
	uint64_t wanted = 1 + content_random(seed) % (content_random(seed) % 4 ? 16 : units);

	return (struct range){ first * unit, (wanted < most ? wanted : most) * unit };
}

static void make_memory(struct arena *a)
{
	uint64_t need = a->lazy ? GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY : GMEM_NEED_MAPPABLE;
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = a->backing, .need = need };

	if (gmem_create(a->vm, a->length, &a->mem, &opts))
		fail_msg("%s", gmem_last_error());
}

static unsigned char *keep(const unsigned char *content, uint64_t length)
{
	unsigned char *image = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(image != MAP_FAILED);
	memcpy(image, content, length);
	return image;
}

struct arena arena_make(uint32_t backing, bool lazy, uint64_t length)
{
	struct arena a = { .vm_fd = -1, .backing = backing, .lazy = lazy, .length = length };
	struct gmem_info info = { .size = sizeof(info) };

	a.seed = content_seed();
	if (lazy && backing == GMEM_BACKING_MEMFD && gt_over_guest_memfd())
		a.backing = GMEM_BACKING_GUEST_MEMFD;
	if (a.backing == GMEM_BACKING_GUEST_MEMFD)
		a.vm_fd = guest_vm();
	assert_int_equal(gmem_vm_open(a.vm_fd, &a.vm, NULL), 0);
	make_memory(&a);
	assert_int_equal(gmem_query(a.mem, &info), 0);
	a.page = info.page_size;
	a.image = keep(content_make(length, &a.seed), length);
	a.file = content_file(a.image, length, &a.seed);
	return a;
}

void arena_renew(struct arena *a)
{
	gmem_destroy(a->mem);
	make_memory(a);
}

void arena_end(struct arena *a)
{
	gmem_destroy(a->mem);
	gmem_vm_close(a->vm);
	if (a->vm_fd >= 0)
		close(a->vm_fd);
	munmap(a->image, a->length);
	close(a->file);
}

unsigned char *arena_map(struct arena *a)
{
	return promise_map(gmem_get_fd(a->mem, GMEM_FD_MEMORY), a->length);
}

void arena_assert_filled(struct arena *a)
{
	unsigned char *at = arena_map(a);

	for (uint64_t i = 0; i < a->length; i += a->page)
		if (memcmp(at + i, a->image + i, a->page) != 0)
			fail_msg("page 0x%llx is not as it was put in%s", (unsigned long long)(i / a->page),
				 stress_is_zero(at + i, a->page) ? ": it is zeros" : "");
	munmap(at, a->length);
}

/* --- threads --- */

struct member {
	struct crew *crew;
	crew_fn fn;
	unsigned int number;
};

void crew_begin(struct crew *crew, void *arg)
{
	memset(crew, 0, sizeof(*crew));
	crew->arg = arg;
	assert_int_equal(pthread_mutex_init(&crew->lock, NULL), 0);
}

void crew_failed(struct crew *crew, const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&crew->lock);
	if (!crew->failure[0]) {
		va_start(args, format);
		vsnprintf(crew->failure, sizeof(crew->failure), format, args);
		va_end(args);
	}
	pthread_mutex_unlock(&crew->lock);
	atomic_store(&crew->stop, true);
}

bool crew_goes_on(struct crew *crew)
{
	return !atomic_load(&crew->stop);
}

static void *work(void *arg)
{
	struct member member = *(struct member *)arg;

	free(arg);
	member.fn(member.crew, member.number);
	return NULL;
}

void crew_start(struct crew *crew, crew_fn fn, unsigned int number)
{
	struct member *member = malloc(sizeof(*member));
	sigset_t all, before;

	assert_non_null(member);
	*member = (struct member){ crew, fn, number };
	sigfillset(&all);
	assert_true(crew->count < sizeof(crew->threads) / sizeof(crew->threads[0]));
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
	assert_int_equal(pthread_create(&crew->threads[crew->count++], NULL, work, member), 0);
	assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
}

void crew_wait(struct crew *crew)
{
	while (crew->count)
		pthread_join(crew->threads[--crew->count], NULL);
	if (crew->failure[0])
		fail_msg("%s", crew->failure);
	atomic_store(&crew->stop, false);
}

void crew_end(struct crew *crew)
{
	pthread_mutex_destroy(&crew->lock);
}
