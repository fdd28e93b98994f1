/* SPDX-License-Identifier: MIT */
/* Between the files of the stand-in. */
#ifndef FAKEKVM_INT_H
#define FAKEKVM_INT_H

#include <errno.h>
#include <sys/types.h>

#include "fakekvm.h"
#include "wrap.h"

#include "../../lib/uapi/kvm.h"
#include "../../lib/uapi/userfaultfd.h"

enum fake_kind { FAKE_DEVICE = 1, FAKE_VM, FAKE_VCPU, FAKE_GMEM, FAKE_UFFD_DEVICE, FAKE_UFFD };

struct fake_slots {
	struct fakekvm_slot *list;
	size_t count;
	size_t room;
};

struct fake_object {
	struct fake_object *next;
	dev_t device;
	ino_t inode;
	enum fake_kind kind;
	const struct fakekvm_config *config; /* of the machine, or of the VM that it belongs to */
	struct fakekvm_config *own;          /* VM: its copy, if it is not that of the machine */

	pid_t owner;                  /* VM and vCPU: who made it */
	struct fake_slots slots;      /* VM */
	struct fake_object *vm;       /* vCPU, guest_memfd: whose */
	uint64_t prefaulted;          /* VM: bytes that its vCPUs mapped when told to */
	unsigned int prefaults;       /* vCPU: how often it was told to */
	uint64_t size;                /* guest_memfd */
	uint64_t flags;               /* guest_memfd */
	bool greeted;                 /* userfaultfd: UFFDIO_API succeeded */
	uint64_t features;            /* userfaultfd: ... with these */
};

#define FAKE_OPTIONAL 1u /* only kernels whose configuration lists it know it */
#define FAKE_IN_PARTS 2u /* it can stop half-way, and asks for its script itself */

/* One kind of ioctl. */
struct fake_command {
	uint32_t request;
	enum fake_kind on;
	uint32_t size; /* bytes of the argument, which the kernel copies in before anything else; 0 = by value */
	unsigned int flags;
	const char *name;
	long (*run)(struct fake_object *object, void *argument); /* NULL = not played: only the probe is */
};

#define FAKE_ENDED { 0, FAKE_DEVICE, 0, 0, NULL, NULL }

/* The lock, for entries from wrap.c and from tests: everything else below is called with it held. */
void fake_lock(void);
void fake_unlock(void);
bool fake_enabled(void);

/* fakekvm.c */
extern struct fakekvm_config fake_machine;
/* A fd for a new object; *object may be NULL. A negative errno when there is none. */
int fake_make(enum fake_kind kind, int flags, const struct fakekvm_config *config, struct fake_object **object);
struct fake_object *fake_find(int fd);
/* For entries from tests: the VM behind a fd, which must be one. */
struct fake_object *fake_vm_of(int fd);
uint64_t fake_page(void);
bool fake_bad_pointer(const void *pointer);
/* A wrong use of the stand-in itself: ends the program. */
__attribute__((noreturn, format(printf, 1, 2))) void fake_misused(const char *format, ...);

/* fakekvm_script.c: 0, or the negative errno that the script says. With a limit, 0 and *limit is lowered, and *error is what
 * the call ends with after that. */
long fake_scripted(const char *call);
long fake_scripted_limit(const char *call, uint64_t *limit, int *error);
void fake_forget_scripts(void);

/* The ioctl tables: each ends with FAKE_ENDED. */
extern const struct fake_command fake_vm_commands[];   /* fakekvm_vm.c: /dev/kvm, VM, vCPU, guest_memfd */
extern const struct fake_command fake_uffd_commands[]; /* fakekvm_uffd.c */
long fake_create_vcpu(struct fake_object *vm, void *argument);
/* Whole pages, and no wrap-around. */
bool fake_good_range(uint64_t start, uint64_t size);
/* KVM_CHECK_EXTENSION at the scope of the object. */
int fake_cap(const struct fake_object *object, uint32_t cap);
bool fake_knows(const struct fakekvm_config *config, const char *name);
/* Is there such an ioctl in the tables, or such an optional one? */
bool fake_is_command(const char *name, bool optional);

/* fakekvm_slots.c */
long fake_set_region(struct fake_object *vm, void *argument);
long fake_set_region2(struct fake_object *vm, void *argument);
const struct fakekvm_slot *fake_slot_at(const struct fake_object *vm, uint64_t gpa);

/* fakekvm_prefault.c */
long fake_pre_fault(struct fake_object *vcpu, void *argument);
long fake_map_memory(struct fake_object *vcpu, void *argument);
long fake_map_memory_v1(struct fake_object *vcpu, void *argument);

/* fakekvm_gmem.c */
long fake_create_guest_memfd(struct fake_object *vm, void *argument);
/* The guest_memfd that is mapped at the address; NULL = none of ours. */
const struct fake_object *fake_mapped_at(uint64_t address);
void fake_forget_mappings(void);
long fake_cachestat(int fd);
long fake_mbind(const void *address);

/* fakekvm_uffd.c */
long fake_new_uffd(int flags);

#endif
