/* SPDX-License-Identifier: MIT */
/* Servers and guards with every system call and allocation failing in turn, in all their threads: a VM is served, or it hears
 * that it is not; what it reads is its content in any case. */
#include "gt.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channels.h"
#include "faults.h"
#include "inject.h"
#include "points.h"
#include "station.h"

#define PAGES 4

static int admit_nobody(void *user, const struct gmem_channel_info *peer, struct gmem_uffd *uffd, struct gmem_source **source,
			struct gmem_pager_add_opts *opts)
{
	(void)user;
	(void)peer;
	(void)uffd;
	(void)source;
	(void)opts;
	return -1;
}

static int make_server(void *arg)
{
	struct gmem_server_ops ops = { .size = sizeof(ops), .admit = admit_nobody };
	struct gmem_channel_open_opts speak = { .size = sizeof(speak), .identity = "here" };
	struct gmem_server_create_opts opts = { .size = sizeof(opts), .channel = &speak };
	struct gmem_server *server = NULL;
	struct gmem_pager *pager;
	struct address address;
	int r;

	(void)arg;
	inject_pause();
	address = address_make(SOCK_STREAM);
	assert_int_equal(gmem_pager_create(&pager, NULL), 0);
	inject_resume();
	r = gmem_server_create(pager, address.listener, &ops, NULL, &server, &opts);
	assert_int_equal(r == 0, server != NULL);
	gmem_server_destroy(server);
	inject_pause();
	gmem_pager_destroy(pager);
	address_end(&address);
	inject_resume();
	return r;
}

static int make_guard(void *arg)
{
	struct gmem_guard *guard = NULL;
	struct lazy lazy;
	int r;

	(void)arg;
	inject_pause();
	lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, GMEM_STRATEGY_AUTO);
	inject_resume();
	r = gmem_guard_create(lazy.uffd, &guard, NULL);
	assert_int_equal(r == 0, guard != NULL);
	gmem_guard_destroy(guard);
	inject_pause();
	end_lazy(&lazy);
	inject_resume();
	return r;
}

/* Whatever failed: the content comes, or the guard hears that it will not, and whoever waits has waited till then. */
static bool check_page(const struct lazy *lazy, struct gmem_guard *guard, uint64_t number)
{
	unsigned char *at = lazy->at + number * lazy->page;
	struct toucher toucher;
	bool served = true;

	touch_begin(&toucher, at, READ);
	while (served && !atomic_load(&toucher.done))
		served = gmem_guard_run(guard, 1000000) == 0;
	if (!served)
		assert_int_equal(gmem_uffd_resolve(lazy->uffd, lazy->mem, 0, lazy->length, GMEM_RESOLVE_POISON, NULL, NULL), 0);
	if (touch_end(&toucher) < 0) {
		assert_false(served);
		return false;
	}
	for (uint64_t i = 0; i < lazy->page; i++)
		assert_int_equal(at[i], content_at(number * lazy->page + i));
	return served;
}

static void check_content(const struct lazy *lazy, struct gmem_guard *guard)
{
	bool served = true;

	for (uint64_t number = 0; served && number < PAGES; number++)
		served = check_page(lazy, guard, number);
	assert_true(served || inject_fired());
}

static int attach(struct gmem_guard *guard, const struct address *address)
{
	struct gmem_channel *channel = NULL;
	int r, socket;

	inject_pause();
	socket = address_connect(address);
	assert_true(socket >= 0);
	inject_resume();
	r = gmem_channel_open(socket, &channel, NULL);
	if (r == 0)
		r = gmem_guard_attach(guard, channel);
	gmem_channel_close(channel);
	inject_pause();
	close(socket);
	inject_resume();
	return r;
}

/* --- a fault by word ---------------------------------------------------------------------------------------------------- */

static unsigned int told;

static void tell(void *user, uint64_t cookie, int result)
{
	(void)user;
	assert_int_equal(cookie, 77);
	assert_true(result == 0 || inject_fired());
	told++;
}

/* It is told of once, whatever fails. */
static bool forward(const struct lazy *lazy, struct gmem_guard *guard)
{
	struct gmem_guard_info info = { .size = sizeof(info) };
	int r = gmem_guard_forward(guard, lazy->mem, 0, lazy->page, 77, NULL);

	told = 0;
	inject_pause();
	while (r == 0 && !told)
		assert_true(gmem_guard_run(guard, GMEM_FOREVER) >= 0);
	assert_true(r == 0 || inject_fired());
	assert_int_equal(gmem_guard_query(guard, &info), 0);
	inject_resume();
	return info.state == GMEM_GUARD_ATTACHED;
}

static int welcome(struct station *station, const struct gmem_channel_info *peer)
{
	(void)station;
	(void)peer;
	return 0;
}

static int hand_over(void *arg)
{
	struct gmem_guard_create_opts how = { .size = sizeof(how), .done = tell };
	struct station station = { .meet = welcome };
	struct gmem_guard *guard;
	struct address address;
	struct lazy lazy;
	bool served;
	int r;

	(void)arg;
	inject_pause();
	address = address_make(SOCK_STREAM);
	lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, GMEM_STRATEGY_AUTO);
	assert_int_equal(gmem_guard_create(lazy.uffd, &guard, &how), 0);
	station_open(&station, &address, 1, NULL);
	inject_resume();
	r = attach(guard, &address);
	served = r == 0 && forward(&lazy, guard);
	inject_pause();
	if (served)
		check_content(&lazy, guard);
	inject_resume();
	gmem_guard_destroy(guard);
	inject_pause();
	end_lazy(&lazy);
	station_close(&station);
	address_end(&address);
	inject_resume();
	return r;
}

static void making_a_server(void **state)
{
	(void)state;
	each(make_server, NULL);
}

static void making_a_guard(void **state)
{
	(void)state;
	each(make_guard, NULL);
}

static void handing_over(void **state)
{
	(void)state;
	each(hand_over, NULL);
}

static const struct gt_test tests[] = {
	GT(making_a_server, 0),
	GT(making_a_guard, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(handing_over, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("inject_server", tests)
