/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "say.h"

#define INTERVAL UINT64_C(100000000) /* ns: a line that changes faster cannot be read */

double mib_per_second(uint64_t bytes, uint64_t ns)
{
	return (double)bytes / (1 << 20) / ((double)(ns ? ns : 1) / 1e9);
}

void progress_begin(struct progress *progress)
{
	*progress = (struct progress){ .terminal = isatty(STDERR_FILENO) == 1, .began = now_ns() };
}

int progress_tell(void *user, uint64_t done, uint64_t length)
{
	struct progress *progress = user;
	uint64_t now = now_ns();

	if (!progress->terminal || now - progress->printed < INTERVAL)
		return 0;
	progress->printed = now;
	progress->width = fprintf(stderr, "\rpopulate %3d %%  %6.0f MiB/s", (int)((double)done * 100 / (double)length),
				  mib_per_second(done, now - progress->began));
	return 0;
}

void progress_end(const struct progress *progress)
{
	if (progress->width > 0)
		fprintf(stderr, "\r%*s\r", progress->width, "");
}
