/* SPDX-License-Identifier: MIT */
/* A VM with a guest, as libgmem sees it, and one memory made for it. */
#ifndef WORLD_H
#define WORLD_H

#include <gmem.h>

#include <signal.h>

#include "guest.h"

#define MIB ((size_t)1 << 20)
#define WORLD_SUM UINT64_C(0x243f6a8885a308d3) /* checksums begin with it, so that zeros at the beginning count */

struct world {
	int vm_fd;
	struct gmem_vm *vm;
	struct guest *guest;
	struct gmem *mem;
	uint64_t seed, length;
};

/* Without memory yet. */
struct world world_start(void);
struct world world_start_with(uint64_t vm_flags); /* GMEM_VM_* */
/* backing: enum gmem_backing. */
struct world world_make(uint32_t backing, uint64_t length);
void world_end(struct world *w);
/* A memfd becomes a guest_memfd where tests of paging are to be over those (gt.h). */
uint32_t world_backing(uint32_t backing);

struct gmem *world_memory(struct world *w, uint32_t backing, uint64_t length);
struct gmem_info world_query(struct world *w);
/* gmem_bind() with flags GMEM_BIND_*; a failure fails the test. */
void world_bind(struct world *w, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t length, uint64_t flags);
/* Fills all of the memory with new content, which is returned. */
unsigned char *world_fill(struct world *w);
void world_assert_guest_sees(struct world *w, uint64_t gpa, const unsigned char *content, uint64_t length);
/* Not memory there, for the guest. */
void world_assert_nothing_at(struct world *w, uint64_t gpa);

/* The guest's vCPU as the library has it. */
struct gmem_vcpu *world_vcpu(struct world *w);
/* Faults that this thread takes, those that KVM takes for its vCPU among them. */
long world_faults(void);
/* From now on a signal each time so many microseconds have passed; counts from 0. 0 = no more, and the count stays. */
extern volatile sig_atomic_t world_ticks;
void world_tick(long microseconds);

#endif
