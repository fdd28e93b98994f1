/* SPDX-License-Identifier: MIT */
#include "second_line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channels.h"
#include "gt.h"

struct second *second_make(int socket)
{
	struct second *second = calloc(1, sizeof(*second));
	socklen_t size = sizeof(int);
	int type;

	assert_non_null(second);
	assert_true(socket >= 0);
	assert_int_equal(getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size), 0);
	second->socket = socket;
	second->packets = type == SOCK_SEQPACKET;
	return second;
}

void second_end(struct second *second)
{
	assert_int_equal(second->fd_count, 0);
	close(second->socket);
	free(second);
}

/* --- saying ------------------------------------------------------------------------------------------------------------- */

void second_say(struct second *second, const struct note *note, const int *fds)
{
	static unsigned char bytes[NOTE_MOST];
	struct note with = *note;

	with.number = ++second->said;
	with.later_part += second->later;
	with.later_item += second->later;
	with.later_body += second->later;
	send_raw(second->socket, bytes, note_write(&with, bytes), fds, note->fds);
}

void second_say_of(struct second *second, enum note_type type, uint64_t endpoint)
{
	struct note note = { .type = (uint16_t)type, .part = { [OF_ENDPOINT] = endpoint } };

	second_say(second, &note, NULL);
}

void second_say_unknown(struct second *second, uint16_t type, uint32_t body, int fd)
{
	struct note note = { .type = type, .fds = fd >= 0, .later_body = body };

	second_say(second, &note, &fd);
}

/* --- hearing ------------------------------------------------------------------------------------------------------------ */

static void keep_fds(struct second *second, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		assert_true(second->fd_count + count <= sizeof(second->fds) / sizeof(int));
		memcpy(second->fds + second->fd_count, CMSG_DATA(c), count * sizeof(int));
		second->fd_count += (unsigned int)count;
	}
}

static size_t receive(struct second *second)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE((NOTE_FDS + 1) * sizeof(int))];
	} control;
	struct iovec part = { second->bytes + second->have, sizeof(second->bytes) - second->have };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t got = recvmsg(second->socket, &message, MSG_CMSG_CLOEXEC);

	assert_true(got >= 0);
	assert_int_equal(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC), 0);
	keep_fds(second, &message);
	second->have += (size_t)got;
	return (size_t)got;
}

static void take_fds(struct second *second, unsigned int count, int *fds)
{
	assert_true(second->fd_count >= count);
	memcpy(fds, second->fds, count * sizeof(int));
	second->fd_count -= count;
	memmove(second->fds, second->fds + count, second->fd_count * sizeof(int));
}

static enum note_kind hear_any(struct second *second, struct note *note, int fds[NOTE_FDS])
{
	enum note_kind kind;
	size_t length = 0;

	while ((kind = note_read(second->bytes, second->have, note, &length)) == NOTE_SHORT) {
		assert_true(!second->packets || second->have == 0);
		assert_true(receive(second) > 0);
	}
	assert_int_not_equal(kind, NOTE_BROKEN);
	assert_true(!second->packets || second->have == length);
	assert_int_equal(note->number, ++second->heard);
	take_fds(second, note->fds, fds);
	second->have -= length;
	memmove(second->bytes, second->bytes + length, second->have);
	return kind;
}

void second_hear(struct second *second, struct note *note, int fds[NOTE_FDS])
{
	while (hear_any(second, note, fds) == NOTE_LATER)
		for (unsigned int i = 0; i < note->fds; i++)
			close(fds[i]);
}

void second_expect(struct second *second, enum note_type type, unsigned int count, struct note *note, int fds[NOTE_FDS])
{
	second_hear(second, note, fds);
	if (note->type != type || note->fds != count)
		fail_msg("message %u with %u fds, not %d with %u: %s", note->type, note->fds, type, count, note->text);
}

void second_expect_end(struct second *second)
{
	unsigned char byte;
	ssize_t got = recv(second->socket, &byte, sizeof(byte), 0);

	assert_int_equal(second->have, 0);
	assert_true(got == 0 || (got < 0 && errno == ECONNRESET)); /* reset: it has not read all that was said */
}
