/* SPDX-License-Identifier: MIT */
/* A guest whose pages come when it touches them: a plain memslot over memory that an endpoint watches, served by a thread. */
#include "gt.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "content.h"
#include "huge.h"
#include "world.h"

#define GPA UINT64_C(0x40000000)

struct service {
	struct world w;
	struct gmem_uffd *uffd;
	unsigned char *at;
	const unsigned char *content;
	uint64_t page;
	pthread_t server;
	atomic_bool over;
	atomic_int wrong;
	atomic_uint wrong_gpa;
};

/* What cannot be answered yet is for after the next events. */
static unsigned int answer(struct service *s, struct gmem_fault *open, unsigned int count)
{
	unsigned int left = 0;

	for (unsigned int i = 0; i < count; i++) {
		int r;

		if (open[i].kind != GMEM_FAULT_PAGE)
			continue;
		if (open[i].gpa != GPA + open[i].offset)
			atomic_fetch_add(&s->wrong_gpa, 1);
		r = gmem_uffd_resolve(s->uffd, s->w.mem, open[i].offset, open[i].length, GMEM_RESOLVE_DATA,
				      s->content + open[i].content, NULL);
		if (r == -EAGAIN)
			open[left++] = open[i];
		else if (r)
			atomic_store(&s->wrong, r);
	}
	return left;
}

static void *serve(void *arg)
{
	struct service *s = arg;
	struct pollfd fd = { .fd = gmem_uffd_get_fd(s->uffd), .events = POLLIN };
	struct gmem_fault open[32];
	unsigned int left = 0;

	while (!atomic_load(&s->over)) {
		int r;

		if (!left)
			poll(&fd, 1, 20);
		r = gmem_uffd_read(s->uffd, open + left, 32 - left);
		if (r < 0)
			atomic_store(&s->wrong, r);
		left = answer(s, open, left + (r > 0 ? (unsigned int)r : 0));
	}
	return NULL;
}

static struct service service;

static struct service *begin(uint32_t backing, uint64_t length)
{
	struct gmem_create_opts need = { .size = sizeof(need), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY, .backing = backing };
	struct service *s = &service;
	void *address;

	need.backing = world_backing(backing);

	*s = (struct service){ .w = world_start(), .page = backing == GMEM_BACKING_HUGETLB ? HUGE_PAGE : (uint64_t)sysconf(_SC_PAGESIZE) };
	s->w.length = length;
	if (gmem_create(s->w.vm, length, &s->w.mem, &need))
		fail_msg("%s", gmem_last_error());
	world_bind(&s->w, 0, GPA, 0, length, 0);
	assert_int_equal(gmem_map(s->w.mem, 0, length, &address, NULL), 0);
	s->at = address;
	s->content = content_make(length, &s->w.seed);
	if (gmem_uffd_create(s->w.vm, &s->uffd, NULL) || gmem_uffd_register(s->uffd, s->w.mem, 0, length, NULL))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(pthread_create(&s->server, NULL, serve, s), 0);
	return s;
}

static struct gmem_uffd_info end(struct service *s)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };

	atomic_store(&s->over, true);
	pthread_join(s->server, NULL);
	assert_int_equal(atomic_load(&s->wrong), 0);
	assert_int_equal(atomic_load(&s->wrong_gpa), 0);
	assert_int_equal(gmem_uffd_query(s->uffd, &info), 0);
	gmem_uffd_destroy(s->uffd);
	world_end(&s->w);
	return info;
}

static void every_word_in_order(uint32_t backing, uint64_t length)
{
	struct service *s = begin(backing, length);
	struct gmem_uffd_info info;

	world_assert_guest_sees(&s->w, GPA, s->content, length);
	world_assert_guest_sees(&s->w, GPA, s->content, length);
	assert_memory_equal(s->at, s->content, length);
	info = end(s);
	assert_int_equal(info.remaining, 0);
	assert_int_equal(info.filled + info.zeroed, length / s->page);
	assert_true(info.faults >= length / s->page);
}

static void in_order_memfd(void **state)
{
	(void)state;
	every_word_in_order(GMEM_BACKING_MEMFD, content_length());
}

static void in_order_hugetlb(void **state)
{
	(void)state;
	every_word_in_order(GMEM_BACKING_HUGETLB, huge_length(content_length()));
}

struct hosts {
	struct service *s;
	uint64_t seed;
	int differ;
};

static void *touch_as_host(void *arg)
{
	struct hosts *h = arg;
	uint64_t pages = h->s->w.length / h->s->page;

	for (int i = 0; i < 300; i++) {
		uint64_t offset = content_random(&h->seed) % pages * h->s->page;

		h->differ |= memcmp(h->s->at + offset, h->s->content + offset, h->s->page);
	}
	return NULL;
}

/* Chunks in no order, the guest and host threads at the same time. */
static void at_random(uint32_t backing, uint64_t length)
{
	struct service *s = begin(backing, length);
	struct hosts hosts[2];
	pthread_t threads[2];
	uint64_t chunk = 256 << 10, seed = s->w.seed;

	for (unsigned int i = 0; i < 2; i++) {
		hosts[i] = (struct hosts){ .s = s, .seed = seed * (i + 3) + 1 };
		assert_int_equal(pthread_create(&threads[i], NULL, touch_as_host, &hosts[i]), 0);
	}
	for (uint64_t i = 0; i < length / chunk; i++) {
		uint64_t at = (i * 37 + seed) % (length / chunk) * chunk;

		world_assert_guest_sees(&s->w, GPA + at, s->content + at, chunk);
	}
	for (unsigned int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(hosts[i].differ, 0);
	}
	end(s);
}

static void at_random_memfd(void **state)
{
	(void)state;
	at_random(GMEM_BACKING_MEMFD, content_length());
}

static void at_random_hugetlb(void **state)
{
	(void)state;
	at_random(GMEM_BACKING_HUGETLB, huge_length(content_length()));
}

static void assert_word(struct service *s, uint64_t offset, uint64_t wanted)
{
	uint64_t word;

	assert_true(guest_load(s->w.guest, GPA + offset, &word));
	assert_int_equal(word, wanted);
}

static uint64_t content_word(const struct service *s, uint64_t offset)
{
	uint64_t word;

	memcpy(&word, s->content + offset, sizeof(word));
	return word;
}

/* Written first, the rest of the page is its content; given up, it is zeros for the guest too. */
static void written_and_given_up(uint32_t backing, uint64_t pages)
{
	uint64_t size = backing == GMEM_BACKING_HUGETLB ? HUGE_PAGE : (uint64_t)sysconf(_SC_PAGESIZE);
	struct service *s = begin(backing, pages * size);

	for (uint64_t i = 0; i < pages; i++)
		assert_true(guest_store(s->w.guest, GPA + i * size + 8, 0x1234 + i));
	for (uint64_t i = 0; i < pages; i++) {
		assert_word(s, i * size + 8, 0x1234 + i);
		assert_word(s, i * size, content_word(s, i * size));
		assert_word(s, (i + 1) * size - 8, content_word(s, (i + 1) * size - 8));
	}
	assert_int_equal(gmem_discard(s->w.mem, 0, size, NULL, NULL), 0);
	assert_int_equal(madvise(s->at + size, size, MADV_REMOVE), 0);
	for (uint64_t i = 0; i < 2; i++) {
		assert_word(s, i * size + 8, 0);
		assert_word(s, i * size, 0);
		assert_true(guest_store(s->w.guest, GPA + i * size, 99));
		assert_word(s, i * size, 99);
	}
	assert_word(s, 2 * size + 8, 0x1236);
	end(s);
}

static void written_and_given_up_memfd(void **state)
{
	(void)state;
	written_and_given_up(GMEM_BACKING_MEMFD, 16);
}

static void written_and_given_up_hugetlb(void **state)
{
	(void)state;
	written_and_given_up(GMEM_BACKING_HUGETLB, huge_length(4 * HUGE_PAGE) / HUGE_PAGE);
}

#define UFFD (GT_NEEDS_VCPU | GT_NEEDS_UFFD_MINOR)

static const struct gt_test tests[] = {
	GT(in_order_memfd, UFFD),
	GT(in_order_hugetlb, UFFD | GT_NEEDS_HUGETLB_2M),
	GT(at_random_memfd, UFFD),
	GT(at_random_hugetlb, UFFD | GT_NEEDS_HUGETLB_2M),
	GT(written_and_given_up_memfd, UFFD),
	GT(written_and_given_up_hugetlb, UFFD | GT_NEEDS_HUGETLB_2M),
};

GT_MAIN("fault_guest", tests)
