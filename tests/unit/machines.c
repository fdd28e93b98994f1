/* SPDX-License-Identifier: MIT */
#include "machines.h"

#include <string.h>
#include <unistd.h>

#include "fakekvm.h"
#include "gt.h"
#include "handles.h"
#include "refusal.h"

static void forget(struct fakekvm_config *config, const char *name)
{
	const size_t room = sizeof(config->known) / sizeof(config->known[0]);
	size_t is = 0, kept = 0;

	for (; is < room && config->known[is]; is++)
		if (strcmp(config->known[is], name) != 0)
			config->known[kept++] = config->known[is];
	config->known[kept] = NULL;
}

static struct gmem_vm *open_with_rfc_ioctls(int fd)
{
	struct gmem_vm_open_opts opts = { .size = sizeof(opts), .flags = GMEM_VM_RFC_IOCTLS };
	struct gmem_vm *vm = NULL;

	assert_int_equal(gmem_vm_open(fd, &vm, &opts), 0);
	return vm;
}

struct machine make_machine(unsigned int ways, unsigned int vcpus, uint64_t length)
{
	struct machine machine = { .vcpus = vcpus, .m.length = length };
	struct fakekvm_config config = *fakekvm_preset("7.3");

	if (!(ways & WAY_PRE_FAULT))
		forget(&config, "KVM_PRE_FAULT_MEMORY");
	if (ways & WAY_MAP_MEMORY)
		fakekvm_know(&config, "KVM_MAP_MEMORY");
	if (ways & WAY_MAP_MEMORY_V1)
		fakekvm_know(&config, "KVM_MAP_MEMORY v1");
	fakekvm_enable(&config);
	machine.m.vm_fd = fakekvm_vm(NULL);
	machine.m.vm = open_with_rfc_ioctls(machine.m.vm_fd);
	assert_true(vcpus <= MOST_VCPUS);
	for (unsigned int i = 0; i < vcpus; i++) {
		machine.vcpu_fd[i] = fakekvm_vcpu(machine.m.vm_fd);
		assert_int_equal(gmem_vcpu_open(machine.m.vm, machine.vcpu_fd[i], &machine.vcpu[i]), 0);
	}
	assert_int_equal(gmem_create(machine.m.vm, length, &machine.m.mem, NULL), 0);
	assert_int_equal(info_of(machine.m.mem).backing, GMEM_BACKING_GUEST_MEMFD);
	return machine;
}

void end_machine(struct machine *machine)
{
	for (unsigned int i = 0; i < machine->vcpus; i++) {
		gmem_vcpu_close(machine->vcpu[i]);
		close(machine->vcpu_fd[i]);
	}
	end_memory(&machine->m);
}

void bind_machine(struct machine *machine, uint32_t slot, uint64_t gpa, uint64_t first, uint64_t count)
{
	assert_int_equal(gmem_bind(machine->m.mem, slot, gpa * page(), first * page(), count * page(), NULL), 0);
}

int prefault_with(struct gmem *mem, uint64_t offset, uint64_t length, uint64_t *done, enum gmem_mechanism forced,
		  uint32_t threads)
{
	struct gmem_prefault_opts opts = { .size = sizeof(opts), .mechanism = forced, .threads = threads };

	spoil_sentence();
	*done = UINT64_MAX;
	return gmem_prefault(mem, offset, length, done, &opts);
}

int prefault(struct machine *machine, uint64_t offset, uint64_t length, uint64_t *done)
{
	return prefault_with(machine->m.mem, offset, length, done, 0, 0);
}

enum gmem_mechanism prefaulted_by(const struct machine *machine)
{
	return (enum gmem_mechanism)info_of(machine->m.mem).prefault_mechanism;
}

unsigned int vcpu_calls(const struct machine *machine)
{
	unsigned int calls = 0;

	for (unsigned int i = 0; i < machine->vcpus; i++)
		calls += fakekvm_vcpu_calls(machine->vcpu_fd[i]);
	return calls;
}
