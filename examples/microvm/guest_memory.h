/* SPDX-License-Identifier: MIT */
/* What this program is about: guest memory by libgmem. Each returns -1 and says so on stderr if it cannot. */
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

struct microvm;

int guest_memory_create(struct microvm *m);
int guest_memory_populate(struct microvm *m);
/* Flips one bit, as --flip asks. */
int guest_memory_flip(struct microvm *m);
/* Puts the guest program and its page tables behind the image. */
int guest_memory_add_program(struct microvm *m);
int guest_memory_bind(struct microvm *m);
/* Takes the memslot away if there is one, and gives up the memory. */
int guest_memory_destroy(struct microvm *m);

#endif
