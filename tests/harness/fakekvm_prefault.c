/* SPDX-License-Identifier: MIT */
/* vCPUs that are told to map guest memory ahead: KVM_PRE_FAULT_MEMORY and the two postings before it. */
#include "fakekvm_int.h"

struct range {
	uint64_t gpa, size;
};

struct pre_fault {
	uint64_t gpa, size, flags, padding[5];
};

struct map_memory {
	uint64_t base_address, size, flags;
};

struct map_memory_v1 {
	uint64_t base_gfn, nr_pages, flags, source;
};

#define MAP_MEMORY_V1_FLAGS UINT64_C(15) /* write, exec, user, private */

/* What all three check before they begin. */
static long check(struct fake_object *vcpu, const struct range *range, bool good_flags)
{
	vcpu->prefaults++;
	if (!good_flags || !fake_good_range(range->gpa, range->size))
		return -EINVAL;
	return fake_cap(vcpu, KVMI_CAP_PRE_FAULT_MEMORY) ? 0 : -EOPNOTSUPP;
}

static void did(struct fake_object *vcpu, struct range *range, uint64_t bytes)
{
	range->gpa += bytes;
	range->size -= bytes;
	vcpu->vm->prefaulted += bytes;
}

/* Maps `most` bytes at most, through as many memslots as it takes. */
static long map(struct fake_object *vcpu, struct range *range, uint64_t most)
{
	while (most) {
		const struct fakekvm_slot *slot = fake_slot_at(vcpu->vm, range->gpa);
		uint64_t bytes;

		if (!slot)
			return -ENOENT;
		bytes = slot->gpa + slot->size - range->gpa;
		bytes = bytes < most ? bytes : most;
		did(vcpu, range, bytes);
		most -= bytes;
	}
	return 0;
}

static long map_by_script(struct fake_object *vcpu, struct range *range, const char *call)
{
	uint64_t most = range->size;
	int error = 0;
	long result = fake_scripted_limit(call, &most, &error);

	if (result == 0)
		result = map(vcpu, range, most);
	return result ? result : -error;
}

/* Fails only if it did nothing; what is left is the caller's to ask for again. */
long fake_pre_fault(struct fake_object *vcpu, void *argument)
{
	struct pre_fault *a = argument;
	struct range range = { a->gpa, a->size };
	long result = check(vcpu, &range, !a->flags);

	if (result)
		return result;
	result = map_by_script(vcpu, &range, "KVM_PRE_FAULT_MEMORY");
	if (range.size < a->size)
		result = 0;
	a->gpa = range.gpa;
	a->size = range.size;
	return result;
}

/* The older two tell of what they did and of the error. */
long fake_map_memory(struct fake_object *vcpu, void *argument)
{
	struct map_memory *a = argument;
	struct range range = { a->base_address, a->size };
	long result = check(vcpu, &range, !a->flags);

	if (result)
		return result;
	result = map_by_script(vcpu, &range, "KVM_MAP_MEMORY");
	a->base_address = range.gpa;
	a->size = range.size;
	return result;
}

long fake_map_memory_v1(struct fake_object *vcpu, void *argument)
{
	struct map_memory_v1 *a = argument;
	uint64_t page = fake_page();
	struct range range = { a->base_gfn * page, a->nr_pages * page };
	bool representable = a->base_gfn <= UINT64_MAX / page && a->nr_pages <= UINT64_MAX / page;
	long result = check(vcpu, &range, representable && !(a->flags & ~MAP_MEMORY_V1_FLAGS));

	if (result)
		return result;
	result = map_by_script(vcpu, &range, "KVM_MAP_MEMORY v1");
	a->base_gfn = range.gpa / page;
	a->nr_pages = range.size / page;
	return result;
}

uint64_t fakekvm_prefaulted(int vm_fd)
{
	uint64_t bytes;

	fake_lock();
	bytes = fake_vm_of(vm_fd)->prefaulted;
	fake_unlock();
	return bytes;
}

unsigned int fakekvm_vcpu_calls(int vcpu_fd)
{
	const struct fake_object *vcpu;
	unsigned int calls;

	fake_lock();
	vcpu = fake_find(vcpu_fd);
	if (!vcpu || vcpu->kind != FAKE_VCPU)
		fake_misused("fd %d is not a vCPU of mine", vcpu_fd);
	calls = vcpu->prefaults;
	fake_unlock();
	return calls;
}
