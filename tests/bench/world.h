/* SPDX-License-Identifier: MIT */
/* What the cases work on: a VM, content, and the memory of the run that is under way. */
#ifndef WORLD_H
#define WORLD_H

#include <gmem.h>

#include "../live/guest.h"
#include "bench.h"
#include "content.h"

struct world {
	const struct options *options;
	size_t size;
	int vm_fd; /* -1 = none */
	struct gmem_vm *vm;
	struct content content;
	struct gmem *mem;   /* the memory of this run, if the library made it */
	int file;           /* ... if it was made by hand; else -1 */
	unsigned char *at;  /* where it is mapped */
	unsigned char *view; /* the content's file mapped, or NULL */
	struct fault_run *fault; /* of groups of fault_run.c, else NULL */
	struct guest *guest;
	struct gmem_vcpu *vcpu;
	int raw;            /* memory beside it, for bare calls; -1 = none */
	unsigned char *raw_at;
};

void world_begin(struct world *world, const struct options *options);
/* Gives up whatever there is. */
void world_end(struct world *world);

/* Reasons, or NULL. Opens a VM; one on which a guest_memfd can be mapped and touched; or none at all, for memfds. */
const char *world_with_vm(struct world *world);
const char *world_with_guest_memfd(struct world *world);
const char *world_with_memfd(struct world *world);

/* New memory of world->size. Memory made by hand is always mapped, the library's where world_map() has asked for it. */
void world_memory(struct world *world, enum gmem_backing backing);
void world_memory_by_hand(struct world *world, enum gmem_backing backing);
void world_map(struct world *world);
/* The same as cases need it. */
void world_guest_memfd(struct world *world);
void world_guest_memfd_mapped(struct world *world);
void world_guest_memfd_by_hand(struct world *world);
void world_memfd(struct world *world);
void world_memfd_by_hand(struct world *world);
/* Gives up the memory of the run, whoever made it, and the view. */
void world_drop(struct world *world);
/* ... after having seen that the content is in it. */
void world_check_and_drop(struct world *world);

/* Before the clock starts: the content is read once more, and memory for a run is primed. */
void world_settle(struct world *world);
/* Primes only. */
void world_prime(struct world *world);

/* Unmaps the pages and leaves them in the file. */
void world_forget_mapping(struct world *world);

#endif
