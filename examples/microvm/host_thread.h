/* SPDX-License-Identifier: MIT */
/* The stand-in for a vCPU: a thread of this process that reads guest memory through a mapping. */
#ifndef HOST_THREAD_H
#define HOST_THREAD_H

struct microvm;

/* Returns -1 and says so on stderr if it cannot. */
int host_thread_run(struct microvm *m);

#endif
