/* SPDX-License-Identifier: MIT */
/* Watched memory by hand: a userfaultfd, and what resolves its faults. */
#ifndef FAULT_WATCH_H
#define FAULT_WATCH_H

#include <stddef.h>

enum watch_kind {
	WATCH_FILE,         /* a memfd, missing and minor faults, and an alias that is not watched */
	WATCH_FILE_MISSING, /* ... missing ones only */
	WATCH_ANONYMOUS
};

struct watched {
	size_t size;
	int file, uffd;           /* -1 = none */
	unsigned char *at, *alias; /* NULL = none */
};

const char *watch_absent(void); /* why there is nothing to watch with, or NULL */
void watch_begin(struct watched *watched, enum watch_kind kind, size_t size);
/* Two steps, so that pages can be filled before they are watched. */
void watch_on(struct watched *watched, enum watch_kind kind);
void watch_end(struct watched *watched);
/* Whoever waits goes on, with zeros. */
void watch_off(struct watched *watched);

/* The whole range, also where another thread has brought in some of it: 0, or an errno. */
int watch_continue(const struct watched *watched, size_t offset, size_t length);
int watch_copy(const struct watched *watched, size_t offset, size_t length, const void *data);

#endif
