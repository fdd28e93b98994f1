/* SPDX-License-Identifier: MIT */
/* Both ends of a socket over which memory is handed over, in this process, and memory to hand over: anonymous, with a raw
 * userfaultfd, as a VMM that knows nothing of the library has it. */
#ifndef UNIT_CHANNELS_H
#define UNIT_CHANNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gmem.h>

#include "wire.h"

struct line {
	int far; /* the peer's end, raw */
	struct gmem_vm *vm;
	struct gmem_channel *channel; /* the end under test */
};

/* SOCK_STREAM or SOCK_SEQPACKET; opts may be NULL. */
struct line line_make(int type, const struct gmem_channel_open_opts *opts);
/* -1 = it is closed already. */
void line_close_far(struct line *line);
void line_end(struct line *line);
/* Until it is whole or refused. */
int line_recv(struct line *line, struct gmem_uffd **uffd);
/* ... and it comes. */
struct gmem_uffd *line_take(struct line *line);
/* ... and it is refused, with this code, and a sentence that has the word. */
void line_refuses(struct line *line, int code, const char *word);

/* Everything at once, or the test fails. */
void send_raw(int socket, const void *data, size_t length, const int *fds, unsigned int count);

struct watched {
	int uffd;
	unsigned char *at;
	uint64_t length, page;
};
struct watched watched_make(uint64_t pages);
void watched_end(struct watched *watched);

/* A pager here fills the range from content of its own, and whoever looks there sees it: `first` is where the source has it. */
void assert_is_served(struct gmem_uffd *uffd, const unsigned char *at, uint64_t length, uint64_t first);
/* What that content is. */
unsigned char content_at(uint64_t offset);
#define CONTENT (UINT64_C(64) << 20) /* bytes of it */

/* The library's own protocol, by hand. */
struct speaker {
	int socket;
	uint64_t number;
};
void say(struct speaker *speaker, struct gmemi_wire *wire, const int *fds);
void say_hello(struct speaker *speaker);
void say_endpoint(struct speaker *speaker, int uffd, uint32_t memories, uint32_t regions, uint64_t length);
void say_region(struct speaker *speaker, uint64_t hva, uint64_t length, uint64_t content);
void say_ready(struct speaker *speaker);
/* Reads the answers that have come, until one of this type, whose number of bytes is returned. */
size_t hear(int socket, unsigned char *bytes, size_t room, enum gmemi_wire_type type, struct gmemi_wire *wire);

#endif
