/* SPDX-License-Identifier: MIT */
/* A guest whose memory a pager serves: what it reads is the snapshot's, whatever happens meanwhile. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "content.h"
#include "gt.h"
#include "huge.h"
#include "world.h"

#define GPA (UINT64_C(1) << 28)
#define NEEDS (GT_NEEDS_VCPU | GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define PAGE UINT64_C(4096)

struct machine {
	struct world w;
	struct gmem_uffd *uffd;
	struct gmem_source *source;
	struct gmem_pager *pager;
	const unsigned char *content;
	unsigned char *at; /* the host's mapping */
	int file;
};

static void must(int r)
{
	if (r < 0)
		fail_msg("%s", gmem_last_error());
}

static void add_memory(struct machine *m, uint32_t backing, uint64_t length)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = backing, .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	void *at;

	if (backing == GMEM_BACKING_HUGETLB)
		opts.need |= GMEM_NEED_HUGE_2M;
	m->w.length = length;
	must(gmem_create(m->w.vm, length, &m->w.mem, &opts));
	world_bind(&m->w, 0, GPA, 0, length, 0);
	must(gmem_uffd_create(m->w.vm, &m->uffd, NULL));
	must(gmem_uffd_register(m->uffd, m->w.mem, 0, length, NULL));
	must(gmem_map(m->w.mem, 0, length, &at, NULL));
	m->at = at;
}

static void serve(struct machine *m, uint64_t background)
{
	struct gmem_pager_create_opts opts = { .size = sizeof(opts) };
	struct gmem_pager_add_opts add = { .size = sizeof(add), .background = background };
	struct gmem_extent extent = { .length = m->w.length, .fd = m->file };

	must(gmem_source_create_file(&extent, 1, &m->source));
	must(gmem_pager_create(&m->pager, &opts));
	must(gmem_pager_add(m->pager, m->uffd, m->source, &add));
	must(gmem_pager_start(m->pager));
}

static struct machine begin(uint32_t backing, uint64_t length, uint64_t background)
{
	struct machine m = { .w = world_start() };

	backing = world_backing(backing);
	m.content = content_make(length, &m.w.seed);
	m.file = content_file(m.content, length, &m.w.seed);
	add_memory(&m, backing, length);
	serve(&m, background);
	return m;
}

static void end(struct machine *m)
{
	gmem_pager_destroy(m->pager);
	gmem_source_destroy(m->source);
	gmem_uffd_destroy(m->uffd);
	world_end(&m->w);
	close(m->file);
}

static void sees_all(struct machine *m)
{
	world_assert_guest_sees(&m->w, GPA, m->content, m->w.length);
}

/* Pieces of 64 KiB in random order, each once. */
static void sees_pieces(struct machine *m)
{
	uint64_t piece = 65536, pieces = m->w.length / piece, stride = content_random(&m->w.seed) | 1, first = content_random(&m->w.seed);

	for (uint64_t i = 0; i < pieces; i++) { /* a power of two: an odd stride visits all */
		uint64_t at = (first + i * stride) % pieces * piece + content_random(&m->w.seed) % 16 * PAGE;

		world_assert_guest_sees(&m->w, GPA + at, m->content + at, PAGE);
	}
	sees_all(m);
}

static uint64_t power_of_two(uint64_t most)
{
	uint64_t length = MIB * 2;

	while (length * 2 <= most)
		length *= 2;
	return length;
}

static void settled(struct machine *m)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };

	must(gmem_pager_stop(m->pager, NULL));
	must(gmem_uffd_query(m->uffd, &info));
	assert_int_equal(info.pending, 0);
	assert_int_equal(info.faults, info.missing + info.minor);
	assert_true(info.faults > 0);
}

static void memfd_in_sequence(void **state)
{
	struct machine m = begin(GMEM_BACKING_MEMFD, content_length(), 0);

	(void)state;
	sees_all(&m);
	settled(&m);
	end(&m);
}

static void memfd_at_random(void **state)
{
	struct machine m = begin(GMEM_BACKING_MEMFD, power_of_two(content_length()), 0);

	(void)state;
	sees_pieces(&m);
	settled(&m);
	end(&m);
}

static void hugetlb_at_random(void **state)
{
	struct machine m = begin(GMEM_BACKING_HUGETLB, power_of_two(huge_length(8 * HUGE_PAGE)), 0);

	(void)state;
	sees_pieces(&m);
	settled(&m);
	end(&m);
}

static void beside_the_background(void **state)
{
	struct machine m = begin(GMEM_BACKING_MEMFD, power_of_two(content_length()), UINT64_MAX);

	(void)state;
	sees_pieces(&m);
	end(&m);
}

static void writes_are_kept(void **state)
{
	struct machine m = begin(GMEM_BACKING_MEMFD, 4 * MIB, 0);
	uint64_t word;

	(void)state;
	for (uint64_t at = 0; at < m.w.length; at += 37 * PAGE) {
		assert_true(guest_store(m.w.guest, GPA + at + 8, at ^ 0x5555));
		assert_true(guest_load(m.w.guest, GPA + at + 8, &word));
		assert_int_equal(word, at ^ 0x5555);
		world_assert_guest_sees(&m.w, GPA + at + 16, m.content + at + 16, PAGE - 16);
	}
	assert_int_equal(gmem_pager_finish(m.pager, m.uffd, GMEM_FOREVER), 0);
	for (uint64_t at = 0; at < m.w.length; at += 37 * PAGE) {
		assert_true(guest_load(m.w.guest, GPA + at + 8, &word));
		assert_int_equal(word, at ^ 0x5555);
		assert_int_equal(memcmp(m.at + at + 16, m.content + at + 16, PAGE - 16), 0);
	}
	end(&m);
}

/* The host touches the same pages from two threads. */
static struct machine *shared;
static atomic_uint wrong;

static void *host_reads(void *arg)
{
	uint64_t from = (uintptr_t)arg * PAGE;

	for (uint64_t at = from; at < shared->w.length; at += 2 * PAGE)
		if (memcmp(shared->at + at, shared->content + at, PAGE) != 0)
			atomic_fetch_add(&wrong, 1);
	return NULL;
}

static void together_with_the_host(void **state)
{
	struct machine m = begin(GMEM_BACKING_MEMFD, content_length(), 0);
	pthread_t threads[2];

	(void)state;
	shared = &m;
	atomic_store(&wrong, 0);
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, host_reads, (void *)i), 0);
	sees_all(&m);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&wrong), 0);
	settled(&m);
	end(&m);
}

struct walker {
	struct guest *guest;
	uint64_t sum;
};

static void *walks_too(void *arg)
{
	struct walker *walker = arg;

	walker->sum = guest_sum(walker->guest, WORLD_SUM, GPA, shared->w.length);
	return NULL;
}

/* Two vCPUs and two threads of the host, all over the same pages. */
static void two_vcpus_and_the_host(void **state)
{
	struct machine m = begin(GMEM_BACKING_MEMFD, content_length(), 0);
	struct walker walker = { .guest = guest_join(m.w.guest) };
	pthread_t threads[3];

	(void)state;
	shared = &m;
	atomic_store(&wrong, 0);
	assert_int_equal(pthread_create(&threads[2], NULL, walks_too, &walker), 0);
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, host_reads, (void *)i), 0);
	sees_all(&m);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(walker.sum, host_sum(WORLD_SUM, m.content, m.w.length));
	assert_int_equal(atomic_load(&wrong), 0);
	settled(&m);
	guest_end(walker.guest);
	end(&m);
}

static void the_balloon_before_and_after_a_fault(void **state)
{
	struct machine m = begin(GMEM_BACKING_MEMFD, 4 * MIB, 0);
	unsigned char zeros[4096] = { 0 };

	(void)state;
	for (uint64_t at = 0; at < m.w.length; at += 64 * PAGE) {
		must(gmem_discard(m.w.mem, at, PAGE, NULL, NULL));
		world_assert_guest_sees(&m.w, GPA + at, zeros, PAGE);
		world_assert_guest_sees(&m.w, GPA + at + PAGE, m.content + at + PAGE, PAGE);
		must(gmem_discard(m.w.mem, at + PAGE, PAGE, NULL, NULL));
		world_assert_guest_sees(&m.w, GPA + at, zeros, PAGE);
		world_assert_guest_sees(&m.w, GPA + at + PAGE, zeros, PAGE);
	}
	assert_int_equal(gmem_pager_finish(m.pager, m.uffd, GMEM_FOREVER), 0);
	for (uint64_t at = 0; at < m.w.length; at += 64 * PAGE) {
		world_assert_guest_sees(&m.w, GPA + at, zeros, PAGE);
		world_assert_guest_sees(&m.w, GPA + at + 2 * PAGE, m.content + at + 2 * PAGE, 62 * PAGE);
	}
	end(&m);
}

static void *guest_walks(void *arg)
{
	struct machine *m = arg;

	return guest_sum(m->w.guest, WORLD_SUM, GPA, m->w.length) == host_sum(WORLD_SUM, m->content, m->w.length) ? m : NULL;
}

/* Stopped and gone on with while the guest runs, then finished under it. */
static void stopped_and_finished_in_the_middle(void **state)
{
	struct machine m = begin(GMEM_BACKING_MEMFD, content_length() / 2, 0);
	pthread_t thread;
	void *right;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, guest_walks, &m), 0);
	for (int i = 0; i < 20; i++) {
		must(gmem_pager_stop(m.pager, NULL));
		must(gmem_pager_start(m.pager));
	}
	assert_int_equal(gmem_pager_finish(m.pager, m.uffd, GMEM_FOREVER), 0);
	pthread_join(thread, &right);
	assert_ptr_equal(right, &m);
	sees_all(&m);
	end(&m);
}

/* A program that ends with its guest and pager at work. */
static int leaves(void *arg)
{
	struct machine m = begin(GMEM_BACKING_MEMFD, 8 * MIB, UINT64_MAX);
	pthread_t thread;

	(void)arg;
	assert_int_equal(pthread_create(&thread, NULL, guest_walks, &m), 0);
	while (((volatile unsigned char *)m.at)[4 * MIB] != m.content[4 * MIB])
		;
	raise(SIGKILL);
	return 1;
}

static void the_program_ends_in_the_middle(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++)
		assert_int_equal(gt_in_child(leaves, NULL), 128 + SIGKILL);
}

static const struct gt_test tests[] = {
	GT(memfd_in_sequence, NEEDS),
	GT(memfd_at_random, NEEDS),
	GT(hugetlb_at_random, NEEDS | GT_NEEDS_HUGETLB_2M),
	GT(beside_the_background, NEEDS),
	GT(writes_are_kept, NEEDS),
	GT(together_with_the_host, NEEDS),
	GT(two_vcpus_and_the_host, NEEDS),
	GT(the_balloon_before_and_after_a_fault, NEEDS),
	GT(stopped_and_finished_in_the_middle, NEEDS),
	GT(the_program_ends_in_the_middle, NEEDS),
};

GT_MAIN("pager_guest", tests)
