/* SPDX-License-Identifier: MIT */
/* A guest whose memory the daemon gmem-pager fills, which is another program: what it reads is the snapshot's. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "daemon.h"
#include "gt.h"
#include "world.h"

#define GPA (UINT64_C(1) << 28)
#define NEEDS (GT_NEEDS_VCPU | GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)

struct machine {
	struct world w;
	struct gmem_uffd *uffd;
	struct gmem_guard *guard;
	struct gmem_channel *channel;
	struct daemon daemon;
	const unsigned char *content;
	int last_event;
};

static void must(int r)
{
	if (r < 0)
		fail_msg("%s", gmem_last_error());
}

static int note_event(void *user, enum gmem_guard_event event)
{
	((struct machine *)user)->last_event = (int)event;
	return GMEM_GUARD_BLOCK;
}

static void attach(struct machine *m)
{
	struct gmem_channel_open_opts opts = { .size = sizeof(opts), .timeout_ns = GMEM_FOREVER, .identity = "guest" };
	int socket = daemon_connect(&m->daemon);

	gmem_channel_close(m->channel);
	must(gmem_channel_open(socket, &m->channel, &opts));
	close(socket);
	must(gmem_guard_attach(m->guard, m->channel));
}

/* The daemon comes first: a VM is nothing to be taken along by fork(). */
static void begin(struct machine *m)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct gmem_guard_create_opts watch = { .size = sizeof(watch), .event = note_event, .user = m };
	uint64_t seed = content_seed();

	*m = (struct machine){ .content = content_make(content_length(), &seed) };
	m->daemon = daemon_start(m->content, content_length());
	m->w = world_start();
	m->w.length = content_length();
	opts.backing = world_backing(GMEM_BACKING_MEMFD);
	must(gmem_create(m->w.vm, m->w.length, &m->w.mem, &opts));
	world_bind(&m->w, 0, GPA, 0, m->w.length, 0);
	must(gmem_uffd_create(m->w.vm, &m->uffd, NULL));
	must(gmem_uffd_register(m->uffd, m->w.mem, 0, m->w.length, NULL));
	must(gmem_guard_create(m->uffd, &m->guard, &watch));
	attach(m);
}

static void end(struct machine *m)
{
	struct gmem_guard_info info = { .size = sizeof(info) };

	must(gmem_guard_query(m->guard, &info));
	assert_int_equal(info.remaining, 0);
	gmem_guard_destroy(m->guard);
	gmem_channel_close(m->channel);
	gmem_uffd_destroy(m->uffd);
	world_end(&m->w);
	daemon_end(&m->daemon, 0);
}

static void all_of_it(void **state)
{
	static struct machine m;

	(void)state;
	begin(&m);
	world_assert_guest_sees(&m.w, GPA, m.content, m.w.length);
	end(&m);
}

static void await_death(struct machine *m)
{
	struct pollfd fd = { .fd = gmem_guard_get_fd(m->guard), .events = POLLIN };

	while (m->last_event != GMEM_GUARD_DEAD) {
		assert_int_equal(poll(&fd, 1, -1), 1);
		must(gmem_guard_run(m->guard, 0));
	}
}

/* What the first one filled is not asked for again, and what the guest wrote there stays. */
static void half_by_the_next(void **state)
{
	static struct machine m;
	uint64_t half, word;

	(void)state;
	begin(&m);
	half = m.w.length / 2;
	world_assert_guest_sees(&m.w, GPA, m.content, half);
	assert_true(guest_store(m.w.guest, GPA, 0x5555aaaa));
	daemon_kill(&m.daemon);
	await_death(&m);
	daemon_start_next(&m.daemon);
	attach(&m);
	world_assert_guest_sees(&m.w, GPA + half, m.content + half, m.w.length - half);
	assert_true(guest_load(m.w.guest, GPA, &word));
	assert_int_equal(word, 0x5555aaaa);
	world_assert_guest_sees(&m.w, GPA + 8, m.content + 8, half - 8);
	end(&m);
}

/* The other protocol, by a program that does not know the library. */
static void firecracker(void **state)
{
	uint64_t seed = content_seed();
	const unsigned char *content = content_make(4 * MIB, &seed);
	struct daemon daemon = daemon_start(content, 4 * MIB);

	(void)state;
	daemon_serves(&daemon, "firecracker-mini", "whole");
	daemon_serves(&daemon, "firecracker-mini", "give-up");
	daemon_end(&daemon, 0);
}

static const struct gt_test tests[] = {
	GT(all_of_it, NEEDS),
	GT(half_by_the_next, NEEDS),
	GT(firecracker, GT_NEEDS_UFFD),
};

GT_MAIN("daemon_guest", tests)
