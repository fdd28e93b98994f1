/* SPDX-License-Identifier: MIT */
/* Handlers as a program without the library has them. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../lib/uapi/userfaultfd.h"
#include "fault.h"
#include "fault_watch.h"
#include "trap.h"

#define BATCH 16
#define MOST_AROUND ((size_t)64 << 10)

struct hand;
struct handler {
	struct hand *hand;
	pthread_t thread;
	int epoll;
	unsigned char buffer[MOST_AROUND] __attribute__((aligned(4096)));
};

struct hand_way {
	enum watch_kind kind;
	void *(*body)(void *handler);
	/* Brings a range in: 0, or an errno, and then what could not be done. */
	int (*bring)(struct handler *handler, size_t offset, size_t length, const char **what);
};

struct hand {
	struct fault_run *run;
	const struct hand_way *way;
	struct watched memory;
	size_t around;
	int stop; /* eventfd: readable for good once it is over */
	atomic_bool *taken; /* of each piece of `around` bytes: somebody has begun to bring it in */
	struct handler *handlers;
	unsigned int started;
};

/* Ways of bringing in. */

static bool read_content(const struct handler *handler, void *to, size_t offset, size_t length, const char **what)
{
	*what = "reading the content";
	return pread(handler->hand->run->content->fd, to, length, (off_t)offset) == (ssize_t)length;
}

static int bring_by_alias(struct handler *handler, size_t offset, size_t length, const char **what)
{
	if (!read_content(handler, handler->hand->memory.alias + offset, offset, length, what))
		return EIO;
	*what = "UFFDIO_CONTINUE";
	return watch_continue(&handler->hand->memory, offset, length);
}

static int bring_by_write(struct handler *handler, size_t offset, size_t length, const char **what)
{
	if (!read_content(handler, handler->buffer, offset, length, what))
		return EIO;
	*what = "pwrite() to the memory";
	if (pwrite(handler->hand->memory.file, handler->buffer, length, (off_t)offset) != (ssize_t)length)
		return EIO;
	*what = "UFFDIO_CONTINUE";
	return watch_continue(&handler->hand->memory, offset, length);
}

static int bring_by_copy(struct handler *handler, size_t offset, size_t length, const char **what)
{
	if (!read_content(handler, handler->buffer, offset, length, what))
		return EIO;
	*what = "UFFDIO_COPY";
	return watch_copy(&handler->hand->memory, offset, length, handler->buffer);
}

static int bring_from_view(struct handler *handler, size_t offset, size_t length, const char **what)
{
	*what = "UFFDIO_COPY";
	return watch_copy(&handler->hand->memory, offset, length, handler->hand->run->view + offset);
}

static int bring_nothing(struct handler *handler, size_t offset, size_t length, const char **what)
{
	*what = "UFFDIO_CONTINUE";
	return watch_continue(&handler->hand->memory, offset, length);
}

/* Loops. */

/* Who finds a piece taken has nothing to do: whoever took it wakes all that wait in it. */
static bool serve(struct handler *handler, const struct uffdi_message *message)
{
	struct hand *hand = handler->hand;
	size_t offset = (size_t)(message->fault.address - (uintptr_t)hand->memory.at) & ~(hand->around - 1);
	size_t left = hand->memory.size - offset;
	const char *what;
	int error;

	if (message->event != UFFDI_EVENT_PAGEFAULT || atomic_exchange(&hand->taken[offset / hand->around], true))
		return true;
	error = hand->way->bring(handler, offset, left < hand->around ? left : hand->around, &what);
	if (!error)
		return true;
	fault_failed(hand->run, what, error);
	watch_off(&hand->memory);
	return false;
}

/* False: over. */
static bool read_and_serve(struct handler *handler, struct uffdi_message *messages, size_t room)
{
	ssize_t got = read(handler->hand->memory.uffd, messages, room * sizeof(*messages));

	for (ssize_t i = 0; i < got / (ssize_t)sizeof(*messages); i++)
		if (!serve(handler, &messages[i]))
			return false;
	return got > 0 || errno == EAGAIN;
}

static void *poll_and_read_one(void *argument)
{
	struct handler *handler = argument;
	struct pollfd fds[] = { { handler->hand->memory.uffd, POLLIN, 0 }, { handler->hand->stop, POLLIN, 0 } };
	struct uffdi_message message;

	while (poll(fds, 2, -1) > 0 && !fds[1].revents)
		if (!read_and_serve(handler, &message, 1))
			break;
	return NULL;
}

static void epoll_and_read(struct handler *handler, size_t room)
{
	struct uffdi_message messages[BATCH];
	struct epoll_event event;

	while (epoll_wait(handler->epoll, &event, 1, -1) > 0 && event.data.fd != handler->hand->stop)
		if (!read_and_serve(handler, messages, room))
			break;
}

static void *epoll_and_read_many(void *argument)
{
	epoll_and_read(argument, BATCH);
	return NULL;
}

static void *epoll_and_read_one(void *argument)
{
	epoll_and_read(argument, 1);
	return NULL;
}

const struct hand_way hand_simple = { WATCH_FILE, poll_and_read_one, bring_by_alias };
const struct hand_way hand_fill = { WATCH_FILE, epoll_and_read_many, bring_by_write };
const struct hand_way hand_fill_one = { WATCH_FILE, epoll_and_read_one, bring_by_write };
const struct hand_way hand_copy = { WATCH_FILE_MISSING, epoll_and_read_many, bring_by_copy };
const struct hand_way hand_ready = { WATCH_FILE, epoll_and_read_many, bring_nothing };
const struct hand_way hand_firecracker = { WATCH_ANONYMOUS, poll_and_read_one, bring_from_view };
const struct hand_way hand_firecracker_file = { WATCH_FILE_MISSING, poll_and_read_one, bring_from_view };

/* The server. */

static void add_to_epoll(const struct handler *handler, int fd, uint32_t how)
{
	struct epoll_event event = { .events = EPOLLIN | how, .data.fd = fd };

	must_errno(epoll_ctl(handler->epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl()");
}

static void start_handler(struct hand *hand, unsigned int i)
{
	struct handler *handler = &hand->handlers[i];
	cpu_set_t cores;

	*handler = (struct handler){ .hand = hand, .epoll = epoll_create1(EPOLL_CLOEXEC) };
	must_errno(handler->epoll, "epoll_create1()");
	hand->started++;
	add_to_epoll(handler, hand->memory.uffd, EPOLLEXCLUSIVE);
	add_to_epoll(handler, hand->stop, 0);
	fault_where(hand->run, i, &cores);
	fault_thread(&handler->thread, &cores, hand->way->body, handler);
}

static void fill_before(const struct hand *hand)
{
	for (size_t at = 0; at < hand->memory.size; at += CONTENT_BLOCK)
		if (pwrite(hand->memory.file, hand->run->view + at, CONTENT_BLOCK, (off_t)at) != (ssize_t)CONTENT_BLOCK)
			give_up("the memory cannot be filled");
}

static void begin_by_hand(struct fault_run *run)
{
	const struct fault_setup *setup = run->setup;
	struct hand *hand = run->state = calloc(1, sizeof(*hand));

	if (!hand)
		give_up("out of memory");
	*hand = (struct hand){ .run = run, .way = setup->way, .around = setup->around ? setup->around : FAULT_PAGE,
			       .memory = { .file = -1, .uffd = -1 } };
	hand->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	hand->taken = calloc(run->size / hand->around + 1, sizeof(*hand->taken));
	if (hand->stop < 0 || !hand->taken)
		give_up("no memory for a handler");
	if (posix_memalign((void **)&hand->handlers, 4096, FAULT_MOST * sizeof(*hand->handlers)) != 0)
		give_up("no memory for a handler");
	watch_begin(&hand->memory, hand->way->kind, run->size);
	if (setup->ready)
		fill_before(hand);
	watch_on(&hand->memory, hand->way->kind);
	run->at = hand->memory.at;
	for (unsigned int i = 0; i < (setup->handlers ? setup->handlers : 1); i++)
		start_handler(hand, i);
}

static void end_by_hand(struct fault_run *run)
{
	struct hand *hand = run->state;

	if (hand->stop >= 0)
		eventfd_write(hand->stop, 1);
	for (unsigned int i = 0; i < hand->started; i++) {
		if (hand->handlers[i].thread)
			pthread_join(hand->handlers[i].thread, NULL);
		close(hand->handlers[i].epoll);
	}
	watch_end(&hand->memory);
	if (hand->stop >= 0)
		close(hand->stop);
	free(hand->handlers);
	free(hand->taken);
	free(hand);
}

const struct fault_server fault_by_hand = { begin_by_hand, end_by_hand, NULL };
