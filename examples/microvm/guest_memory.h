/* SPDX-License-Identifier: MIT */
/* What this program is about: guest memory by libgmem. Each returns -1 and says so on stderr if it cannot. */
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

#include <stdint.h>

struct microvm;
struct options;

/* Of the memory that these options ask for, or a multiple: what its length has to be divisible by. */
uint64_t guest_memory_page_size(const struct options *options);
/* What the memory must be able to do: GMEM_NEED_*. */
uint64_t guest_memory_need(const struct options *options);
int guest_memory_create(struct microvm *m);
int guest_memory_populate(struct microvm *m);
/* The other way: maps the memory, of which a pager will serve every page. */
int guest_memory_map(struct microvm *m);
/* Flips one bit, as --flip asks. With --lazy the page is brought in for it. */
int guest_memory_flip(struct microvm *m);
/* Puts the guest program and its page tables behind the image. With --lazy the pages are brought in for it. */
int guest_memory_add_program(struct microvm *m);
int guest_memory_bind(struct microvm *m);
/* Allocates and maps all of it, for the guest too where KVM can do that, unless --no-prefault. */
int guest_memory_prefault(struct microvm *m);
/* Takes the memslot away if there is one, and gives up the memory. */
int guest_memory_destroy(struct microvm *m);

#endif
