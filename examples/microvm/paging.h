/* SPDX-License-Identifier: MIT */
/* --lazy: the image is not put into guest memory before the guest runs. A pager brings in what is touched. */
#ifndef PAGING_H
#define PAGING_H

#include <stdbool.h>

#include <gmem.h>

struct microvm;

struct paging {
	void *address; /* where all of the memory is mapped: while it is watched there are no new mappings */
	struct gmem_uffd *uffd;
	struct gmem_source *source;
	struct gmem_pager *pager;
	struct gmem_uffd_info info; /* as it was when the guest was done, and all else if that was asked for */
	bool finished;              /* everything was brought in, and nothing is watched any more */
};

/* Watches the memory, which is bound by now, and serves it: from then on it may be touched. Each returns -1 and says so on
 * stderr if it cannot. */
int paging_begin(struct microvm *m);
/* Brings in the rest, if --background asks for that, and looks at what was done. */
int paging_end(struct microvm *m);
/* Gives up all of it, before the memory is given up. */
void paging_destroy(struct microvm *m);

/* Threads that serve. */
unsigned int paging_threads(const struct microvm *m);

#endif
