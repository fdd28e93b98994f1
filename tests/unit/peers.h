/* SPDX-License-Identifier: MIT */
/* Another process whose anonymous memory a userfaultfd watches, which does as it is told. */
#ifndef UNIT_PEERS_H
#define UNIT_PEERS_H

#include <stdint.h>
#include <sys/types.h>

#include <gmem.h>

struct peer {
	pid_t pid;
	int orders, answers; /* pipes */
	struct gmem_vm *vm;
	struct gmem_uffd *uffd; /* imported; watches nothing yet */
	unsigned char *at;	/* in the peer */
	uint64_t page, length;
	uint64_t features; /* of the userfaultfd: 0 = the kernel has not got what was wanted */
};

enum peer_order {
	PEER_READ,     /* the byte at a + b, or a negative signal */
	PEER_WRITE,    /* b = the byte */
	PEER_DONTNEED, /* [a, a + b) */
	PEER_UNMAP,
	PEER_MOVE,     /* the same, to somewhere else: answers where, as an offset from at */
	PEER_FORK,     /* reads a and b in a child: what each gave, the first in the lower 16 bits */
	PEER_BLOCKING  /* makes the userfaultfd block */
};

/* Events: UFFDI_BIT_EVENT_*, as a mask. Skips where they cannot be had. */
struct peer peer_make(uint64_t pages, uint64_t events);
/* Tells it to, and does not wait. */
void peer_tell(struct peer *peer, enum peer_order order, uint64_t a, uint64_t b);
int64_t peer_answer(struct peer *peer);
int64_t peer_do(struct peer *peer, enum peer_order order, uint64_t a, uint64_t b);
/* Pages [first, first + count) of it, told as memory without a file here. */
void peer_watch(struct peer *peer, uint64_t first, uint64_t count);
void peer_kill(struct peer *peer);
void peer_end(struct peer *peer);

/* An endpoint as an owner makes it; -1 = not allowed, or not with these features. */
int new_uffd(uint64_t features);

#endif
