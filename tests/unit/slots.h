/* SPDX-License-Identifier: MIT */
/* Two memories of one VM, for tests of memslots. Ranges are in pages. */
#ifndef UNIT_SLOTS_H
#define UNIT_SLOTS_H

#include <stddef.h>
#include <stdint.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"

#define PAGES 16 /* of each memory */

struct set {
	int vm_fd;
	struct gmem_vm *vm;
	struct gmem *mem, *other;
};

/* On a VM of this preset, or (NULL) on none. */
struct set set_up_slots(const char *preset);
/* No memslot may be left then. */
void tear_down_slots(struct set *set);
int bind_with(struct gmem *mem, uint32_t slot, uint64_t gpa, uint64_t first, uint64_t count, uint64_t flags);
int bind_pages(struct gmem *mem, uint32_t slot, uint64_t gpa, uint64_t first, uint64_t count);
/* What the stand-in kernel was told. */
struct fakekvm_slot slot_at(const struct set *set, size_t index);

#endif
