/* SPDX-License-Identifier: MIT */
/* Handles for tests that are about something else: what cannot be made fails the test. */
#ifndef UNIT_HANDLES_H
#define UNIT_HANDLES_H

#include <stddef.h>
#include <stdint.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

/* The page size. */
uint64_t page(void);
/* On the VM of this fd, -1 = on none. */
struct gmem_vm *open_vm(int fd);
/* For memory of that kind: on none; a memfd becomes a guest_memfd of a VM where tests are to be over those (gt.h). */
struct gmem_vm *open_vm_for(uint32_t *backing);
struct gmem *make_pages(struct gmem_vm *vm, uint64_t pages);
/* A handle without a VM, and memory of `length` bytes. opts may be NULL. */
void make_vmless(struct gmem_vm **vm, struct gmem **mem, uint64_t length, const struct gmem_create_opts *opts);
struct gmem_info info_of(const struct gmem *mem);
/* The memslots that the stand-in kernel has. */
size_t slot_count(int vm_fd);

#endif
