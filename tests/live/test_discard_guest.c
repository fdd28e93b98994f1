/* SPDX-License-Identifier: MIT */
/* Discarding what a guest has mapped: it reads zeros at once, and its next touch makes a fresh page. */
#include <pthread.h>
#include <string.h>

#include "content.h"
#include "gt.h"
#include "huge.h"
#include "world.h"

#define LENGTH (16 * MIB)
#define PAGE 4096u
#define THERE (GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED)

struct kind {
	uint32_t backing;
	uint64_t bind_flags;
};

/* A world whose memory is full of content, bound at 0, read once by the guest. */
struct full {
	struct world w;
	unsigned char *content, *host;
	uint64_t page;
};

static struct full full_make(const struct kind *kind)
{
	uint64_t length = kind->backing == GMEM_BACKING_HUGETLB ? huge_length(4 * HUGE_PAGE) : LENGTH;
	struct full f = { .w = world_make(kind->backing, length) };

	f.content = world_fill(&f.w);
	f.page = world_query(&f.w).page_size;
	world_bind(&f.w, 0, 0, 0, length, kind->bind_flags);
	world_assert_guest_sees(&f.w, 0, f.content, length);
	assert_int_equal(gmem_map(f.w.mem, 0, length, (void **)&f.host, NULL), 0);
	return f;
}

static void discard(struct full *f, uint64_t offset, uint64_t length)
{
	uint64_t done = 7;

	if (gmem_discard(f->w.mem, offset, length, &done, NULL))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, length);
	memset(f->content + offset, 0, length);
}

static uint64_t some_page(struct full *f)
{
	return content_random(&f->w.seed) % (f->w.length / f->page) * f->page;
}

static struct gmem_run run_at(struct full *f, uint64_t offset)
{
	struct gmem_run run = { .size = sizeof(run) };

	assert_int_equal(gmem_query_run(f->w.mem, offset, &run), 0);
	return run;
}

static void store(struct full *f, uint64_t offset, uint64_t word)
{
	assert_true(guest_store(f->w.guest, offset, word));
	memcpy(f->content + offset, &word, sizeof(word));
	assert_memory_equal(f->host + offset, &word, sizeof(word));
}

/* --- */

static void ranges(const struct kind *kind)
{
	struct full f = full_make(kind);

	for (int i = 0; i < 8; i++) {
		uint64_t from = some_page(&f), most = (f.w.length - from) / f.page;

		discard(&f, from, (1 + content_random(&f.w.seed) % most % 300) * f.page);
		world_assert_guest_sees(&f.w, 0, f.content, f.w.length);
		assert_memory_equal(f.host, f.content, f.w.length);
	}
	world_end(&f.w);
}

/* Absent, until the guest touches it; the page beside it stays absent. Huge pages: the kernel says of the whole file only. */
static void touched_again(const struct kind *kind)
{
	struct full f = full_make(kind);
	uint64_t at, word = 1;

	discard(&f, 0, f.w.length);
	assert_int_equal(run_at(&f, 0).state & ~GMEM_RUN_ALLOCATED_UNKNOWN, 0); /* before 6.5 the kernel does not say */
	assert_int_equal(run_at(&f, 0).length, f.w.length);
	at = some_page(&f);
	store(&f, at + 8, 0xfeedfacecafebeef);
	assert_int_equal(run_at(&f, at).state & THERE, THERE);
	if (f.page == PAGE) {
		assert_int_equal(run_at(&f, at).length, PAGE);
		if (at)
			assert_int_equal(run_at(&f, 0).length, at);
	}
	discard(&f, at, f.page);
	assert_true(guest_load(f.w.guest, at + 8, &word));
	assert_int_equal(word, 0);
	assert_int_equal(run_at(&f, at).state & THERE, THERE); /* a load makes a page too */
	world_assert_guest_sees(&f.w, 0, f.content, f.w.length);
	world_end(&f.w);
}

/* The balloon takes pages and the guest gets them back, over and over. */
static void balloon(const struct kind *kind)
{
	struct full f = full_make(kind);

	for (int i = 0; i < 200; i++) {
		uint64_t at = some_page(&f), where = at + content_random(&f.w.seed) % (f.page / 8) * 8, word = 1;

		discard(&f, at, f.page);
		assert_true(guest_load(f.w.guest, where, &word));
		assert_int_equal(word, 0);
		if (i % 3)
			store(&f, where, content_random(&f.w.seed));
	}
	world_assert_guest_sees(&f.w, 0, f.content, f.w.length);
	assert_memory_equal(f.host, f.content, f.w.length);
	world_end(&f.w);
}

/* --- while the guest runs --- */

struct bellows {
	struct full *f;
	uint64_t seed;
	int result;
};

/* Comes to an end: where a fault takes long, arm64's KVM begins it again after each discard, wherever that was, and the guest
 * would never get on. */
static void *blow(void *arg)
{
	struct bellows *b = arg;
	uint64_t page = b->f->page, pages = b->f->w.length / page;
	size_t times = content_length() >> 15;

	for (size_t i = 0; i < times && b->result == 0; i++)
		b->result = gmem_discard(b->f->w.mem, content_random(&b->seed) % pages * page, page, NULL, NULL);
	return NULL;
}

static bool is_zero(const unsigned char *page, uint64_t size)
{
	return page[0] == 0 && memcmp(page, page + 1, size - 1) == 0;
}

/* Each page is as it was, or zeros, as a whole. */
static void assert_old_or_zero(struct full *f)
{
	for (uint64_t at = 0; at < f->w.length; at += f->page)
		if (!is_zero(f->host + at, f->page))
			assert_memory_equal(f->host + at, f->content + at, f->page);
}

static void while_it_runs(const struct kind *kind)
{
	struct full f = full_make(kind);
	struct bellows b = { .f = &f, .seed = f.w.seed };
	pthread_t thread;

	for (int i = 0; i < 5; i++) {
		assert_int_equal(pthread_create(&thread, NULL, blow, &b), 0);
		(void)guest_sum(f.w.guest, WORLD_SUM, 0, f.w.length);
		pthread_join(thread, NULL);
		assert_int_equal(b.result, 0);
	}
	assert_old_or_zero(&f);
	memcpy(f.content, f.host, f.w.length);
	world_assert_guest_sees(&f.w, 0, f.content, f.w.length);
	world_end(&f.w);
}

#define KINDS(test)                                                                                        \
	static void guest_memfd_##test(void **state)                                                       \
	{                                                                                                  \
		(void)state;                                                                               \
		test(&(const struct kind){ .backing = GMEM_BACKING_GUEST_MEMFD });                         \
	}                                                                                                  \
	static void plain_slot_##test(void **state)                                                        \
	{                                                                                                  \
		(void)state;                                                                               \
		test(&(const struct kind){ .backing = GMEM_BACKING_GUEST_MEMFD, .bind_flags = GMEM_BIND_PLAIN }); \
	}                                                                                                  \
	static void memfd_##test(void **state)                                                             \
	{                                                                                                  \
		(void)state;                                                                               \
		test(&(const struct kind){ .backing = GMEM_BACKING_MEMFD });                               \
	}                                                                                                  \
	static void hugetlb_##test(void **state)                                                           \
	{                                                                                                  \
		(void)state;                                                                               \
		test(&(const struct kind){ .backing = GMEM_BACKING_HUGETLB });                             \
	}

KINDS(ranges)
KINDS(touched_again)
KINDS(balloon)
KINDS(while_it_runs)

#define GMEM GT_NEEDS_VCPU | GT_NEEDS_GUEST_MEMFD
#define GT_KINDS(test)                                                          \
	GT(guest_memfd_##test, GMEM), GT(plain_slot_##test, GMEM), GT(memfd_##test, GT_NEEDS_VCPU), \
		GT(hugetlb_##test, GT_NEEDS_VCPU | GT_NEEDS_HUGETLB_2M)

static const struct gt_test tests[] = {
	GT_KINDS(ranges),
	GT_KINDS(touched_again),
	GT_KINDS(balloon),
	GT_KINDS(while_it_runs),
};

GT_MAIN("discard_guest", tests)
