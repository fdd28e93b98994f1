/* SPDX-License-Identifier: MIT */
/* A server whose content comes late, from a thread of the program that delivers it: until `leave` it may use the source. */
#include "gt.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "channels.h"
#include "handles.h"
#include "station.h"

#define PAGES 64
#define LONGEST_QUEUE 64
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define NATIVE { .pages = PAGES, .backing = GMEM_BACKING_MEMFD, .identity = "a VM" }

/* --- what delivers ------------------------------------------------------------------------------------------------------ */

struct wanted {
	uint64_t offset, length;
};

/* Of one VM. */
struct backend {
	struct gmem_pager *pager;
	struct gmem_server *server;
	uint64_t flags; /* of gmem_pager_add(): what is not 0 is refused */
	bool streams;   /* everything is delivered again and again, whether it is asked for or not */
	struct gmem_source *source;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	struct wanted queue[LONGEST_QUEUE];
	uint32_t queued;
	bool stopping;
	uint64_t delivered;
	int last; /* what the last delivery said */
	uint64_t released, left;
	int reason;
};

static void ask(struct backend *b, uint64_t offset, uint64_t length)
{
	pthread_mutex_lock(&b->lock);
	assert_true(b->queued < LONGEST_QUEUE);
	b->queue[b->queued++] = (struct wanted){ offset, length };
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

/* False: it is time to end. */
static bool next(struct backend *b, uint64_t turn, struct wanted *wanted)
{
	bool stopping;

	pthread_mutex_lock(&b->lock);
	while (!b->queued && !b->streams && !b->stopping)
		pthread_cond_wait(&b->changed, &b->lock);
	stopping = b->stopping;
	*wanted = b->queued ? b->queue[--b->queued] : (struct wanted){ turn % PAGES * page(), page() };
	pthread_mutex_unlock(&b->lock);
	return !stopping;
}

static void *deliver(void *argument)
{
	struct backend *b = argument;
	unsigned char *content = malloc(PAGES * page());
	struct wanted wanted;

	assert_non_null(content);
	for (uint64_t i = 0; i < PAGES * page(); i++)
		content[i] = content_at(i);
	for (uint64_t turn = 0; next(b, turn, &wanted); turn++) {
		int r = gmem_source_deliver(b->source, wanted.offset, wanted.length, content + wanted.offset, GMEM_ANSWER_DATA);

		pthread_mutex_lock(&b->lock);
		b->last = r;
		b->delivered++;
		pthread_cond_broadcast(&b->changed);
		pthread_mutex_unlock(&b->lock);
	}
	free(content);
	return NULL;
}

/* --- the source, and the server ----------------------------------------------------------------------------------------- */

static int read_later(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	struct backend *b = user;

	(void)buffer;
	(void)flags;
	if (!b->streams)
		ask(b, offset, length);
	return GMEM_ANSWER_LATER;
}

static void release(void *user)
{
	struct backend *b = user;

	pthread_mutex_lock(&b->lock);
	b->released++;
	pthread_mutex_unlock(&b->lock);
}

static int admit(void *user, const struct gmem_channel_info *peer, struct gmem_uffd *uffd, struct gmem_source **source,
		 struct gmem_pager_add_opts *opts)
{
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = read_later, .release = release };
	struct backend *b = user;

	(void)peer;
	(void)uffd;
	opts->flags = b->flags;
	assert_int_equal(gmem_source_create(&ops, b, source), 0);
	b->source = *source;
	assert_int_equal(pthread_create(&b->thread, NULL, deliver, b), 0);
	return 0;
}

/* What is delivered once more goes to nobody, and the source is there for it. */
static void deliver_once_more(struct backend *b)
{
	uint64_t delivered;

	pthread_mutex_lock(&b->lock);
	delivered = b->delivered;
	pthread_mutex_unlock(&b->lock);
	ask(b, 0, page());
	pthread_mutex_lock(&b->lock);
	while (b->queued || b->delivered == delivered)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static void leave(void *user, struct gmem_uffd *uffd, int reason)
{
	struct backend *b = user;

	(void)uffd;
	deliver_once_more(b);
	pthread_mutex_lock(&b->lock);
	b->stopping = true;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	assert_int_equal(pthread_join(b->thread, NULL), 0);
	assert_int_equal(b->last, -ENOTCONN);
	assert_int_equal(b->released, 0);
	pthread_mutex_lock(&b->lock);
	b->left++;
	b->reason = reason;
	pthread_mutex_unlock(&b->lock);
}

static void backend_open(struct backend *b, const struct address *address)
{
	struct gmem_server_ops ops = { .size = sizeof(ops), .admit = admit, .leave = leave };

	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	if (gmem_pager_create(&b->pager, NULL) || gmem_pager_start(b->pager) ||
	    gmem_server_create(b->pager, address->listener, &ops, b, &b->server, NULL))
		fail_msg("%s", gmem_last_error());
}

static void backend_await_quiet(const struct backend *b)
{
	struct gmem_server_info info = { .size = sizeof(info) };

	do {
		sched_yield();
		assert_int_equal(gmem_server_query(b->server, &info), 0);
	} while (info.vms || info.handshakes);
}

static void backend_close(struct backend *b, int reason)
{
	gmem_server_destroy(b->server);
	gmem_pager_destroy(b->pager);
	assert_int_equal(b->left, 1);
	assert_int_equal(b->reason, reason);
	assert_int_equal(b->released, 1);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->changed);
}

/* --- how VMs go --------------------------------------------------------------------------------------------------------- */

enum way { KILLED, LETS_GO, SERVER_GOES };

static void serve_one(bool streams, enum way way)
{
	static const int reasons[] = { [KILLED] = -ESRCH, [LETS_GO] = 0, [SERVER_GOES] = -ESHUTDOWN };
	struct address address = address_make(SOCK_STREAM);
	struct backend b = { .streams = streams };
	struct vm_spec spec = NATIVE;
	struct vm vm = vm_make(&address, &spec);

	backend_open(&b, &address);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES / 2), 0);
	if (way == KILLED)
		vm_kill(&vm);
	else if (way == LETS_GO)
		assert_int_equal(vm_do(&vm, VM_LET_GO, 0, 0), 0);
	if (way != SERVER_GOES) {
		backend_await_quiet(&b);
		assert_int_equal(b.released, 1);
	}
	backend_close(&b, reasons[way]);
	if (way != KILLED)
		vm_end(&vm);
	address_end(&address);
}

static void a_vm_is_killed(void **state)
{
	(void)state;
	serve_one(false, KILLED);
}

static void a_vm_lets_go(void **state)
{
	(void)state;
	serve_one(false, LETS_GO);
}

static void the_server_goes(void **state)
{
	(void)state;
	serve_one(false, SERVER_GOES);
}

/* The end comes at any point of a delivery. */
static void under_a_stream(void **state)
{
	(void)state;
	serve_one(true, KILLED);
	serve_one(true, LETS_GO);
	serve_one(true, SERVER_GOES);
}

/* Admitted, and not served. */
static void the_pager_refuses(void **state)
{
	struct address address = address_make(SOCK_STREAM);
	struct backend b = { .flags = 1 };
	struct vm_spec spec = NATIVE;
	struct vm vm = vm_make(&address, &spec);

	(void)state;
	backend_open(&b, &address);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), -EPROTO);
	backend_await_quiet(&b);
	assert_int_equal(b.released, 1);
	backend_close(&b, -E2BIG);
	vm_end(&vm);
	address_end(&address);
}

static const struct gt_test tests[] = {
	GT(a_vm_is_killed, NEEDS),
	GT(a_vm_lets_go, NEEDS),
	GT(the_server_goes, NEEDS),
	GT(under_a_stream, NEEDS),
	GT(the_pager_refuses, NEEDS),
};

GT_MAIN("server_deliver", tests)
