/* SPDX-License-Identifier: MIT */
/* Floor 2: the VM object. Probes are in vm_probe*.c, chains in vm_chain.c and vm_explain.c. */
#ifndef GMEMI_VM_H
#define GMEMI_VM_H

#include <gmem/memory.h>
#include <gmem/vm.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define GMEMI_FEATURES (GMEM_FEATURE_UFFD_RWP_ASYNC + 1)
#define GMEMI_ROWS 32 /* rows of all chains together, at most */

/* What a probe found. */
struct gmemi_verdict {
	enum gmem_state state;
	int error; /* negative errno or 0 */
	const char *facility;
	const char *hint;
};

/* A vCPU fd that probes may ask. */
struct gmemi_vcpu_entry {
	struct gmemi_vcpu_entry *next;
	int fd;
};

struct gmemi_slot;
struct gmemi_mapping;

struct gmem_vm {
	atomic_uint claims; /* the caller's, and one for each memory and vCPU */
	int fd;		    /* -1 = no VM */
	uint32_t kind;	    /* enum gmem_vm_kind; AUTO = not known */
	uint64_t flags;
	const volatile uint32_t *alive; /* a page that fork wipes in the child */
	pthread_mutex_t lock;		/* guards what follows, up to the next lock; never held in a slow call */
	struct gmemi_vcpu_entry *vcpus;
	_Atomic uint64_t write_flag; /* creation flag that lets pwrite() in, once GMEM_FEATURE_GUEST_MEMFD_WRITE is present */
	struct gmemi_verdict known[GMEMI_FEATURES];
	struct gmemi_mapping *mapped;	/* kept by memory_map.c: every mapping of every memory of the VM */
	int demoted[GMEMI_ROWS];	/* why a row of a chain is out of use since run time, 0 = it is not */
	pthread_mutex_t slots_lock; /* guards the line below, also while KVM is told of a memslot */
	struct gmemi_slot *slots;   /* kept by memory_bind.c: every memslot bound through this view */
};

/* 0, -EINVAL for NULL, -ESTALE after fork; with a sentence. */
int gmemi_vm_check(const struct gmem_vm *vm);
bool gmemi_vm_forked(const struct gmem_vm *vm);

/* Nothing in a forked child: it has one thread, and the lock may have been another one's when it was copied. */
void gmemi_vm_lock(struct gmem_vm *vm);
void gmemi_vm_unlock(struct gmem_vm *vm);

void gmemi_vm_claim(struct gmem_vm *vm);
void gmemi_vm_release(struct gmem_vm *vm); /* the last one ends it */

void gmemi_vm_add_vcpu(struct gmem_vm *vm, struct gmemi_vcpu_entry *entry);
void gmemi_vm_remove_vcpu(struct gmem_vm *vm, struct gmemi_vcpu_entry *entry);
/* A duplicate of the fd of vCPU number index of those that are known, -ENOENT when there are no more, or a code of fcntl(). */
int gmemi_vm_borrow_vcpu(struct gmem_vm *vm, uint32_t index);

/* vm_probe.c: the answer about one feature, from memory or from the kernel. */
struct gmemi_verdict gmemi_vm_verdict(struct gmem_vm *vm, enum gmem_feature feature);
static inline bool gmemi_vm_has(struct gmem_vm *vm, enum gmem_feature feature)
{
	return gmemi_vm_verdict(vm, feature).state == GMEM_PRESENT;
}

#endif
