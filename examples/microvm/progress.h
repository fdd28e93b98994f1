/* SPDX-License-Identifier: MIT */
/* A progress line on stderr, if that is a terminal. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool terminal;
	uint64_t began;
	uint64_t printed; /* when the line was last printed */
	int width;        /* columns it took */
};

void progress_begin(struct progress *progress);
/* A gmem_progress_fn; `user` is the struct progress. */
int progress_tell(void *user, uint64_t done, uint64_t length);
/* Takes the line away. */
void progress_end(const struct progress *progress);

/* MiB a second. */
double mib_per_second(uint64_t bytes, uint64_t ns);

#endif
