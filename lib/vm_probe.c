/* SPDX-License-Identifier: MIT */
#include "vm_probe.h"

#include <sys/mman.h>

#include "err.h"
#include "opts.h"
#include "uapi/kvm.h"
#include "uapi/userfaultfd.h"

#define CAP(cap, bits) .probe = gmemi_probe_capability, .argument = KVMI_CAP_##cap, .mask = (bits)
#define KVM_WIDE(cap, bits) .probe = gmemi_probe_kvm_wide, .argument = KVMI_CAP_##cap, .mask = (bits)
#define UFFD_BIT(bit) "UFFDIO_API", GMEM_FEATURE_UFFD, .probe = gmemi_probe_uffd_bit, .argument = UFFDI_BIT_##bit

/* Name, what is tried, what must be there first. */
static const struct gmemi_probe_row rows[GMEMI_FEATURES] = {
	[GMEM_FEATURE_KVM] = { "kvm", "/dev/kvm", .probe = gmemi_probe_kvm, .fleeting = true },
	[GMEM_FEATURE_USER_MEMORY2] = { "user_memory2", "KVM_SET_USER_MEMORY_REGION2", GMEM_FEATURE_KVM,
			.probe = gmemi_probe_vm_ioctl, .argument = KVMI_SET_USER_MEMORY_REGION2 },
	[GMEM_FEATURE_GUEST_MEMFD] = { "guest_memfd", "KVM_CREATE_GUEST_MEMFD", GMEM_FEATURE_USER_MEMORY2,
			.probe = gmemi_probe_guest_memfd },
	[GMEM_FEATURE_GUEST_MEMFD_MMAP] = { "guest_memfd_mmap", "GUEST_MEMFD_FLAG_MMAP", GMEM_FEATURE_GUEST_MEMFD,
			.probe = gmemi_probe_gmem_mmap },
	[GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED] = { "guest_memfd_init_shared", "GUEST_MEMFD_FLAG_INIT_SHARED", GMEM_FEATURE_GUEST_MEMFD_MMAP,
			.probe = gmemi_probe_gmem_init_shared },
	[GMEM_FEATURE_GUEST_MEMFD_WRITE] = { "guest_memfd_write", "lseek() and pwrite() on a guest_memfd", GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED,
			.probe = gmemi_probe_gmem_write },
	[GMEM_FEATURE_NO_DIRECT_MAP] = { "no_direct_map", "GUEST_MEMFD_FLAG_NO_DIRECT_MAP", GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED,
			.probe = gmemi_probe_no_direct_map },
	[GMEM_FEATURE_GUEST_MEMFD_NUMA] = { "guest_memfd_numa", "fstatfs() on a guest_memfd", GMEM_FEATURE_GUEST_MEMFD,
			.probe = gmemi_probe_gmem_numa },
	[GMEM_FEATURE_ATTRIBUTES_VM] = { "attributes_vm", "KVM_CAP_MEMORY_ATTRIBUTES", GMEM_FEATURE_KVM,
			CAP(MEMORY_ATTRIBUTES, KVMI_MEMORY_ATTRIBUTE_PRIVATE) },
	[GMEM_FEATURE_ATTRIBUTES_FILE] = { "attributes_file", "KVM_SET_MEMORY_ATTRIBUTES2", GMEM_FEATURE_GUEST_MEMFD,
			.probe = gmemi_probe_attributes_file },
	[GMEM_FEATURE_MEMORY_FAULT_EXIT] = { "memory_fault_exit", "KVM_CAP_MEMORY_FAULT_INFO", GMEM_FEATURE_KVM,
			KVM_WIDE(MEMORY_FAULT_INFO, 1) },
	[GMEM_FEATURE_KVM_USERFAULT] = { "kvm_userfault", "KVM_MEM_USERFAULT memslot", GMEM_FEATURE_USER_MEMORY2,
			.probe = gmemi_probe_userfault },
	[GMEM_FEATURE_PRE_FAULT] = { "pre_fault", "KVM_PRE_FAULT_MEMORY", GMEM_FEATURE_KVM,
			.probe = gmemi_probe_pre_fault, .argument = KVMI_PRE_FAULT_MEMORY },
	[GMEM_FEATURE_MAP_MEMORY] = { "map_memory", "KVM_MAP_MEMORY (0xc018aed5)", GMEM_FEATURE_KVM,
			.probe = gmemi_probe_rfc_vcpu_ioctl, .argument = KVMI_MAP_MEMORY_V2 },
	[GMEM_FEATURE_MAP_MEMORY_V1] = { "map_memory_v1", "KVM_MAP_MEMORY (0xc020aed5)", GMEM_FEATURE_KVM,
			.probe = gmemi_probe_rfc_vcpu_ioctl, .argument = KVMI_MAP_MEMORY_V1 },
	[GMEM_FEATURE_POPULATE_IOCTL] = { "populate_ioctl", "KVM_GUEST_MEMFD_POPULATE (0x4020aed6)", GMEM_FEATURE_KVM,
			.probe = gmemi_probe_rfc_vm_ioctl, .argument = KVMI_GUEST_MEMFD_POPULATE },
	[GMEM_FEATURE_VM_SW_PROTECTED] = { "vm_sw_protected", "KVM_CAP_VM_TYPES", GMEM_FEATURE_KVM,
			KVM_WIDE(VM_TYPES, 1u << KVMI_VM_TYPE_SW_PROTECTED) },
	[GMEM_FEATURE_VM_SNP] = { "vm_snp", "KVM_CAP_VM_TYPES", GMEM_FEATURE_KVM,
			KVM_WIDE(VM_TYPES, 1u << KVMI_VM_TYPE_SNP) },
	[GMEM_FEATURE_VM_TDX] = { "vm_tdx", "KVM_CAP_VM_TYPES", GMEM_FEATURE_KVM,
			KVM_WIDE(VM_TYPES, 1u << KVMI_VM_TYPE_TDX) },
	[GMEM_FEATURE_SEV_COMMANDS] = { "sev_commands", "KVM_MEMORY_ENCRYPT_OP", GMEM_FEATURE_KVM, .probe = gmemi_probe_sev },
	[GMEM_FEATURE_CCA_POPULATE] = { "cca_populate", "KVM_ARM_RMI_POPULATE", GMEM_FEATURE_KVM,
			.probe = gmemi_probe_vm_ioctl, .argument = KVMI_ARM_RMI_POPULATE },
	[GMEM_FEATURE_MEMFD] = { "memfd", "memfd_create()", .probe = gmemi_probe_memfd },
	[GMEM_FEATURE_HUGETLB_2M] = { "hugetlb_2m", "memfd_create(MFD_HUGETLB)", GMEM_FEATURE_MEMFD,
			.probe = gmemi_probe_hugetlb, .argument = 21, .fleeting = true },
	[GMEM_FEATURE_HUGETLB_1G] = { "hugetlb_1g", "memfd_create(MFD_HUGETLB)", GMEM_FEATURE_MEMFD,
			.probe = gmemi_probe_hugetlb, .argument = 30, .fleeting = true },
	[GMEM_FEATURE_MADV_POPULATE] = { "madv_populate", "madvise(MADV_POPULATE_WRITE)",
			.probe = gmemi_probe_madv_populate },
	[GMEM_FEATURE_UFFD] = { "uffd", "userfaultfd()", .probe = gmemi_probe_uffd },
	[GMEM_FEATURE_UFFD_DEVICE] = { "uffd_device", "/dev/userfaultfd",
			.probe = gmemi_probe_uffd_device, .fleeting = true },
	[GMEM_FEATURE_UFFD_KERNEL_FAULTS] = { "uffd_kernel_faults", "/dev/userfaultfd, then userfaultfd()",
			.probe = gmemi_probe_uffd_kernel },
	[GMEM_FEATURE_UFFD_GUEST_MEMFD_MINOR] = { "uffd_guest_memfd_minor", "UFFDIO_REGISTER of a guest_memfd", GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED,
			.probe = gmemi_probe_uffd_gmem, .argument = UFFDI_REGISTER_MINOR },
	[GMEM_FEATURE_UFFD_GUEST_MEMFD_MISSING] = { "uffd_guest_memfd_missing", "UFFDIO_REGISTER of a guest_memfd", GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED,
			.probe = gmemi_probe_uffd_gmem, .argument = UFFDI_REGISTER_MISSING },
	[GMEM_FEATURE_UFFD_GUEST_MEMFD_WP_ASYNC] = { "uffd_guest_memfd_wp_async", "UFFDIO_REGISTER of a guest_memfd", GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED,
			.probe = gmemi_probe_uffd_gmem, .argument = UFFDI_REGISTER_WP },
	[GMEM_FEATURE_UFFD_PAGEFAULT_WP] = { "uffd_pagefault_wp", UFFD_BIT(PAGEFAULT_WP) },
	[GMEM_FEATURE_UFFD_EVENT_FORK] = { "uffd_event_fork", UFFD_BIT(EVENT_FORK) },
	[GMEM_FEATURE_UFFD_EVENT_REMAP] = { "uffd_event_remap", UFFD_BIT(EVENT_REMAP) },
	[GMEM_FEATURE_UFFD_EVENT_REMOVE] = { "uffd_event_remove", UFFD_BIT(EVENT_REMOVE) },
	[GMEM_FEATURE_UFFD_MISSING_HUGETLB] = { "uffd_missing_hugetlb", UFFD_BIT(MISSING_HUGETLBFS) },
	[GMEM_FEATURE_UFFD_MISSING_MEMFD] = { "uffd_missing_memfd", UFFD_BIT(MISSING_SHMEM) },
	[GMEM_FEATURE_UFFD_EVENT_UNMAP] = { "uffd_event_unmap", UFFD_BIT(EVENT_UNMAP) },
	[GMEM_FEATURE_UFFD_SIGBUS] = { "uffd_sigbus", UFFD_BIT(SIGBUS) },
	[GMEM_FEATURE_UFFD_THREAD_ID] = { "uffd_thread_id", UFFD_BIT(THREAD_ID) },
	[GMEM_FEATURE_UFFD_MINOR_HUGETLB] = { "uffd_minor_hugetlb", UFFD_BIT(MINOR_HUGETLBFS) },
	[GMEM_FEATURE_UFFD_MINOR_MEMFD] = { "uffd_minor_memfd", UFFD_BIT(MINOR_SHMEM) },
	[GMEM_FEATURE_UFFD_EXACT_ADDRESS] = { "uffd_exact_address", UFFD_BIT(EXACT_ADDRESS) },
	[GMEM_FEATURE_UFFD_WP_MEMFD] = { "uffd_wp_memfd", UFFD_BIT(WP_HUGETLBFS_SHMEM) },
	[GMEM_FEATURE_UFFD_WP_UNPOPULATED] = { "uffd_wp_unpopulated", UFFD_BIT(WP_UNPOPULATED) },
	[GMEM_FEATURE_UFFD_POISON] = { "uffd_poison", UFFD_BIT(POISON) },
	[GMEM_FEATURE_UFFD_WP_ASYNC] = { "uffd_wp_async", UFFD_BIT(WP_ASYNC) },
	[GMEM_FEATURE_UFFD_MOVE] = { "uffd_move", UFFD_BIT(MOVE) },
	[GMEM_FEATURE_UFFD_RWP] = { "uffd_rwp", UFFD_BIT(RWP) },
	[GMEM_FEATURE_UFFD_RWP_ASYNC] = { "uffd_rwp_async", UFFD_BIT(RWP_ASYNC) },
};

struct gmemi_verdict gmemi_present(const struct gmemi_probe_row *row)
{
	return (struct gmemi_verdict){ GMEM_PRESENT, 0, row->facility, NULL };
}

struct gmemi_verdict gmemi_absent(const struct gmemi_probe_row *row, int error)
{
	return (struct gmemi_verdict){ GMEM_ABSENT, error, row->facility, NULL };
}

struct gmemi_verdict gmemi_undetermined(const struct gmemi_probe_row *row, int error, const char *hint)
{
	return (struct gmemi_verdict){ GMEM_UNDETERMINED, error, row->facility, hint };
}

struct gmemi_verdict gmemi_forbidden(const struct gmemi_probe_row *row, int error, const char *hint)
{
	return (struct gmemi_verdict){ GMEM_FORBIDDEN, error, row->facility, hint };
}

struct gmemi_verdict gmemi_from_error(const struct gmemi_probe_row *row, int error, const char *hint)
{
	switch (error) {
	case -EACCES:
	case -EPERM:
		return gmemi_forbidden(row, error, hint ? hint : "a security module or seccomp filter refuses it");
	case -EFBIG:
		return gmemi_forbidden(row, error, "raise RLIMIT_FSIZE");
	case -EIO:
		return gmemi_undetermined(row, error, "the VM belongs to another process or is dead: ask in the one that made it");
	case -EMFILE:
	case -ENFILE:
		return gmemi_undetermined(row, error, "no fd left: raise RLIMIT_NOFILE (EMFILE) or fs.file-max (ENFILE)");
	case -ENOMEM:
		return gmemi_undetermined(row, error, "out of memory: ask again");
	case -EINTR:
	case -EAGAIN:
		return gmemi_undetermined(row, error, "interrupted: ask again");
	default:
		return gmemi_absent(row, error);
	}
}

static void remember(struct gmem_vm *vm, enum gmem_feature feature, struct gmemi_verdict verdict)
{
	if (rows[feature].fleeting || (verdict.state != GMEM_PRESENT && verdict.state != GMEM_ABSENT))
		return;
	gmemi_vm_lock(vm);
	vm->known[feature] = verdict;
	gmemi_vm_unlock(vm);
}

/* Two threads may ask at the same time: probes have no side effects and both find the same. */
struct gmemi_verdict gmemi_vm_verdict(struct gmem_vm *vm, enum gmem_feature feature)
{
	const struct gmemi_probe_row *row = &rows[feature];
	struct gmemi_verdict verdict;

	gmemi_vm_lock(vm);
	verdict = vm->known[feature];
	gmemi_vm_unlock(vm);
	if (verdict.state != GMEM_UNDETERMINED)
		return verdict;
	if (row->needed)
		verdict = gmemi_vm_verdict(vm, row->needed);
	if (row->needed && verdict.state != GMEM_PRESENT)
		return verdict;
	verdict = row->probe(vm, row);
	remember(vm, feature, verdict);
	return verdict;
}

int gmem_vm_probe(struct gmem_vm *vm, enum gmem_feature feature, struct gmem_probe *probe)
{
	struct gmemi_verdict verdict;
	int r;

	GMEMI_CALL();
	r = gmemi_vm_check(vm);
	if (r == 0 && probe)
		r = gmemi_info_check(probe, "probe");
	if (r < 0)
		return r;
	if (!gmem_feature_name(feature))
		return gmemi_refuse(-EINVAL, "feature %d is unknown to this library", (int)feature);
	verdict = gmemi_vm_verdict(vm, feature);
	if (probe)
		gmemi_info_out(probe,
			       &(struct gmem_probe){ .error = verdict.error,
						     .facility = verdict.facility,
						     .hint = verdict.hint },
			       sizeof(*probe));
	return (int)verdict.state;
}

const char *gmem_feature_name(enum gmem_feature feature)
{
	size_t index = (size_t)feature;

	return index < GMEMI_FEATURES ? rows[index].name : NULL;
}

const char *gmem_state_name(enum gmem_state state)
{
	static const char *const names[] = {
		[GMEM_UNDETERMINED] = "undetermined",
		[GMEM_ABSENT] = "absent",
		[GMEM_FORBIDDEN] = "forbidden",
		[GMEM_PRESENT] = "present",
	};
	size_t index = (size_t)state;

	return index < sizeof(names) / sizeof(names[0]) ? names[index] : "unknown";
}
