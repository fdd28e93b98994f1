/* SPDX-License-Identifier: MIT */
/* Floor 2: the table of probes. A probe does the smallest thing that shows whether a feature works, and leaves no trace. */
#ifndef GMEMI_VM_PROBE_H
#define GMEMI_VM_PROBE_H

#include "vm.h"

struct gmemi_probe_row {
	const char *name;
	const char *facility;	  /* what is tried */
	enum gmem_feature needed; /* must be present first, else its verdict is the answer */
	struct gmemi_verdict (*probe)(struct gmem_vm *vm, const struct gmemi_probe_row *row);
	uint32_t argument; /* a capability, a bit or an ioctl: what `probe` takes it for */
	uint32_t mask;	   /* bits of the capability's answer that must be set */
	bool fleeting;	   /* can change while the VM lives: never remembered */
};

typedef struct gmemi_verdict gmemi_probe_fn(struct gmem_vm *vm, const struct gmemi_probe_row *row);

/* Verdicts. */
struct gmemi_verdict gmemi_present(const struct gmemi_probe_row *row);
struct gmemi_verdict gmemi_absent(const struct gmemi_probe_row *row, int error);
struct gmemi_verdict gmemi_undetermined(const struct gmemi_probe_row *row, int error, const char *hint);
struct gmemi_verdict gmemi_forbidden(const struct gmemi_probe_row *row, int error, const char *hint);
/* What an error of a trial says: refusals by permission and shortages are not absence. */
struct gmemi_verdict gmemi_from_error(const struct gmemi_probe_row *row, int error, const char *hint);

/* vm_probe_kvm.c */
gmemi_probe_fn gmemi_probe_kvm, gmemi_probe_capability, gmemi_probe_kvm_wide, gmemi_probe_vm_ioctl, gmemi_probe_rfc_vm_ioctl,
	gmemi_probe_pre_fault, gmemi_probe_rfc_vcpu_ioctl, gmemi_probe_userfault, gmemi_probe_sev;
/* KVM_SET_USER_MEMORY_REGION2 with a memslot that cannot be made: -EBADF or -EEXIST when KVM knows these flags, -EINVAL when
 * not. */
int gmemi_vm_slot_trial(struct gmem_vm *vm, uint32_t flags);

/* vm_probe_gmem.c: trials on a guest_memfd of one page */
gmemi_probe_fn gmemi_probe_guest_memfd, gmemi_probe_gmem_mmap, gmemi_probe_gmem_init_shared, gmemi_probe_gmem_write,
	gmemi_probe_no_direct_map, gmemi_probe_gmem_numa, gmemi_probe_attributes_file;
/* A mapping of one page of a new MMAP|INIT_SHARED file, or a negative errno. */
int gmemi_vm_trial_page(struct gmem_vm *vm, void **page);

/* vm_probe_host.c */
gmemi_probe_fn gmemi_probe_memfd, gmemi_probe_hugetlb, gmemi_probe_madv_populate;

/* vm_probe_uffd.c */
gmemi_probe_fn gmemi_probe_uffd, gmemi_probe_uffd_device, gmemi_probe_uffd_kernel, gmemi_probe_uffd_bit, gmemi_probe_uffd_gmem;

#endif
