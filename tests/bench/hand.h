/* SPDX-License-Identifier: MIT */
/* What a program without the library would write: the simplest loops, and the best ones known, with bare system calls. */
#ifndef HAND_H
#define HAND_H

#include <stddef.h>
#include <stdint.h>

struct world;

/* fds; hand_vm() may fail (-1), the others give up. */
int hand_vm(void);
int hand_guest_memfd(int vm_fd, size_t size);
int hand_memfd(size_t size);
unsigned char *hand_map(int file, size_t size);

/* Cases. The simplest: copy from a mapping of the file, or from the buffer, into the fresh memory; touch it page by page. */
void hand_copy_file(struct world *world);
void hand_copy_buffer(struct world *world);
void hand_touch(struct world *world);
/* The best: in steps, allocate, have it mapped, and read the file straight into it. */
void hand_populate_file(struct world *world);
/* The best where pages of zeros have to be found before they are written: by way of a buffer. */
void hand_populate_file_checked(struct world *world);
/* The two parts of hand_populate_file(). */
void hand_allocate(struct world *world);
void hand_read_file(struct world *world);

/* The argument of KVM_PRE_FAULT_MEMORY. */
struct hand_pre_fault {
	uint64_t gpa;
	uint64_t size;
	uint64_t flags;
	uint64_t padding[5];
};

/* A memslot over a mapping. */
void hand_set_slot(int vm_fd, uint32_t slot, uint32_t flags, uint64_t gpa, const void *at, size_t size);

#endif
