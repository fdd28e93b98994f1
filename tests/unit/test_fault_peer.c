/* SPDX-License-Identifier: MIT */
/* Endpoints that another process made, over its anonymous memory: what it does to its address space, and its end. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "faults.h"
#include "handles.h"
#include "peers.h"
#include "random.h"
#include "uapi/userfaultfd.h"

#define BIT(name) (UINT64_C(1) << UFFDI_BIT_##name)
#define EVENTS (BIT(EVENT_FORK) | BIT(EVENT_REMAP) | BIT(EVENT_REMOVE) | BIT(EVENT_UNMAP))
#define PAGES 16

static unsigned char data[PAGES * 65536];

static struct peer make(uint64_t pages)
{
	struct peer peer = peer_make(pages, EVENTS);

	for (uint64_t i = 0; i < PAGES; i++)
		memset(data + i * peer.page, (int)i + 1, peer.page);
	return peer;
}

static int resolve(struct peer *peer, uint64_t first, uint64_t count, enum gmem_resolve how)
{
	uint64_t done = 77;
	int r = gmem_uffd_resolve(peer->uffd, NULL, first * peer->page, count * peer->page, how,
				  data + first % PAGES * peer->page, &done);

	if (r == 0)
		assert_int_equal(done, count * peer->page);
	return r;
}

static void expect(struct peer *peer, enum gmem_fault_kind kind, uint64_t first, uint64_t count)
{
	expect_event(peer->uffd, kind, NULL, first * peer->page, count * peer->page);
}

/* The peer reads a page, which is resolved with DATA: what it sees. */
static int64_t read_served(struct peer *peer, uint64_t place, uint64_t number)
{
	peer_tell(peer, PEER_READ, place * peer->page, 3);
	expect(peer, GMEM_FAULT_PAGE, number, 1);
	assert_int_equal(resolve(peer, number, 1, GMEM_RESOLVE_DATA), 0);
	return peer_answer(peer);
}

static void its_pages_are_made(void **state)
{
	struct peer peer = make(PAGES);

	(void)state;
	peer_watch(&peer, 0, 8);
	peer_watch(&peer, 8, 8);
	assert_int_equal(read_served(&peer, 0, 0), 1);
	assert_int_equal(read_served(&peer, 9, 9), 10);
	assert_int_equal(peer_do(&peer, PEER_WRITE, 0, 99), 0);
	assert_int_equal(resolve(&peer, 0, PAGES, GMEM_RESOLVE_DATA), 0);
	assert_int_equal(peer_do(&peer, PEER_READ, 0, 0), 99);
	assert_int_equal(peer_do(&peer, PEER_READ, 15 * peer.page, 0), 16);
	assert_int_equal(counted(peer.uffd).remaining, 0);
	assert_int_equal(counted(peer.uffd).filled, PAGES);
	assert_int_equal(counted(peer.uffd).duplicate, 2);
	peer_end(&peer);
}

static void pages_given_up(void **state)
{
	struct peer peer = make(PAGES);

	(void)state;
	peer_watch(&peer, 0, 8);
	peer_watch(&peer, 8, 8);
	assert_int_equal(resolve(&peer, 0, 8, GMEM_RESOLVE_DATA), 0);
	peer_tell(&peer, PEER_DONTNEED, 6 * peer.page, 4 * peer.page);
	expect(&peer, GMEM_FAULT_REMOVED, 6, 2);
	assert_int_equal(peer_answer(&peer), 0);
	assert_int_equal(resolve(&peer, 8, 4, GMEM_RESOLVE_DATA), 0); /* before the rest is told */
	expect(&peer, GMEM_FAULT_REMOVED, 8, 2);
	assert_int_equal(peer_do(&peer, PEER_READ, 8 * peer.page, 0), 0);
	assert_int_equal(peer_do(&peer, PEER_READ, 10 * peer.page, 0), 11);
	assert_int_equal(read_served(&peer, 6, 6), 0);
	assert_int_equal(peer_do(&peer, PEER_READ, 5 * peer.page, 0), 6);
	peer_end(&peer);
}

static void a_part_unmapped(void **state)
{
	struct peer peer = make(PAGES);

	(void)state;
	peer_watch(&peer, 0, 8);
	peer_watch(&peer, 8, 8);
	peer_tell(&peer, PEER_UNMAP, 6 * peer.page, 4 * peer.page);
	expect(&peer, GMEM_FAULT_UNMAPPED, 6, 2);
	expect(&peer, GMEM_FAULT_UNMAPPED, 8, 2);
	assert_int_equal(peer_answer(&peer), 0);
	assert_int_equal(resolve(&peer, 0, PAGES, GMEM_RESOLVE_DATA), 0);
	assert_int_equal(counted(peer.uffd).filled, PAGES - 4);
	assert_int_equal(counted(peer.uffd).remaining, 4 * peer.page); /* nobody can say that they hold anything */
	assert_int_equal(peer_do(&peer, PEER_READ, 5 * peer.page, 0), 6);
	assert_int_equal(peer_do(&peer, PEER_READ, 6 * peer.page, 0), -SIGSEGV);
	assert_int_equal(gmem_uffd_unregister(peer.uffd, NULL, 0, PAGES * peer.page), 0);
	assert_int_equal(counted(peer.uffd).ranges, 0);
	peer_end(&peer);
}

/* The kernel says of what has been moved that it is unmapped where it was, too: nobody is told of that. */
static int64_t answer_without_an_event(struct peer *peer)
{
	struct pollfd fds[2] = { { .fd = peer->answers, .events = POLLIN }, { .fd = gmem_uffd_get_fd(peer->uffd), .events = POLLIN } };

	do
		no_event(peer->uffd);
	while (poll(fds, 2, 30000) > 0 && !fds[0].revents);
	return peer_answer(peer);
}

static void moved_then_touched(void **state)
{
	struct peer peer = make(PAGES);
	int64_t moved;
	int r;

	(void)state;
	peer_watch(&peer, 0, 8);
	peer_watch(&peer, 8, 8);
	assert_int_equal(resolve(&peer, 6, 1, GMEM_RESOLVE_DATA), 0);
	peer_tell(&peer, PEER_MOVE, 4 * peer.page, 8 * peer.page);
	expect(&peer, GMEM_FAULT_MOVED, 4, 4);
	r = resolve(&peer, 8, 2, GMEM_RESOLVE_DATA); /* told later, but there already; the kernel may not be ready */
	assert_true(r == 0 || r == -EAGAIN);
	expect(&peer, GMEM_FAULT_MOVED, 8, 4);
	moved = answer_without_an_event(&peer);
	assert_int_equal(resolve(&peer, 8, 2, GMEM_RESOLVE_DATA), 0);
	assert_int_equal(peer_do(&peer, PEER_READ, (uint64_t)moved + 4 * peer.page, 0), 9);
	assert_int_equal(peer_do(&peer, PEER_READ, (uint64_t)moved + 2 * peer.page, 0), 7);
	peer_tell(&peer, PEER_READ, (uint64_t)moved + 7 * peer.page, 0);
	expect(&peer, GMEM_FAULT_PAGE, 11, 1);
	assert_int_equal(resolve(&peer, 0, PAGES, GMEM_RESOLVE_DATA), 0);
	assert_int_equal(peer_answer(&peer), 12);
	assert_int_equal(peer_do(&peer, PEER_READ, 3 * peer.page, 0), 4);
	assert_int_equal(peer_do(&peer, PEER_READ, 12 * peer.page, 0), 13);
	peer_end(&peer);
}

static void a_child_sees_what_is_filled(void **state)
{
	struct peer peer;

	(void)state;
	want_feature(GMEM_FEATURE_UFFD_POISON, "UFFDIO_POISON: a child would wait");
	peer = peer_make(PAGES, EVENTS | BIT(POISON));
	memset(data, 5, peer.page);
	peer_watch(&peer, 0, PAGES);
	assert_int_equal(resolve(&peer, 0, 1, GMEM_RESOLVE_DATA), 0);
	peer_tell(&peer, PEER_FORK, 0, 4 * peer.page);
	assert_int_equal(next_event(peer.uffd).kind, GMEM_FAULT_FORKED);
	assert_int_equal(peer_answer(&peer), 5 | (int64_t)(-SIGBUS & 0xffff) << 16);
	assert_int_equal(read_served(&peer, 4, 4), data[4 * peer.page]); /* the parent's is as before */
	peer_end(&peer);
}

/* The peer can make its fd block at any time. */
static void reading_never_blocks(void **state)
{
	struct peer peer = make(PAGES);

	(void)state;
	peer_watch(&peer, 0, PAGES);
	assert_int_equal(peer_do(&peer, PEER_BLOCKING, 0, 0), 0);
	no_event(peer.uffd);
	peer_tell(&peer, PEER_READ, 0, 0);
	while (true) { /* poll() is no help with a fd that blocks */
		struct gmem_fault fault;
		int r = gmem_uffd_read(peer.uffd, &fault, 1);

		assert_true(r >= 0);
		if (r == 1)
			break;
	}
	no_event(peer.uffd);
	assert_int_equal(resolve(&peer, 0, 1, GMEM_RESOLVE_DATA), 0);
	peer_answer(&peer);
	peer_end(&peer);
}

static void its_end(void **state)
{
	struct peer peer = make(PAGES);

	(void)state;
	peer_watch(&peer, 0, PAGES);
	assert_int_equal(resolve(&peer, 0, 1, GMEM_RESOLVE_DATA), 0);
	assert_int_equal(counted(peer.uffd).flags, GMEM_UFFD_IMPORTED);
	peer_tell(&peer, PEER_READ, peer.page, 0);
	expect(&peer, GMEM_FAULT_PAGE, 1, 1);
	assert_int_equal(gmem_uffd_unregister(peer.uffd, NULL, 0, peer.length), -EBUSY);
	peer_kill(&peer);
	assert_int_equal(resolve(&peer, 1, 1, GMEM_RESOLVE_DATA), -ESRCH);
	assert_int_equal(counted(peer.uffd).flags, GMEM_UFFD_IMPORTED | GMEM_UFFD_OWNER_GONE);
	assert_int_equal(resolve(&peer, 1, 3, GMEM_RESOLVE_ZERO), -ESRCH);
	assert_int_equal(counted(peer.uffd).filled, 1);
	assert_int_equal(counted(peer.uffd).zeroed, 0);
	assert_int_equal(gmem_uffd_unregister(peer.uffd, NULL, 0, peer.length), 0); /* nobody is left to read zeros */
	peer_end(&peer);
}

/* A file of ours that a peer had mapped: with its end, another endpoint can have it. */
static void its_memory_goes_to_another_endpoint(void **state)
{
	struct gmem_create_opts need = { .size = sizeof(need), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_BY_PEER, .gpa = UINT64_MAX };
	struct peer peer = make(PAGES);
	struct gmem_uffd *second;
	struct gmem *mem;

	(void)state;
	opts.hva = (uintptr_t)peer.at;
	opts.strategy = GMEM_STRATEGY_COPY;
	assert_int_equal(gmem_create(peer.vm, peer.length, &mem, &need), 0);
	assert_int_equal(gmem_uffd_register(peer.uffd, mem, 0, peer.length, &opts), 0);
	peer_kill(&peer);
	assert_int_equal(gmem_uffd_resolve(peer.uffd, mem, 0, peer.page, GMEM_RESOLVE_DATA, data, NULL), -ESRCH);
	assert_int_equal(state_of(mem, 0), EMPTY);
	assert_int_equal(gmem_uffd_unregister(peer.uffd, mem, 0, peer.length), 0);
	assert_int_equal(gmem_uffd_create(peer.vm, &second, NULL), 0);
	assert_int_equal(gmem_uffd_register(second, mem, 0, peer.length, NULL), 0);
	gmem_uffd_destroy(second);
	gmem_destroy(mem);
	peer_end(&peer);
}

/* --- many ranges ------------------------------------------------------------------------------------------------------ */

#define RANGES 10000u

static void many_ranges_of_a_peer(void **state)
{
	struct peer peer = make(RANGES);
	uint64_t i;

	(void)state;
	sow();
	for (i = 0; i < RANGES; i++) /* in no order */
		peer_watch(&peer, i * 7919 % RANGES, 1);
	assert_int_equal(counted(peer.uffd).ranges, RANGES);
	for (int n = 0; n < 100; n++) {
		uint64_t number = next_random() % RANGES;

		peer_tell(&peer, PEER_READ, number * peer.page, 0);
		if (n % 2 == 0 || counted(peer.uffd).remaining) {
			struct gmem_fault fault;
			struct pollfd fd = { .fd = gmem_uffd_get_fd(peer.uffd), .events = POLLIN };
			struct pollfd both[2] = { fd, { .fd = peer.answers, .events = POLLIN } };

			assert_true(poll(both, 2, 30000) > 0);
			if (gmem_uffd_read(peer.uffd, &fault, 1) == 1) {
				assert_int_equal(fault.offset, number * peer.page);
				assert_int_equal(fault.hva, (uintptr_t)peer.at + number * peer.page);
				assert_int_equal(resolve(&peer, number, 1, GMEM_RESOLVE_DATA), 0);
			}
		}
		assert_int_equal(peer_answer(&peer), number % PAGES + 1);
	}
	peer_tell(&peer, PEER_DONTNEED, 100 * peer.page, 5000 * peer.page);
	for (i = 100; i < 5100; i++)
		expect(&peer, GMEM_FAULT_REMOVED, i, 1);
	assert_int_equal(peer_answer(&peer), 0);
	assert_int_equal(read_served(&peer, 5099, 5099), 0);
	peer_tell(&peer, PEER_UNMAP, 0, RANGES / 2 * peer.page);
	for (i = 0; i < RANGES / 2; i++)
		expect(&peer, GMEM_FAULT_UNMAPPED, i, 1);
	assert_int_equal(peer_answer(&peer), 0);
	for (i = 0; i < RANGES / 2; i++)
		assert_int_equal(gmem_uffd_unregister(peer.uffd, NULL, i * peer.page, peer.page), 0);
	assert_int_equal(counted(peer.uffd).ranges, RANGES / 2);
	peer_end(&peer);
}

/* What a late answer has to be whole pages of. */
static void pages_of_two_sizes(void **state)
{
	const uint64_t large = UINT64_C(2) << 20, offset = UINT64_C(1) << 30;
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_BY_PEER, .gpa = UINT64_MAX };
	struct peer peer = make(2 * large / page());
	unsigned char *content = malloc(large);
	uint64_t before, small;

	(void)state;
	assert_non_null(content);
	memset(content, 1, large);
	before = -(uint64_t)(uintptr_t)peer.at % large;
	small = before ? 0 : large / peer.page;
	opts.hva = (uintptr_t)peer.at + before;
	opts.page_size = large;
	assert_int_equal(counted(peer.uffd).page_size, 0);
	peer_watch(&peer, small, 1);
	assert_int_equal(counted(peer.uffd).page_size, peer.page);
	assert_int_equal(gmem_uffd_register(peer.uffd, NULL, offset, large, &opts), 0);
	assert_int_equal(counted(peer.uffd).page_size, large);
	assert_int_equal(gmem_uffd_resolve(peer.uffd, NULL, offset, large, GMEM_RESOLVE_DATA, content, NULL), 0);
	assert_int_equal(gmem_uffd_unregister(peer.uffd, NULL, offset, large), 0);
	assert_int_equal(counted(peer.uffd).page_size, peer.page);
	assert_int_equal(resolve(&peer, small, 1, GMEM_RESOLVE_DATA), 0);
	assert_int_equal(gmem_uffd_unregister(peer.uffd, NULL, small * peer.page, peer.page), 0);
	assert_int_equal(counted(peer.uffd).page_size, 0);
	free(content);
	peer_end(&peer);
}

static void many_ranges_of_a_memory(void **state)
{
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, RANGES);
	struct toucher t;

	(void)state;
	alarm(100);
	memset(data, 7, lazy.page);
	for (uint64_t i = 0; i < RANGES; i++)
		watch_pages(&lazy, i * 7919 % RANGES, 1, GMEM_STRATEGY_FILL);
	assert_int_equal(counted(lazy.uffd).ranges, RANGES);
	for (uint64_t n = 0; n < 100; n++) {
		uint64_t number = n * 6007 % RANGES;

		touch_begin(&t, lazy.at + number * lazy.page, READ);
		expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, number * lazy.page, lazy.page);
		must_resolve(&lazy, number, 1, GMEM_RESOLVE_DATA, data);
		assert_int_equal(touch_end(&t), 7);
	}
	must_resolve(&lazy, 0, RANGES, GMEM_RESOLVE_ZERO, NULL);
	assert_int_equal(touch(lazy.at), 7);
	assert_int_equal(touch(lazy.at + lazy.page), 0);
	assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, lazy.length), 0);
	end_lazy(&lazy);
	alarm(0);
}

static const struct gt_test tests[] = {
	GT(its_pages_are_made, GT_NEEDS_UFFD),
	GT(pages_given_up, GT_NEEDS_UFFD),
	GT(a_part_unmapped, GT_NEEDS_UFFD),
	GT(moved_then_touched, GT_NEEDS_UFFD),
	GT(a_child_sees_what_is_filled, GT_NEEDS_UFFD),
	GT(reading_never_blocks, GT_NEEDS_UFFD),
	GT(its_end, GT_NEEDS_UFFD),
	GT(its_memory_goes_to_another_endpoint, GT_NEEDS_UFFD),
	GT(pages_of_two_sizes, GT_NEEDS_UFFD),
	GT(many_ranges_of_a_peer, GT_NEEDS_UFFD),
	GT(many_ranges_of_a_memory, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("fault_peer", tests)
