/* SPDX-License-Identifier: MIT */
/* Three ioctls for one thing, each with its own structure, its own unit, and its own way to say that it did a part. */
#include "prefault_vcpu.h"

#include "err.h"
#include "range.h"
#include "sys.h"
#include "uapi/kvm.h"

/* The structures as bytes, which is what the kernel did to them. */
struct answer {
	int result;
	uint64_t gpa, left;
};

static struct answer pre_fault(int fd, uint64_t gpa, uint64_t length)
{
	struct kvmi_pre_fault_memory range = { .gpa = gpa, .size = length };
	int r = gmemi_sys_ioctl(fd, KVMI_PRE_FAULT_MEMORY, &range);

	return (struct answer){ r, range.gpa, range.size };
}

static struct answer map_memory_v2(int fd, uint64_t gpa, uint64_t length)
{
	struct kvmi_map_memory_v2 range = { .base_address = gpa, .size = length };
	int r = gmemi_sys_ioctl(fd, KVMI_MAP_MEMORY_V2, &range);

	return (struct answer){ r, range.base_address, range.size };
}

static struct answer map_memory_v1(int fd, uint64_t gpa, uint64_t length)
{
	uint64_t page = gmemi_sys_page_size();
	struct kvmi_map_memory_v1 range = { .base_gfn = gpa / page, .nr_pages = length / page };
	int r = gmemi_sys_ioctl(fd, KVMI_MAP_MEMORY_V1, &range);

	return (struct answer){ r, range.base_gfn * page, range.nr_pages * page };
}

static struct answer ask(enum gmem_mechanism mechanism, int fd, uint64_t gpa, uint64_t length)
{
	switch (mechanism) {
	case GMEM_MECH_PRE_FAULT:
		return pre_fault(fd, gpa, length);
	case GMEM_MECH_MAP_MEMORY:
		return map_memory_v2(fd, gpa, length);
	default:
		return map_memory_v1(fd, gpa, length);
	}
}

static const char *advice(int error)
{
	switch (error) {
	case -ENOENT:
		return "did the program delete the memslot itself?";
	case -EFAULT:
		return "private where it should be shared, or the other way round, or a mapping that is gone?";
	case -EINTR:
		return "a signal came: go on";
	case -EAGAIN:
		return "memslots are changing: go on";
	default:
		return NULL;
	}
}

bool gmemi_prefault_is_by_vcpu(enum gmem_mechanism mechanism)
{
	return mechanism == GMEM_MECH_PRE_FAULT || mechanism == GMEM_MECH_MAP_MEMORY || mechanism == GMEM_MECH_MAP_MEMORY_V1;
}

/* KVM_PRE_FAULT_MEMORY returns 0 as soon as it did something; KVM_MAP_MEMORY returns what stopped it, and the structure
 * tells that it did something. Either way the structure is believed only if its two halves agree. */
int gmemi_prefault_by_vcpu(enum gmem_mechanism mechanism, int vcpu_fd, uint64_t gpa, uint64_t length, uint64_t *done)
{
	struct answer answer = ask(mechanism, vcpu_fd, gpa, length);
	bool agree = answer.left <= length && answer.gpa == gpa + (length - answer.left);
	bool passing = answer.result == -EAGAIN || answer.result == -EINTR;

	*done = agree ? length - answer.left : 0;
	if (!agree || answer.result > 0 || (answer.result == 0 && !*done))
		return gmemi_failed(-EIO, gmem_mechanism_name(mechanism), "the kernel's answer makes no sense");
	if (answer.result == 0 || (passing && *done))
		return 0;
	return gmemi_failed(answer.result, gmem_mechanism_name(mechanism), advice(answer.result));
}
