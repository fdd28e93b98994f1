/* SPDX-License-Identifier: MIT */
#include "station.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "channels.h"
#include "gt.h"

/* --- addresses ---------------------------------------------------------------------------------------------------------- */

struct address address_make(int type)
{
	struct address address = { .type = type, .name = { .sun_family = AF_UNIX }, .length = sizeof(address.name) };

	alarm(100);
	address.listener = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	assert_true(address.listener >= 0);
	assert_int_equal(bind(address.listener, (struct sockaddr *)&address.name, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(address.listener, 1024), 0);
	assert_int_equal(getsockname(address.listener, (struct sockaddr *)&address.name, &address.length), 0);
	return address;
}

int address_connect(const struct address *address)
{
	int fd = socket(AF_UNIX, address->type | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address->name, address->length) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

void address_end(struct address *address)
{
	close(address->listener);
	alarm(0);
}

/* --- the station -------------------------------------------------------------------------------------------------------- */

static int read_content(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	struct station *station = user;
	unsigned char *bytes = buffer;
	int answer;

	(void)flags;
	pthread_mutex_lock(&station->lock);
	station->holding += station->held;
	pthread_cond_broadcast(&station->changed);
	while (station->held)
		pthread_cond_wait(&station->changed, &station->lock);
	answer = station->answer;
	pthread_mutex_unlock(&station->lock);
	if (answer)
		return answer;
	for (uint64_t i = 0; i < length; i++)
		bytes[i] = content_at(offset + i);
	return GMEM_ANSWER_DATA;
}

static int admit(void *user, const struct gmem_channel_info *peer, struct gmem_uffd *uffd, struct gmem_source **source,
		 struct gmem_pager_add_opts *opts)
{
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = read_content };
	struct station *station = user;
	int (*own)(struct station *, const struct gmem_channel_info *);
	int r;

	assert_non_null(uffd);
	assert_int_equal(opts->size, sizeof(*opts));
	pthread_mutex_lock(&station->lock);
	own = station->admit;
	pthread_mutex_unlock(&station->lock);
	r = own ? own(station, peer) : 0;
	pthread_mutex_lock(&station->lock);
	station->asked++;
	pthread_cond_broadcast(&station->changed);
	pthread_mutex_unlock(&station->lock);
	if (r || station->refuse)
		return r ? r : station->refuse;
	opts->background = station->background;
	return gmem_source_create(&ops, station, source);
}

static int meet(void *user, const struct gmem_channel_info *peer)
{
	struct station *station = user;

	return station->meet(station, peer);
}

int station_let_slow_wait(struct station *station, const struct gmem_channel_info *peer)
{
	if (strcmp(peer->identity, "slow") != 0)
		return 0;
	pthread_mutex_lock(&station->lock);
	station->holding++;
	pthread_cond_broadcast(&station->changed);
	while (!station->open)
		pthread_cond_wait(&station->changed, &station->lock);
	pthread_mutex_unlock(&station->lock);
	return -ENOENT;
}

static void leave(void *user, struct gmem_uffd *uffd, int reason)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };
	struct station *station = user;

	assert_int_equal(gmem_uffd_query(uffd, &info), 0);
	assert_int_equal(info.pending, 0);
	pthread_mutex_lock(&station->lock);
	station->reasons[station->left++ % MOST_NOTES] = reason;
	pthread_cond_broadcast(&station->changed);
	pthread_mutex_unlock(&station->lock);
}

static void release(void *user)
{
	struct station *station = user;

	pthread_mutex_lock(&station->lock);
	station->released++;
	pthread_mutex_unlock(&station->lock);
}

void station_open(struct station *station, const struct address *address, uint32_t threads,
		  const struct gmem_server_create_opts *opts)
{
	struct gmem_server_ops ops = { .size = sizeof(ops), .admit = admit, .leave = leave, .release = release };
	struct gmem_pager_create_opts how = { .size = sizeof(how), .threads = threads };

	if (station->meet)
		ops.meet = meet;
	pthread_mutex_init(&station->lock, NULL);
	pthread_cond_init(&station->changed, NULL);
	if (gmem_pager_create(&station->pager, &how) || gmem_pager_start(station->pager) ||
	    gmem_server_create(station->pager, address->listener, &ops, station, &station->server, opts))
		fail_msg("%s", gmem_last_error());
}

void station_close(struct station *station)
{
	gmem_server_destroy(station->server);
	assert_int_equal(station->released, 1);
	gmem_pager_destroy(station->pager);
	pthread_mutex_destroy(&station->lock);
	pthread_cond_destroy(&station->changed);
}

static void await(struct station *station, const uint64_t *counter, uint64_t count)
{
	pthread_mutex_lock(&station->lock);
	while (*counter < count)
		pthread_cond_wait(&station->changed, &station->lock);
	pthread_mutex_unlock(&station->lock);
}

int station_await_left(struct station *station, uint64_t count)
{
	await(station, &station->left, count);
	return station->reasons[(count - 1) % MOST_NOTES];
}

void station_await_asked(struct station *station, uint64_t count)
{
	await(station, &station->asked, count);
}

void station_hold(struct station *station, uint32_t on)
{
	pthread_mutex_lock(&station->lock);
	station->held = on;
	pthread_cond_broadcast(&station->changed);
	pthread_mutex_unlock(&station->lock);
}

void station_answer(struct station *station, int answer)
{
	pthread_mutex_lock(&station->lock);
	station->answer = answer;
	pthread_mutex_unlock(&station->lock);
}

void station_admit_all(struct station *station)
{
	pthread_mutex_lock(&station->lock);
	station->admit = NULL;
	pthread_mutex_unlock(&station->lock);
}

void station_open_gate(struct station *station)
{
	pthread_mutex_lock(&station->lock);
	station->open = 1;
	pthread_cond_broadcast(&station->changed);
	pthread_mutex_unlock(&station->lock);
}

void station_await_holding(struct station *station, uint32_t count)
{
	pthread_mutex_lock(&station->lock);
	while (station->holding < count)
		pthread_cond_wait(&station->changed, &station->lock);
	pthread_mutex_unlock(&station->lock);
}

struct gmem_server_info station_info(const struct station *station)
{
	struct gmem_server_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_server_query(station->server, &info), 0);
	return info;
}

void station_await_quiet(const struct station *station)
{
	struct gmem_server_info info;

	do {
		sched_yield();
		info = station_info(station);
	} while (info.vms || info.handshakes);
}
