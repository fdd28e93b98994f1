/* SPDX-License-Identifier: MIT */
#include <gmem/base.h>

static const char *const names[] = {
	[GMEM_MECH_NONE] = "none",
	[GMEM_MECH_GUEST_MEMFD] = "guest_memfd",
	[GMEM_MECH_MEMFD] = "memfd",
	[GMEM_MECH_HUGETLB] = "hugetlb memfd",
	[GMEM_MECH_GUEST_MEMFD_PAIR] = "guest_memfd + memfd",
	[GMEM_MECH_WRITE] = "write",
	[GMEM_MECH_MAPPING] = "mapping",
	[GMEM_MECH_SPLICE] = "splice",
	[GMEM_MECH_POPULATE_IOCTL] = "KVM_GUEST_MEMFD_POPULATE",
	[GMEM_MECH_IN_PLACE] = "in place",
	[GMEM_MECH_SNP_UPDATE] = "SNP_LAUNCH_UPDATE",
	[GMEM_MECH_TDX_REGION] = "TDX_INIT_MEM_REGION",
	[GMEM_MECH_PRE_FAULT] = "KVM_PRE_FAULT_MEMORY",
	[GMEM_MECH_MAP_MEMORY] = "KVM_MAP_MEMORY",
	[GMEM_MECH_MAP_MEMORY_V1] = "KVM_MAP_MEMORY v1",
	[GMEM_MECH_HOST_FAULT] = "host fault",
	[GMEM_MECH_UFFD_CONTINUE] = "fill + UFFDIO_CONTINUE",
	[GMEM_MECH_UFFD_COPY] = "UFFDIO_COPY",
	[GMEM_MECH_KVM_USERFAULT] = "fill + KVM userfault",
	[GMEM_MECH_ATTRIBUTES_FILE] = "KVM_SET_MEMORY_ATTRIBUTES2 on the file",
	[GMEM_MECH_ATTRIBUTES_VM] = "KVM_SET_MEMORY_ATTRIBUTES on the VM",
	[GMEM_MECH_PUNCH_HOLE] = "punch hole",
	[GMEM_MECH_MADV_REMOVE] = "MADV_REMOVE",
};

const char *gmem_mechanism_name(enum gmem_mechanism mechanism)
{
	size_t index = (size_t)mechanism;

	if (index >= sizeof(names) / sizeof(names[0]) || !names[index])
		return "unknown";
	return names[index];
}
