/* SPDX-License-Identifier: MIT */
/* The stand-in for a vCPU: a thread of this process that reads guest memory through a mapping. */
#ifndef HOST_THREAD_H
#define HOST_THREAD_H

struct gmem;
struct layout;
struct reading;

/* Returns -1 and says so on stderr if it cannot. */
int host_thread_run(struct gmem *mem, const struct layout *layout, struct reading *reading);

#endif
