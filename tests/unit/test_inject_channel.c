/* SPDX-License-Identifier: MIT */
/* Channels with every system call and allocation failing in turn: what comes is whole and works, or is refused, and nothing of
 * it stays open either way. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "alloc.h"
#include "channel.h"
#include "channels.h"
#include "firecracker.h"
#include "handles.h"
#include "inject.h"
#include "points.h"

#define PAGES 4

/* --- opening ------------------------------------------------------------------------------------------------------------ */

static int open_and_close(void *arg)
{
	struct gmem_channel_info info = { .size = sizeof(info) };
	struct gmem_channel *channel = NULL;
	int ends[2], r;

	(void)arg;
	inject_pause();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	inject_resume();
	r = gmem_channel_open(ends[0], &channel, NULL);
	assert_int_equal(r == 0, channel != NULL);
	if (r == 0)
		assert_int_equal(gmem_channel_query(channel, &info), 0);
	gmem_channel_close(channel);
	inject_pause();
	close(ends[0]);
	close(ends[1]);
	inject_resume();
	return r;
}

static void opening(void **state)
{
	(void)state;
	each(open_and_close, NULL);
}

/* --- receiving ---------------------------------------------------------------------------------------------------------- */

static struct line line;
static struct watched w;

/* The endpoint, if it came, works, whatever failed on the way. */
static int finish(int r, struct gmem_uffd *uffd)
{
	assert_int_equal(r == 0, uffd != NULL);
	inject_pause();
	if (r == 0)
		assert_is_served(uffd, w.at, w.length, 0);
	else
		assert_int_equal(gmem_channel_recv(line.channel, line.vm, &uffd), r);
	inject_resume();
	gmem_uffd_destroy(r == 0 ? uffd : NULL);
	gmem_channel_close(line.channel);
	inject_pause();
	line.channel = NULL;
	watched_end(&w);
	line_end(&line);
	inject_resume();
	return r;
}

static void begin(void)
{
	inject_pause();
	line = line_make(SOCK_STREAM, NULL);
	w = watched_make(PAGES);
}

static int receive_text(void *arg)
{
	struct gmemi_fc_region regions[2];
	struct gmem_uffd *uffd = NULL;
	size_t length;
	char *text;
	int r;

	(void)arg;
	begin();
	for (uint64_t i = 0; i < 2; i++)
		regions[i] = (struct gmemi_fc_region){ .hva = (uintptr_t)w.at + i * w.length / 2,
						       .length = w.length / 2,
						       .offset = i * w.length / 2,
						       .page_size = w.page };
	assert_int_equal(gmemi_fc_write(GMEMI_FC_PAGE_SIZE, regions, 2, &text, &length), 0);
	send_raw(line.far, text, length, &w.uffd, 1);
	gmemi_free(text);
	inject_resume();
	r = line_recv(&line, &uffd);
	return finish(r, uffd);
}

static void a_text_is_received(void **state)
{
	(void)state;
	each(receive_text, NULL);
}

/* Memory, its page map, and regions without either. */
static int receive_native(void *arg)
{
	struct speaker speaker;
	struct gmemi_wire wire = { .type = GMEMI_WIRE_MEMORY, .fds = 2 };
	struct gmem_uffd *uffd = NULL;
	int fds[2], r;

	(void)arg;
	begin();
	speaker = (struct speaker){ .socket = line.far };
	for (int i = 0; i < 2; i++) {
		fds[i] = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_int_equal(ftruncate(fds[i], (off_t)w.length), 0);
		assert_int_equal(fcntl(fds[i], F_ADD_SEALS, F_SEAL_SHRINK), 0);
	}
	say_hello(&speaker);
	say_endpoint(&speaker, w.uffd, 1, 1, w.length);
	wire.memory = (struct gmemi_wire_memory){ .endpoint = 9, .map = 1, .length = w.length, .page_size = w.page };
	say(&speaker, &wire, fds);
	say_region(&speaker, (uintptr_t)w.at, w.length, 0);
	say_ready(&speaker);
	close(fds[0]);
	close(fds[1]);
	inject_resume();
	r = line_recv(&line, &uffd);
	return finish(r, uffd);
}

static void messages_are_received(void **state)
{
	(void)state;
	each(receive_native, NULL);
}

/* --- sending ------------------------------------------------------------------------------------------------------------ */

static struct gmem_uffd *taken;

/* The pager's end: it takes what comes, until the owner goes. */
static void *take(void *arg)
{
	struct line *end = arg;

	inject_exempt_thread(true);
	if (line_recv(end, &taken) == 0) {
		struct gmem_uffd *none;

		while (line_recv(end, &none) == -EAGAIN)
			;
	}
	return NULL;
}

struct sender {
	struct gmem_vm *vm;
	struct gmem *mem;
	struct gmem_uffd *uffd;
	struct gmem_channel *channel;
	struct line far;
	pthread_t thread;
	unsigned char *at;
};

static struct sender sender_make(uint32_t protocol)
{
	struct gmem_create_opts need = { .size = sizeof(need),
					 .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY,
					 .backing = GMEM_BACKING_MEMFD };
	struct gmem_uffd_register_opts copy = { .size = sizeof(copy), .strategy = GMEM_STRATEGY_COPY };
	struct gmem_channel_open_opts speak = { .size = sizeof(speak), .protocol = protocol };
	struct sender s = { .far = line_make(SOCK_STREAM, NULL) };
	void *at;

	make_vmless(&s.vm, &s.mem, PAGES * page(), &need);
	assert_int_equal(gmem_map(s.mem, 0, PAGES * page(), &at, NULL), 0);
	s.at = at;
	assert_int_equal(gmem_uffd_create(s.vm, &s.uffd, NULL), 0);
	assert_int_equal(gmem_uffd_register(s.uffd, s.mem, 0, PAGES * page(), &copy), 0);
	assert_int_equal(gmem_channel_open(s.far.far, &s.channel, &speak), 0);
	line_close_far(&s.far);
	taken = NULL;
	return s;
}

static int send_by(uint32_t protocol)
{
	struct sender s;
	int r;

	inject_pause();
	s = sender_make(protocol);
	assert_int_equal(pthread_create(&s.thread, NULL, take, &s.far), 0);
	inject_resume();
	r = gmemi_channel_send(s.channel, s.uffd, 1);
	inject_pause();
	gmem_channel_close(s.channel);
	pthread_join(s.thread, NULL);
	if (r == 0) {
		assert_non_null(taken);
		assert_is_served(taken, s.at, PAGES * page(), 0);
	}
	gmem_uffd_destroy(taken);
	line_end(&s.far);
	gmem_uffd_destroy(s.uffd);
	gmem_destroy(s.mem);
	gmem_vm_close(s.vm);
	inject_resume();
	return r;
}

static int send_native(void *arg)
{
	(void)arg;
	return send_by(GMEM_PROTOCOL_NATIVE);
}

static int send_text(void *arg)
{
	(void)arg;
	return send_by(GMEM_PROTOCOL_FIRECRACKER);
}

static void an_endpoint_is_sent(void **state)
{
	(void)state;
	each(send_native, NULL);
	each(send_text, NULL);
}

static const struct gt_test tests[] = {
	GT(opening, GT_NEEDS_NOTHING),
	GT(a_text_is_received, GT_NEEDS_UFFD),
	GT(messages_are_received, GT_NEEDS_UFFD),
	GT(an_endpoint_is_sent, GT_NEEDS_UFFD),
};

GT_MAIN("inject_channel", tests)
