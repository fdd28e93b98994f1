/* SPDX-License-Identifier: MIT */
/* The part of KVM's user interface that libgmem uses, written from its layout: the headers of the system may be older than the
 * kernel, or missing. Never installed. Names are ours, so that both can be included side by side and compared by a test. */
#ifndef GMEMI_UAPI_KVM_H
#define GMEMI_UAPI_KVM_H

#include <stdint.h>

/* ioctl numbers as the generic layout encodes them: x86, arm64, riscv, s390, loongarch. */
#define KVMI_GET_API_VERSION 0x0000ae00u
#define KVMI_CHECK_EXTENSION 0x0000ae03u
#define KVMI_SET_USER_MEMORY_REGION 0x4020ae46u
#define KVMI_SET_USER_MEMORY_REGION2 0x40a0ae49u
#define KVMI_SET_SIGNAL_MASK 0x4004ae8bu
#define KVMI_MEMORY_ENCRYPT_OP 0xc008aebau
#define KVMI_SET_MEMORY_ATTRIBUTES 0x4020aed2u
#define KVMI_CREATE_GUEST_MEMFD 0xc040aed4u
#define KVMI_PRE_FAULT_MEMORY 0xc040aed5u

/* Proposed or queued: never in a release up to 7.3. */
#define KVMI_SET_MEMORY_ATTRIBUTES2 0xc080aed2u /* on a guest_memfd; 20260618-gmem-inplace-conversion-v8-0-9d2959357853@google.com */
#define KVMI_MAP_MEMORY_V1 0xc020aed5u		/* on a vCPU; cover.1709288671.git.isaku.yamahata@intel.com */
#define KVMI_MAP_MEMORY_V2 0xc018aed5u		/* on a vCPU; its second posting, April 2024 */
#define KVMI_GUEST_MEMFD_POPULATE 0x4020aed6u	/* on a VM; 20241024095429.54052-1-kalyazin@amazon.com */
#define KVMI_ARM_RMI_POPULATE 0xc020aed7u	/* on a VM; 20260715142841.80544-1-steven.price@arm.com */

#define KVMI_API_VERSION 12

enum {
	KVMI_CAP_NR_MEMSLOTS = 10,
	KVMI_CAP_USER_MEMORY2 = 231,
	KVMI_CAP_MEMORY_FAULT_INFO = 232,
	KVMI_CAP_MEMORY_ATTRIBUTES = 233,
	KVMI_CAP_GUEST_MEMFD = 234,
	KVMI_CAP_VM_TYPES = 235,
	KVMI_CAP_PRE_FAULT_MEMORY = 236,
	KVMI_CAP_GUEST_MEMFD_FLAGS = 244
};

#define KVMI_VM_TYPE_SW_PROTECTED 1
#define KVMI_VM_TYPE_SNP 4
#define KVMI_VM_TYPE_TDX 5

#define KVMI_MEM_LOG_DIRTY_PAGES (1u << 0)
#define KVMI_MEM_READONLY (1u << 1)
#define KVMI_MEM_GUEST_MEMFD (1u << 2)
#define KVMI_MEM_USERFAULT (1u << 3) /* proposed: 20250618042424.330664-1-jthoughton@google.com */

#define KVMI_MEMORY_ATTRIBUTE_PRIVATE (1u << 3)

#define KVMI_GUEST_MEMFD_MMAP (UINT64_C(1) << 0)
#define KVMI_GUEST_MEMFD_INIT_SHARED (UINT64_C(1) << 1)
/* Bits 2 and 3 have had several meanings in postings: found out by trial, see vm_probe_gmem.c. */
#define KVMI_GUEST_MEMFD_BIT2 (UINT64_C(1) << 2)
#define KVMI_GUEST_MEMFD_BIT3 (UINT64_C(1) << 3)

#define KVMI_GUEST_MEMFD_MAGIC 0x474d454d /* f_type of its file system, 6.19 and later */

struct kvmi_create_guest_memfd {
	uint64_t size;
	uint64_t flags;
	uint64_t reserved[6];
};

struct kvmi_pre_fault_memory {
	uint64_t gpa;
	uint64_t size;
	uint64_t flags;
	uint64_t padding[5];
};

struct kvmi_map_memory_v1 {
	uint64_t base_gfn;
	uint64_t nr_pages;
	uint64_t flags;
	uint64_t source;
};

struct kvmi_map_memory_v2 {
	uint64_t base_address;
	uint64_t size;
	uint64_t flags;
};

/* As in the eighth posting: on a guest_memfd, offsets in the file. */
struct kvmi_memory_attributes2 {
	uint64_t offset;
	uint64_t size;
	uint64_t attributes;
	uint64_t flags;
	uint64_t error_offset;
	uint64_t reserved[11];
};

/* The first 32 bytes are the structure of KVMI_SET_USER_MEMORY_REGION. */
struct kvmi_userspace_memory_region2 {
	uint32_t slot;
	uint32_t flags;
	uint64_t guest_phys_addr;
	uint64_t memory_size;
	uint64_t userspace_addr;
	uint64_t guest_memfd_offset;
	uint32_t guest_memfd;
	uint32_t pad1;
	uint64_t pad2[14];
};

#endif
