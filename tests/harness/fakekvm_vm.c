/* SPDX-License-Identifier: MIT */
/* The ioctls of /dev/kvm, VMs and vCPUs. Those that only a probe ever sends have no function yet. */
#include <fcntl.h>
#include <unistd.h>

#include "fakekvm_int.h"

#define CREATE_VM 0x0000ae01u
#define CREATE_VCPU 0x0000ae41u
#define CAP_MULTI_ADDRESS_SPACE 118
#define ASYNC_PF 0x4020aed6u /* on a vCPU, in one company's branch: the number of GUEST_MEMFD_POPULATE on a VM */

struct attributes {
	uint64_t address, size, attributes, flags;
};

int fake_cap(const struct fake_object *object, uint32_t cap)
{
	if (cap == CAP_MULTI_ADDRESS_SPACE)
		return object->config->address_spaces > 1 ? (int)object->config->address_spaces : 0;
	for (const struct fakekvm_cap *c = object->config->caps; c->cap; c++)
		if (c->cap == cap)
			return object->kind == FAKE_DEVICE ? c->device : c->vm;
	return 0;
}

static long get_api_version(struct fake_object *device, void *argument)
{
	(void)device;
	(void)argument;
	return KVMI_API_VERSION;
}

static long check_extension(struct fake_object *object, void *argument)
{
	return fake_cap(object, (uint32_t)(uintptr_t)argument);
}

static long create_vm(struct fake_object *device, void *argument)
{
	if ((uintptr_t)argument != device->config->vm_type)
		return -EINVAL;
	return fake_make(FAKE_VM, O_CLOEXEC, device->config, NULL);
}

long fake_create_vcpu(struct fake_object *vm, void *argument)
{
	struct fake_object *vcpu;
	int fd = fake_make(FAKE_VCPU, O_CLOEXEC, vm->config, &vcpu);

	(void)argument;
	if (fd >= 0)
		vcpu->vm = vm;
	return fd;
}

static long set_signal_mask(struct fake_object *vcpu, void *argument)
{
	(void)vcpu;
	(void)argument;
	return 0;
}

/* NULL asks whether there is such a thing; on a kernel for TDX the structure is copied first. */
static long encrypt_op(struct fake_object *vm, void *argument)
{
	if (argument)
		fake_misused("KVM_MEMORY_ENCRYPT_OP is known to the probe only: teach fakekvm to play it");
	return -vm->config->encrypt_op;
}

bool fake_good_range(uint64_t start, uint64_t size)
{
	return size && start + size > start && !((start | size) & (fake_page() - 1));
}

static long set_attributes(struct fake_object *vm, void *argument)
{
	const struct attributes *a = argument;
	uint64_t supported = (uint64_t)fake_cap(vm, KVMI_CAP_MEMORY_ATTRIBUTES);

	return a->flags || (a->attributes & ~supported) || !fake_good_range(a->address, a->size) ? -EINVAL : 0;
}

/* On the file, as posted: only a VM with private memory converts. What is private is not remembered. */
static long set_attributes2(struct fake_object *gmem, void *argument)
{
	const struct kvmi_memory_attributes2 *a = argument;

	if (gmem->config->vm_type == 0 || a->flags || a->attributes & ~(uint64_t)KVMI_MEMORY_ATTRIBUTE_PRIVATE)
		return -EINVAL;
	return fake_good_range(a->offset, a->size) && a->offset + a->size <= gmem->size ? 0 : -EINVAL;
}

const struct fake_command fake_vm_commands[] = {
	{ KVMI_GET_API_VERSION, FAKE_DEVICE, 0, 0, "KVM_GET_API_VERSION", get_api_version },
	{ KVMI_CHECK_EXTENSION, FAKE_DEVICE, 0, 0, "KVM_CHECK_EXTENSION", check_extension },
	{ CREATE_VM, FAKE_DEVICE, 0, 0, "KVM_CREATE_VM", create_vm },

	{ KVMI_CHECK_EXTENSION, FAKE_VM, 0, 0, "KVM_CHECK_EXTENSION", check_extension },
	{ CREATE_VCPU, FAKE_VM, 0, 0, "KVM_CREATE_VCPU", fake_create_vcpu },
	{ KVMI_SET_USER_MEMORY_REGION, FAKE_VM, 32, 0, "KVM_SET_USER_MEMORY_REGION", fake_set_region },
	{ KVMI_MEMORY_ENCRYPT_OP, FAKE_VM, 0, 0, "KVM_MEMORY_ENCRYPT_OP", encrypt_op },
	{ KVMI_SET_USER_MEMORY_REGION2, FAKE_VM, 160, FAKE_OPTIONAL, "KVM_SET_USER_MEMORY_REGION2", fake_set_region2 },
	{ KVMI_CREATE_GUEST_MEMFD, FAKE_VM, 64, FAKE_OPTIONAL, "KVM_CREATE_GUEST_MEMFD", fake_create_guest_memfd },
	{ KVMI_SET_MEMORY_ATTRIBUTES, FAKE_VM, 32, FAKE_OPTIONAL, "KVM_SET_MEMORY_ATTRIBUTES", set_attributes },
	{ KVMI_GUEST_MEMFD_POPULATE, FAKE_VM, 32, FAKE_OPTIONAL, "KVM_GUEST_MEMFD_POPULATE", NULL },
	{ KVMI_ARM_RMI_POPULATE, FAKE_VM, 32, FAKE_OPTIONAL, "KVM_ARM_RMI_POPULATE", NULL },

	{ KVMI_SET_SIGNAL_MASK, FAKE_VCPU, 4, 0, "KVM_SET_SIGNAL_MASK", set_signal_mask },
	{ KVMI_PRE_FAULT_MEMORY, FAKE_VCPU, 64, FAKE_OPTIONAL | FAKE_IN_PARTS, "KVM_PRE_FAULT_MEMORY", fake_pre_fault },
	{ KVMI_MAP_MEMORY_V2, FAKE_VCPU, 24, FAKE_OPTIONAL | FAKE_IN_PARTS, "KVM_MAP_MEMORY", fake_map_memory },
	{ KVMI_MAP_MEMORY_V1, FAKE_VCPU, 32, FAKE_OPTIONAL | FAKE_IN_PARTS, "KVM_MAP_MEMORY v1", fake_map_memory_v1 },
	{ ASYNC_PF, FAKE_VCPU, 32, FAKE_OPTIONAL, "KVM_ASYNC_PF", NULL },

	{ KVMI_SET_MEMORY_ATTRIBUTES2, FAKE_GMEM, 128, FAKE_OPTIONAL, "KVM_SET_MEMORY_ATTRIBUTES2", set_attributes2 },
	FAKE_ENDED,
};
