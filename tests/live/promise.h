/* SPDX-License-Identifier: MIT */
/* For tests of the kernel itself: each holds it to one thing that libgmem relies on. They call the kernel, never the
 * library. */
#ifndef PROMISE_H
#define PROMISE_H

#include <stddef.h>
#include <stdint.h>

/* Who would break: printed, so that a failure says where to look. */
void relied_on_by(const char *what);

size_t promise_page(void);
/* The call's errno, 0 if it succeeded. */
int promise_errno(long result);
/* A guest_memfd on a VM. Fails the test if there is none. */
int promise_gmem(int vm, uint64_t size, uint64_t flags);
/* KVM_SET_USER_MEMORY_REGION2: an errno. */
int promise_slot(int vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, const void *address, int gmem);
/* A shared mapping of a whole file. */
unsigned char *promise_map(int fd, size_t size);

#define PROMISE_MMAP UINT64_C(1)
#define PROMISE_SHARED UINT64_C(3) /* MMAP and INIT_SHARED */
#define PROMISE_SLOT_GMEM 4u
#define PROMISE_NOWHERE ((void *)(uintptr_t)-4096) /* what the library passes where nothing shall be read */

#endif
