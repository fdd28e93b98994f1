/* SPDX-License-Identifier: MIT */
/* A VM of the stand-in with vCPUs that can be told to map memory ahead, and a guest_memfd of it. */
#ifndef UNIT_MACHINES_H
#define UNIT_MACHINES_H

#include <stdint.h>

#include <gmem/populate.h>
#include <gmem/vcpu.h>

#include "memories.h"

/* What its vCPUs know. */
#define WAY_PRE_FAULT 1u
#define WAY_MAP_MEMORY 2u
#define WAY_MAP_MEMORY_V1 4u
#define EVERY_WAY 7u

#define MOST_VCPUS 4

struct machine {
	struct memory m;
	unsigned int vcpus;
	int vcpu_fd[MOST_VCPUS];
	struct gmem_vcpu *vcpu[MOST_VCPUS];
};

struct machine make_machine(unsigned int ways, unsigned int vcpus, uint64_t length);
void end_machine(struct machine *machine);

/* Pages [first, first + count) of the memory at page `gpa` of the guest. */
void bind_machine(struct machine *machine, uint32_t slot, uint64_t gpa, uint64_t first, uint64_t count);
/* In bytes; *done begins wrong. */
int prefault_with(struct gmem *mem, uint64_t offset, uint64_t length, uint64_t *done, enum gmem_mechanism forced,
		  uint32_t threads);
int prefault(struct machine *machine, uint64_t offset, uint64_t length, uint64_t *done);
enum gmem_mechanism prefaulted_by(const struct machine *machine);
/* The calls that all its vCPUs got. */
unsigned int vcpu_calls(const struct machine *machine);

#endif
