/* SPDX-License-Identifier: MIT */
/* Kernels and machines as their documentation and sources describe them. x86-64 unless the name says otherwise, each with one
 * type of VM. */
#include <string.h>

#include "fakekvm_int.h"

#define CAP_CHECK_EXTENSION_VM 105
#define CAP_KVM_USERFAULT_BRANCH 245 /* what one company's branch gave to KVM userfault; upstream it is something else */

/* Bits of KVM_CAP_VM_TYPES. */
#define TYPE(n) (1 << (n))
#define PLAIN_ONLY TYPE(0)
#define WITH_SW_PROTECTED (TYPE(0) | TYPE(KVMI_VM_TYPE_SW_PROTECTED))
#define WITH_SEV (TYPE(0) | TYPE(2) | TYPE(3) | TYPE(KVMI_VM_TYPE_SNP))
#define WITH_TDX (TYPE(0) | TYPE(KVMI_VM_TYPE_TDX))

#define PRIVATE ((int)KVMI_MEMORY_ATTRIBUTE_PRIVATE)
#define PLAIN_SLOTS (KVMI_MEM_LOG_DIRTY_PAGES | KVMI_MEM_READONLY)
#define GMEM_SLOTS (PLAIN_SLOTS | KVMI_MEM_GUEST_MEMFD)
#define USERFAULT_SLOTS (GMEM_SLOTS | KVMI_MEM_USERFAULT)

#define MMAP_SHARED (KVMI_GUEST_MEMFD_MMAP | KVMI_GUEST_MEMFD_INIT_SHARED)
#define MISSING_MINOR (UFFDI_REGISTER_MISSING | UFFDI_REGISTER_MINOR)

#define FEATURES_6_1 UINT64_C(0x1fff)
#define FEATURES_6_12 UINT64_C(0x1ffff)
#define FEATURES_7_3 UINT64_C(0x7ffff)
#define UFFD_IOCTLS UINT64_C(0x8000000000000003)
#define UFFD_FOR_ROOT(features) .uffd_features = (features), .uffd_ioctls = UFFD_IOCTLS, .uffd_event_fork = true
#define UFFD_7_3 \
	.uffd_features = FEATURES_7_3, .uffd_ioctls = UFFD_IOCTLS | UFFDI_IOCTL_SET_MODE, .uffd_event_fork = true

#define X86 .unknown_vm = ENOTTY, .address_spaces = 2, .encrypt_op = ENOTTY
#define X86_PRIVATE(type) .vm_type = (type), .unknown_vm = ENOTTY, .address_spaces = 1

#define CAPS_OLD { CAP_CHECK_EXTENSION_VM, 1, 1 }, { KVMI_CAP_NR_MEMSLOTS, 32764, 32764 }
#define CAPS_6_8 CAPS_OLD, { KVMI_CAP_USER_MEMORY2, 1, 1 }, { KVMI_CAP_MEMORY_FAULT_INFO, 1, 1 }
#define CAPS_GMEM CAPS_6_8, { KVMI_CAP_GUEST_MEMFD, 1, 1 }

#define KNOWS_6_8 "KVM_SET_USER_MEMORY_REGION2", "KVM_CREATE_GUEST_MEMFD"
#define KNOWS_6_11 KNOWS_6_8, "KVM_PRE_FAULT_MEMORY"
#define KNOWS_PRIVATE KNOWS_6_11, "KVM_SET_MEMORY_ATTRIBUTES"

/* A VM with private memory on 7.3: files can be mapped, though the host may not touch them, and are never shared at first. */
#define PRIVATE_VM_7_3(type, types)                                                                                \
	X86_PRIVATE(type), .slot_flags = GMEM_SLOTS, .overlap_error = EEXIST, .gmem_flags = KVMI_GUEST_MEMFD_MMAP, \
		.gmem_magic = true, .known = { KNOWS_PRIVATE }, UFFD_7_3,                                          \
	.caps = { CAPS_GMEM,                                                                                       \
		  { KVMI_CAP_VM_TYPES, (types), (types) },                                                         \
		  { KVMI_CAP_MEMORY_ATTRIBUTES, PRIVATE, PRIVATE },                                                \
		  { KVMI_CAP_PRE_FAULT_MEMORY, 1, 1 },                                                             \
		  { KVMI_CAP_GUEST_MEMFD_FLAGS, (int)MMAP_SHARED, (int)KVMI_GUEST_MEMFD_MMAP } }

/* No KVM at all; a VM made by hand is one that knows nothing. */
static const struct fakekvm_config none = {
	X86,
	.device_error = ENOENT,
	.caps = { CAPS_OLD },
	.slot_flags = PLAIN_SLOTS,
	UFFD_FOR_ROOT(FEATURES_6_12),
};

static const struct fakekvm_config linux_6_1 = {
	X86,
	.no_cachestat = true,
	.caps = { CAPS_OLD },
	.slot_flags = PLAIN_SLOTS,
	UFFD_FOR_ROOT(FEATURES_6_1),
};

/* Built with private memory for other VM types: a plain VM makes the file, but cannot bind it. */
static const struct fakekvm_config linux_6_12 = {
	X86,
	.caps = { CAPS_6_8,
		  { KVMI_CAP_GUEST_MEMFD, 1, 0 },
		  { KVMI_CAP_MEMORY_ATTRIBUTES, PRIVATE, 0 },
		  { KVMI_CAP_VM_TYPES, PLAIN_ONLY, PLAIN_ONLY },
		  { KVMI_CAP_PRE_FAULT_MEMORY, 1, 1 } },
	.known = { KNOWS_PRIVATE },
	.slot_flags = PLAIN_SLOTS,
	.overlap_error = EINVAL,
	UFFD_FOR_ROOT(FEATURES_6_12),
};

/* On a machine without paging in hardware: KVM_PRE_FAULT_MEMORY is known and does not work. */
#define LINUX_6_18                                                                                                  \
	X86, .known = { KNOWS_6_11 }, .slot_flags = GMEM_SLOTS, .overlap_error = EINVAL, .gmem_flags = MMAP_SHARED, \
	.caps = { CAPS_GMEM,                                                                                        \
		  { KVMI_CAP_VM_TYPES, PLAIN_ONLY, PLAIN_ONLY },                                                    \
		  { KVMI_CAP_PRE_FAULT_MEMORY, 0, 0 },                                                              \
		  { KVMI_CAP_GUEST_MEMFD_FLAGS, (int)MMAP_SHARED, (int)MMAP_SHARED } }

static const struct fakekvm_config linux_6_18 = { LINUX_6_18, UFFD_FOR_ROOT(FEATURES_6_12) };

/* The same for an ordinary user. A VM fd that somebody else handed in would work. */
static const struct fakekvm_config forbidden = {
	LINUX_6_18,
	.device_error = EACCES,
	.uffd_device_error = EACCES,
	.uffd_syscall_error = EPERM,
	.uffd_features = FEATURES_6_12,
	.uffd_ioctls = UFFD_IOCTLS,
};

static const struct fakekvm_config linux_7_3 = {
	X86,
	.caps = { CAPS_GMEM,
		  { KVMI_CAP_VM_TYPES, PLAIN_ONLY, PLAIN_ONLY },
		  { KVMI_CAP_PRE_FAULT_MEMORY, 1, 1 },
		  { KVMI_CAP_GUEST_MEMFD_FLAGS, (int)MMAP_SHARED, (int)MMAP_SHARED } },
	.known = { KNOWS_6_11 },
	.slot_flags = GMEM_SLOTS,
	.overlap_error = EEXIST,
	.gmem_flags = MMAP_SHARED,
	.gmem_magic = true,
	UFFD_7_3,
};

static const struct fakekvm_config sw_protected = {
	PRIVATE_VM_7_3(KVMI_VM_TYPE_SW_PROTECTED, WITH_SW_PROTECTED),
	.encrypt_op = ENOTTY,
};

static const struct fakekvm_config snp = {
	PRIVATE_VM_7_3(KVMI_VM_TYPE_SNP, WITH_SEV),
	.encrypt_op = 0,
};

static const struct fakekvm_config tdx = {
	PRIVATE_VM_7_3(KVMI_VM_TYPE_TDX, WITH_TDX),
	.encrypt_op = EFAULT,
};

/* 7.3 with what was proposed upstream: write() is bit 2, conversion on the file (of a VM with private memory). */
static const struct fakekvm_config future_upstream = {
	X86_PRIVATE(KVMI_VM_TYPE_SW_PROTECTED),
	.encrypt_op = ENOTTY,
	.caps = { CAPS_GMEM,
		  { KVMI_CAP_VM_TYPES, WITH_SW_PROTECTED, WITH_SW_PROTECTED },
		  { KVMI_CAP_PRE_FAULT_MEMORY, 1, 1 },
		  { KVMI_CAP_GUEST_MEMFD_FLAGS, 7, 7 } },
	.known = { KNOWS_6_11, "KVM_SET_MEMORY_ATTRIBUTES2" },
	.slot_flags = USERFAULT_SLOTS,
	.overlap_error = EEXIST,
	.gmem_flags = MMAP_SHARED | KVMI_GUEST_MEMFD_BIT2,
	.gmem_write = KVMI_GUEST_MEMFD_BIT2,
	.gmem_magic = true,
	.gmem_uffd_modes = MISSING_MINOR,
	UFFD_7_3,
};

/* 6.18 with one company's branch: bit 2 is NO_DIRECT_MAP there, and a vCPU ioctl has the number of GUEST_MEMFD_POPULATE. */
static const struct fakekvm_config future_firecracker = {
	X86,
	.caps = { CAPS_GMEM,
		  { KVMI_CAP_VM_TYPES, PLAIN_ONLY, PLAIN_ONLY },
		  { KVMI_CAP_PRE_FAULT_MEMORY, 1, 1 },
		  { CAP_KVM_USERFAULT_BRANCH, 1, 1 },
		  { KVMI_CAP_GUEST_MEMFD_FLAGS, 15, 15 } },
	.known = { KNOWS_6_11, "KVM_ASYNC_PF" },
	.slot_flags = USERFAULT_SLOTS,
	.overlap_error = EINVAL,
	.gmem_flags = MMAP_SHARED | KVMI_GUEST_MEMFD_BIT2 | KVMI_GUEST_MEMFD_BIT3,
	.gmem_write = KVMI_GUEST_MEMFD_BIT3,
	.gmem_no_direct_map = KVMI_GUEST_MEMFD_BIT2,
	.gmem_uffd_modes = MISSING_MINOR,
	UFFD_FOR_ROOT(FEATURES_6_12),
};

/* 7.3: an unknown ioctl is EINVAL, only files that can be mapped can be bound, no KVM_PRE_FAULT_MEMORY, no VM types. */
static const struct fakekvm_config arm64 = {
	.unknown_vm = EINVAL,
	.address_spaces = 1,
	.encrypt_op = EINVAL,
	.caps = { { CAP_CHECK_EXTENSION_VM, 1, 1 },
		  { KVMI_CAP_NR_MEMSLOTS, 32767, 32767 },
		  { KVMI_CAP_USER_MEMORY2, 1, 1 },
		  { KVMI_CAP_GUEST_MEMFD, 1, 1 },
		  { KVMI_CAP_GUEST_MEMFD_FLAGS, (int)MMAP_SHARED, (int)MMAP_SHARED } },
	.known = { KNOWS_6_8 },
	.slot_flags = GMEM_SLOTS,
	.overlap_error = EEXIST,
	.bind_mappable = true,
	.gmem_flags = MMAP_SHARED,
	.gmem_magic = true,
	UFFD_7_3,
};

static const struct {
	const char *name;
	const struct fakekvm_config *config;
} presets[] = {
	{ "none", &none },
	{ "forbidden", &forbidden },
	{ "6.1", &linux_6_1 },
	{ "6.12", &linux_6_12 },
	{ "6.18", &linux_6_18 },
	{ "7.3", &linux_7_3 },
	{ "sw-protected", &sw_protected },
	{ "snp", &snp },
	{ "tdx", &tdx },
	{ "future-upstream", &future_upstream },
	{ "future-firecracker", &future_firecracker },
	{ "arm64", &arm64 },
};

const struct fakekvm_config *fakekvm_preset(const char *name)
{
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
		if (strcmp(presets[i].name, name) == 0)
			return presets[i].config;
	fake_misused("there is no preset \"%s\"", name);
}

void fakekvm_know(struct fakekvm_config *config, const char *name)
{
	size_t i = 0;

	while (i < sizeof(config->known) / sizeof(config->known[0]) && config->known[i])
		i++;
	if (i == sizeof(config->known) / sizeof(config->known[0]))
		fake_misused("config->known is full");
	config->known[i] = name;
}

void fakekvm_set_cap(struct fakekvm_config *config, uint32_t cap, int device, int vm)
{
	const size_t room = sizeof(config->caps) / sizeof(config->caps[0]) - 1; /* the last entry ends the list */
	size_t i = 0;

	while (i < room && config->caps[i].cap && config->caps[i].cap != cap)
		i++;
	if (i == room)
		fake_misused("config->caps is full");
	config->caps[i] = (struct fakekvm_cap){ cap, device, vm };
}
