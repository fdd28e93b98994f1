/* SPDX-License-Identifier: MIT */
/* Floor 3: puts bytes into a range of a memory's shared file, by the populate chain. Bytes come from a buffer or, by the
 * ways that need none, from a file or pipe. */
#ifndef GMEMI_FILL_H
#define GMEMI_FILL_H

#include "memory.h"

struct gmemi_chain_row;

/* One filler for each call that fills; not shared between threads. */
struct gmemi_fill {
	struct gmem *mem;
	enum gmem_mechanism forced;	  /* 0 = the chain */
	bool splices;			  /* the caller can use gmemi_fill_splice_*() */
	const struct gmemi_chain_row *row; /* in use now */
};

/* Picks the mechanism: -EOPNOTSUPP when none works. */
int gmemi_fill_begin(struct gmemi_fill *fill, struct gmem *mem, enum gmem_mechanism forced, bool splices);
enum gmem_mechanism gmemi_fill_mechanism(const struct gmemi_fill *fill);
/* The file holds these bytes at offset when it returns 0; *done of them otherwise. Any alignment. A mechanism that turns out
 * absent is demoted, and the next goes on where it stopped. */
int gmemi_fill_put(struct gmemi_fill *fill, uint64_t offset, const unsigned char *data, uint64_t length, uint64_t *done);
/* The mechanism failed: 0 = that meant absent, and the next is picked; else error. */
int gmemi_fill_demote(struct gmemi_fill *fill, int error);
/* splice() cannot be had for this input, or not now: 0 = the next mechanism is picked, and nobody else hears of it; error
 * where it was forced. */
int gmemi_fill_unsplice(struct gmemi_fill *fill, int error);

/* Where bytes come from that need no buffer. */
struct gmemi_fill_file {
	int fd;
	uint64_t position; /* in what can seek */
	bool failed;	   /* out: a failure is its own, and says nothing of the mechanism */
};

/* fill_read.c: reads straight into the memory, for GMEM_MECH_MAPPING: *done bytes, fewer where the file or a mapping ends.
 * The second is for whole pages that were absent: those that turn out to be zeros are freed again, *freed bytes, if that
 * can be done unseen. */
int gmemi_fill_read(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_fill_file *from, uint64_t *done);
int gmemi_fill_read_absent(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_fill_file *from,
			   uint64_t *done, uint64_t *freed);
bool gmemi_fill_is_zero(const unsigned char *page, uint64_t size);

/* fill_splice.c: from a pipe, or from a file through a pipe of the caller's: *done bytes, fewer where the input ends. */
int gmemi_fill_splice_pipe(struct gmem *mem, uint64_t offset, uint64_t length, int pipe, uint64_t *done);
int gmemi_fill_splice_file(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_fill_file *from,
			   const int pipe[2], uint64_t *done);

/* Allocates, clears and maps in bulk, as far as the host may touch the memory, and changes nothing that is there. What
 * cannot be had is an error here, where a touch would be SIGBUS. */
int gmemi_fill_prepare(struct gmem *mem, uint64_t offset, uint64_t length);
/* The same within a mapping that is held. */
int gmemi_fill_prepare_mapped(struct gmem *mem, const struct gmemi_mapping *m, uint64_t offset, uint64_t length);
/* A range of pages that were there when they were last looked at: asking again would cost as much as the range is long. */
struct gmemi_known {
	uint64_t offset, length;
};

/* How many bytes from offset on, at most length, are alike in this: surely absent from the file (*absent), or perhaps there.
 * Both are multiples of the page size. known is the caller's, zeros at first, for questions in rising order. */
uint64_t gmemi_fill_extent(struct gmem *mem, uint64_t offset, uint64_t length, bool *absent, struct gmemi_known *known);

#endif
