/* SPDX-License-Identifier: MIT */
/* Floor 5: handing memory over a socket. channel.c opens and closes, channel_stream.c moves bytes and fds, channel_recv.c says
 * what is next, channel_firecracker.c and channel_native.c understand it, channel_build.c makes an endpoint of it, and
 * channel_send.c hands one out. */
#ifndef GMEMI_CHANNEL_H
#define GMEMI_CHANNEL_H

#include <gmem/channel.h>

#include "fault.h"
#include "json.h"
#include "sys.h"
#include "wire.h"

#define GMEMI_IDENTITY 255
#define GMEMI_CHANNEL_FDS (2 * GMEMI_RECEIVED)                   /* received and not taken */
#define GMEMI_CHANNEL_ROOM (GMEMI_WIRE_HEADER + GMEMI_WIRE_BODY) /* for one call of the kernel, and any one packet */
#define GMEMI_CHANNEL_OUT 8192                                   /* bytes of answers that wait for room */

/* Ranges that do not overlap, in order. */
struct gmemi_span {
	uint64_t start, length;
};
struct gmemi_spans {
	struct gmemi_span *items;
	uint32_t count, room;
};

/* An endpoint while it comes in, and as it is after. */
struct gmemi_build {
	struct gmem_uffd *uffd;                     /* NULL = none */
	struct gmem *memories[GMEMI_WIRE_MEMORIES]; /* NULL = not brought; the endpoint's */
	uint32_t endpoint;                          /* its number */
	uint32_t memory_count, region_count;
	uint32_t memories_due, regions_due;
	uint64_t length;
	struct gmemi_spans hva, gpa;
	struct gmemi_wire_region *regions; /* region_count of them, in the order in which they came */
	uint32_t region_room;
	bool ready; /* the program has it */
};

struct gmem_channel;
/* What comes for somebody else: heartbeats, faults, statistics, detach, release, errors. Not 0 = refused, with a sentence. */
typedef int (*gmemi_channel_fn)(void *user, struct gmem_channel *channel, const struct gmemi_wire *wire);

struct gmem_channel {
	int fd, epoll, timer;
	bool packets;
	bool sends;    /* it hands memory out: what comes are answers */
	bool puts_off; /* READY is answered by gmemi_channel_accept(), not as soon as everything has come */
	atomic_uint claims;
	struct gmemi_socket peer;
	uint64_t timeout_ns, max_length;
	uint64_t deadline, timer_at; /* of what is under way, UINT64_MAX = nothing is; and what the timer is set to */
	uint32_t max_regions, max_memories, protocol;
	char identity[GMEMI_IDENTITY + 1], peer_identity[GMEMI_WIRE_TEXT + 1];
	int broken; /* the code with which all is over */
	bool ended; /* the peer has closed its end */
	bool torn;  /* a message has been sent in part: nothing can be said behind it */
	uint64_t endpoints;
	/* Bytes that have come, the first at place `in_at` of the stream. */
	unsigned char *in;
	size_t in_room, in_have;
	uint64_t in_at;
	/* fds that have come, and the place up to which the stream had come with them. */
	int fds[GMEMI_CHANNEL_FDS];
	uint64_t fd_at[GMEMI_CHANNEL_FDS];
	uint32_t fd_count;
	struct gmemi_json json;
	size_t scanned; /* bytes of `in` that it has seen */
	int bitmap;     /* of the last handshake in the form of Firecracker's branch: KVM's userfault bitmap; -1 = none */
	/* The library's own protocol. */
	bool hello_sent, hello_come, taken; /* taken: the peer has said READY to what was handed out */
	uint64_t number, capabilities;      /* of the last message sent; of the peer */
	uint32_t speaker;                   /* process that has sent last, if that was asked for; 0 = not known */
	unsigned char out[GMEMI_CHANNEL_OUT];
	size_t out_have;
	struct gmemi_build build;
	/* What was handed out. */
	const struct gmem *told[GMEMI_WIRE_MEMORIES]; /* by number; NULL = gone */
	uint32_t told_count;
	bool handed;             /* the peer may have the endpoint */
	bool refused;            /* ... and ends with ERROR */
	gmemi_channel_fn notify; /* NULL = such messages are ignored */
	void *notify_user;
};

/* channel.c */
int gmemi_channel_check(const struct gmem_channel *channel);
/* Checks options, and fills in defaults. */
int gmemi_channel_opts(struct gmem_channel_open_opts *local, const struct gmem_channel_open_opts *opts);
/* gmem_channel_close() gives up the program's claim. */
void gmemi_channel_claim(struct gmem_channel *channel);
void gmemi_channel_release(struct gmem_channel *channel);
/* Everything that has come is closed, the peer is told if it can be, unless it has said so itself, and sees the end; the channel is
 * of no more use. Returns code. */
int gmemi_channel_break(struct gmem_channel *channel, int code);

/* To a peer on a socket that is no channel: ERROR, with the last sentence, if there is room. Bytes, or a code. */
int64_t gmemi_channel_turn_away(int fd, int code);

/* channel_stream.c */
/* Reads once: 1 = something came; 0 = the end; -EAGAIN without a sentence; a code with one. */
int gmemi_channel_fill(struct gmem_channel *channel);
/* Nothing may come for long: the room for it is given back where nothing is in it. */
void gmemi_channel_rest(struct gmem_channel *channel);
/* These bytes are done with. */
void gmemi_channel_consume(struct gmem_channel *channel, size_t length);
/* The first of the fds, to be closed by the caller. */
void gmemi_channel_take_fds(struct gmem_channel *channel, int *fds, uint32_t count);
void gmemi_close_fds(const int *fds, uint32_t count);
/* Puts an answer behind those that wait, which are sent if there is no room. */
int gmemi_channel_answer(struct gmem_channel *channel, struct gmemi_wire *wire);
/* Sends what waits, as far as there is room. */
int gmemi_channel_flush(struct gmem_channel *channel);
/* Both, of what need not be said: -EAGAIN the peer does not read, and nothing was put. */
int gmemi_channel_post(struct gmem_channel *channel, struct gmemi_wire *wire);
/* Sends all that waits; waits until `deadline`. */
int gmemi_channel_drain(struct gmem_channel *channel, uint64_t deadline);
/* Sends all of it, fds with the first byte; waits until `deadline`. */
int gmemi_channel_send_all(struct gmem_channel *channel, const void *data, size_t length, const int *fds, uint32_t count,
			   uint64_t deadline);

/* channel_recv.c */
/* Takes what has come: 1 = an endpoint is whole, or (sends) the peer has answered; 0 = nothing more is there; a code. */
int gmemi_channel_step(struct gmem_channel *channel, struct gmem_vm *vm);

/* channel_firecracker.c, channel_native.c: the next message that is in the buffer. 2 = one was taken, 1 = ... and the endpoint
 * is whole, 0 = it has not come whole, a code. */
int gmemi_channel_firecracker(struct gmem_channel *channel, struct gmem_vm *vm);
int gmemi_channel_native(struct gmem_channel *channel, struct gmem_vm *vm);
int gmemi_channel_say_hello(struct gmem_channel *channel);
/* What was put off: tells the peer that its endpoint is taken. */
int gmemi_channel_accept(struct gmem_channel *channel);
/* Tells the peer that it is let go: code 0 = everything is there. */
int gmemi_channel_say_release(struct gmem_channel *channel, uint32_t endpoint, int code, uint64_t pending);
/* What a negative errno is on the wire, and what is there as one. */
enum gmemi_wire_code gmemi_channel_code(int code);
int gmemi_channel_error(uint32_t code);

/* channel_build.c: all with -EPROTO where the peer is to blame. */
int gmemi_build_begin(struct gmemi_build *build, struct gmem_vm *vm, int uffd_fd);
int gmemi_build_memory(struct gmem_channel *channel, const struct gmemi_wire_memory *memory, int fd, int map_fd);
int gmemi_build_region(struct gmem_channel *channel, struct gmemi_build *build, const struct gmemi_wire_region *region);
int gmemi_build_remove(struct gmemi_build *build, const struct gmemi_wire_range *range);
/* Gives up what there is. */
void gmemi_build_end(struct gmemi_build *build);
/* Is it one, by what /proc and the file itself say? Nothing is asked that a peer could make wait. */
int gmemi_fd_check_uffd(int fd);
int gmemi_fd_check_memory(int fd);

/* channel_send.c: one message of the library's own protocol, whole, by `deadline` (of CLOCK_MONOTONIC). */
int gmemi_channel_say(struct gmem_channel *channel, struct gmemi_wire *wire, const int *fds, uint64_t deadline);
/* Hands an endpoint of this process out, and waits, as long as a handshake may take, until the peer has taken
 * it; with the protocol of Firecracker, whose peer does not answer, until it is sent. Only for who holds the endpoint meanwhile
 * and after. -ETIMEDOUT; -EPROTO the peer refused (with its sentence); -EOPNOTSUPP the protocol cannot express it. A channel that is
 * handed and not broken after a failure has said DETACH, or the end, and is to be heard on. */
int gmemi_channel_send(struct gmem_channel *channel, struct gmem_uffd *uffd, uint32_t endpoint);
/* After that. Regions of the endpoint that the peer has not been told of; a range that has gone, with all it was told there;
 * and that it is to let go. A failure leaves the channel of no more use. */
int gmemi_channel_say_added(struct gmem_channel *channel, struct gmem_uffd *uffd, uint32_t endpoint);
int gmemi_channel_say_removed(struct gmem_channel *channel, uint32_t endpoint, const struct gmem *mem, uint64_t offset,
			      uint64_t length, bool last);
/* The number by which it knows the memory: false = it does not. */
bool gmemi_channel_was_told(const struct gmem_channel *channel, const struct gmem *mem, uint32_t *number);
int gmemi_channel_say_detach(struct gmem_channel *channel, uint32_t endpoint);
/* ERROR has come in the place of READY: the peer has let everything go. */
bool gmemi_channel_has_refused(const struct gmem_channel *channel);
/* Takes what the peer has sent since. 0 = nothing more is there now; -ENOTCONN it has closed its end; other codes, after which
 * the channel is of no more use. */
int gmemi_channel_attend(struct gmem_channel *channel);

#endif
