/* SPDX-License-Identifier: MIT */
/* For the tests of the kernel that is built from tests/vm/future: which features it was booted with, and what every test of
 * them needs. They call the kernel, never the library. */
#ifndef FUTURE_H
#define FUTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest.h"
#include "raw.h"

/* The bits of kvm.lab. */
#define FUTURE_MINOR (1u << 0)
#define FUTURE_MISSING (1u << 1)
#define FUTURE_WRITE (1u << 2)
#define FUTURE_POPULATE (1u << 3)
#define FUTURE_POPULATE_OWNER (1u << 4)
#define FUTURE_POPULATE_ZERO (1u << 5)
#define FUTURE_NO_PRE_FAULT (1u << 6)
#define FUTURE_MAP_V1 (1u << 7)
#define FUTURE_MAP_V2 (1u << 8)
#define FUTURE_USERFAULT (1u << 9)
#define FUTURE_NO_DIRECT_MAP (1u << 10)
#define FUTURE_ATTRIBUTES2 (1u << 11)
#define FUTURE_FIRECRACKER (1u << 12)
#define FUTURE_BEFORE_618 (1u << 13)
#define FUTURE_BESIDE (1u << 14)

bool future_has_pre_fault(void);

/* Those of kvm.lab_refuses: what is there, and fails when it is used. */
#define FUTURE_REFUSES_WRITE (1u << 0)
#define FUTURE_REFUSES_PRE_FAULT (1u << 1)
#define FUTURE_REFUSES_MAP_V1 (1u << 2)
#define FUTURE_REFUSES_MAP_V2 (1u << 3)
/* From now on these, and no others. */
void future_refuse(uint32_t bits);

/* Any of the bits. Skips the test on a kernel that has no such parameter. */
bool future_has(uint32_t bits);
/* The creation flags of this kernel; 0 = it has none for that. */
uint64_t future_flag_write(void);
uint64_t future_flag_hidden(void);
/* Skips the test where there is no guest_memfd that a plain VM can have mapped. */
void future_need_mapping(void);

/* Some pages of a guest_memfd of a plain VM, mapped twice. */
struct future_memory {
	int vm, file;
	size_t size;
	unsigned char *at, *second;
};

struct future_memory future_memory(size_t pages, uint64_t more_flags);
void future_memory_end(struct future_memory *memory);

/* A userfaultfd on the first mapping of the memory; its negative errno where registration is refused. */
int future_register(const struct future_memory *memory, uint64_t mode);

/* A thread that waits for one fault, answers it by COPY of a page of `fill`, or by CONTINUE after writing it through the second
 * mapping, and keeps the flags of the fault. */
struct future_handler;
struct future_handler *future_handler(int uffd, const struct future_memory *memory, bool copy, int fill);
uint64_t future_handler_end(struct future_handler *handler);

/* How many pages of 4 KiB KVM has mapped for the VM's guests. */
uint64_t future_mapped(int vm);

/* Private memory: a VM for it, its attribute in whatever way this kernel has, and what POPULATE returns. */
int future_private_vm(void);
long future_set_private(int vm, int file, uint64_t size, bool private);
long future_populate(int vm, uint64_t gpa, uint64_t size, const void *from);

#endif
