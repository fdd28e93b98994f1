/* SPDX-License-Identifier: MIT */
/* A small guest: a vCPU, or two, in long mode at CPL 3 with IOPL 3 (the mode that runs fast everywhere), guest addresses mapped
 * one to one by pages of 2 MiB. Its program and page tables lie in a memslot of their own, so the memory under test is all
 * the test's. What it sees it reports by port I/O. A guest that does not do as it should fails the test; one that hangs is
 * stopped by a timer. */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_SLOT 400u
#define GUEST_HOME UINT64_C(0xc0000000) /* below it is the test's; so are all slots but GUEST_SLOT */

struct guest;

/* A VM of type 0; the caller closes it. */
int guest_vm(void);
/* A vCPU on a VM. Skips the test on machines for which no guest program is written. */
struct guest *guest_start(int vm_fd);
/* A second vCPU of the same VM, for another thread: both may run at once. It is ended before the first. */
struct guest *guest_join(const struct guest *first);
void guest_end(struct guest *guest);
int guest_vcpu(const struct guest *guest);

/* The guest computes h = rol(h, 5) ^ word over the 64-bit words of a range. */
uint64_t guest_sum(struct guest *guest, uint64_t h, uint64_t gpa, uint64_t length);
/* The same computed by the host. length: a multiple of 8. */
uint64_t host_sum(uint64_t h, const void *data, size_t length);

/* The guest loads the first word of every `step` bytes of a range. */
void guest_touch(struct guest *guest, uint64_t gpa, uint64_t length, uint64_t step);

/* The guest loads or stores one word. False: there is no memory for it, and KVM handed the access out as MMIO. */
bool guest_load(struct guest *guest, uint64_t gpa, uint64_t *word);
bool guest_store(struct guest *guest, uint64_t gpa, uint64_t word);

#endif
