/* SPDX-License-Identifier: MIT */
/* A second opinion on every feature that libgmem probes: own numbers, own calls, and where the library asks a harmless
 * question this does the real thing instead (binds a memslot, sets an attribute, writes a page). Nothing here calls or
 * includes the library. */
#ifndef RAWPROBE_H
#define RAWPROBE_H

#include <stdbool.h>

/* In the order of the library's enum gmem_state, which the tests compare with. */
enum raw_state { RAW_UNDETERMINED, RAW_ABSENT, RAW_FORBIDDEN, RAW_PRESENT };

/* What is asked. Slot 5, guest address 1 GiB and beyond, of the VM are used and given back. */
struct raw_machine {
	int vm;	  /* -1 = none */
	int vcpu; /* -1 = none */
	bool rfc; /* ioctl numbers that were used again may be tried */
};

/* A VM of a type (0 = the default) with one vCPU; what cannot be had is -1. */
struct raw_machine raw_machine_new(unsigned long type);
void raw_machine_end(struct raw_machine *machine);

/* By the library's name of the feature. False: no such feature is known here. */
bool raw_probe(const struct raw_machine *machine, const char *feature, enum raw_state *state);
const char *raw_state_name(enum raw_state state);

/* rawprobe_uffd.c */
enum raw_state raw_uffd_any(const struct raw_machine *machine, unsigned long unused);
enum raw_state raw_uffd_device(const struct raw_machine *machine, unsigned long unused);
enum raw_state raw_uffd_kernel(const struct raw_machine *machine, unsigned long unused);
enum raw_state raw_uffd_bit(const struct raw_machine *machine, unsigned long bit);
enum raw_state raw_uffd_register(const struct raw_machine *machine, unsigned long mode);

/* rawprobe_gmem.c */
enum raw_state raw_gmem_bind(const struct raw_machine *machine, unsigned long unused);
enum raw_state raw_gmem_mmap(const struct raw_machine *machine, unsigned long unused);
enum raw_state raw_gmem_shared(const struct raw_machine *machine, unsigned long unused);
enum raw_state raw_gmem_write(const struct raw_machine *machine, unsigned long unused);
enum raw_state raw_gmem_hidden(const struct raw_machine *machine, unsigned long unused);
enum raw_state raw_gmem_numa(const struct raw_machine *machine, unsigned long unused);
enum raw_state raw_gmem_attributes(const struct raw_machine *machine, unsigned long unused);
/* Can be mapped and touched; -1 and errno if there is no such thing. */
void *raw_gmem_page(int vm);

/* Between the files. */
enum raw_state raw_of_errno(int error);
/* Present for a VM; else why there is none. */
enum raw_state raw_vm(const struct raw_machine *machine);
/* KVM_SET_USER_MEMORY_REGION2 for slot 5, at 1 GiB; length 0 deletes. 0 or an errno. */
int raw_slot(int vm, unsigned int flags, unsigned long length, void *address, int gmem);
/* Does the handler behind fd copy an argument for this number? EFAULT if so. */
int raw_answer(int fd, unsigned long request);

#endif
