/* SPDX-License-Identifier: MIT */
/* gmem-info: makes the throw-away VM and its vCPU, and remembers why it could not. */
#include "gmem-info.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char device[] = "/dev/kvm";
static const char create_vm[] = "KVM_CREATE_VM";
static const char create_vcpu[] = "KVM_CREATE_VCPU";

static const struct {
	const char *step;
	int error;
	const char *advice;
} advices[] = {
	{ device, EACCES, "join its group (often 'kvm'), or: setfacl -m u:USER:rw /dev/kvm; in a jail: is it mounted nodev?" },
	{ device, EPERM, "a device cgroup or a security module refuses it: allow character device 10:232 there" },
	{ device, ENOENT, "load the module (kvm_intel, kvm_amd), or pass the device into this container or jail" },
	{ device, ENODEV, "switch on virtualization in the firmware, or nested virtualization in the hypervisor below" },
	{ device, ENXIO, "switch on virtualization in the firmware, or nested virtualization in the hypervisor below" },
	{ create_vm, EINVAL, "this KVM makes no VMs of this type: see the features vm_* and the module's parameters" },
	{ create_vm, EOPNOTSUPP, "this KVM makes no VMs of this type: see the features vm_* and the module's parameters" },
	{ create_vm, EBUSY, "another hypervisor holds the processor's virtualization: stop it" },
	{ create_vcpu, EINVAL, "a VM of this type wants more set-up before it takes a vCPU; answers that need one stay open" },
};

static const char *advice_on(const char *step, int error)
{
	for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++)
		if (advices[i].step == step && advices[i].error == error)
			return advices[i].advice;
	return "";
}

static void note(struct info_trouble *trouble, const char *step, int error, const char *advice)
{
	trouble->step = step;
	trouble->error = error;
	snprintf(trouble->advice, sizeof(trouble->advice), "%s", advice);
}

/* An ioctl that makes a descriptor; a signal may interrupt the making of a VM. */
static int make(int fd, unsigned long request, unsigned long argument, struct info_trouble *trouble, const char *step)
{
	int made;

	do {
		made = ioctl(fd, request, argument);
	} while (made < 0 && errno == EINTR);
	if (made < 0)
		note(trouble, step, errno, advice_on(step, errno));
	return made;
}

/* Some arm64 machines address less than the default type asks for: type 0 is EINVAL there. Zero elsewhere. */
static unsigned long type_number(int kvm, const struct info_vm_type *type)
{
	int bits;

	if (type->number)
		return type->number;
	bits = ioctl(kvm, KVM_CHECK_EXTENSION, (unsigned long)KVM_CAP_ARM_VM_IPA_SIZE);
	return bits > 0 ? KVM_VM_TYPE_ARM_IPA_SIZE((unsigned long)bits) : 0;
}

static int make_vm(struct info_machine *machine, const struct info_vm_type *type)
{
	int kvm = open(device, O_RDWR | O_CLOEXEC);
	int fd;

	if (kvm < 0) {
		note(&machine->vm_trouble, device, errno, advice_on(device, errno));
		return -1;
	}
	fd = make(kvm, KVM_CREATE_VM, type_number(kvm, type), &machine->vm_trouble, create_vm);
	close(kvm);
	return fd;
}

/* Without a vCPU some answers stay undetermined, and the report says so. */
static void add_vcpu(struct info_machine *machine, int vm_fd)
{
	int fd = make(vm_fd, KVM_CREATE_VCPU, 0, &machine->vcpu_trouble, create_vcpu);
	int r;

	if (fd < 0)
		return;
	r = gmem_vcpu_open(machine->vm, fd, &machine->vcpu);
	if (r < 0)
		note(&machine->vcpu_trouble, "gmem_vcpu_open", -r, gmem_last_error());
	close(fd);
}

static int open_view(struct info_machine *machine, int vm_fd, uint32_t kind, uint64_t flags)
{
	struct gmem_vm_open_opts opts = { .size = sizeof(opts), .flags = flags, .kind = kind };

	return gmem_vm_open(vm_fd, &machine->vm, &opts);
}

static void open_with_vm(struct info_machine *machine, const struct info_request *request, int vm_fd)
{
	int r = open_view(machine, vm_fd, request->type->kind, request->vm_flags);

	if (r < 0) {
		note(&machine->vm_trouble, "gmem_vm_open", -r, gmem_last_error());
		return;
	}
	machine->has_vm = true;
	add_vcpu(machine, vm_fd);
}

int info_machine_open(struct info_machine *machine, const struct info_request *request)
{
	int vm_fd;

	memset(machine, 0, sizeof(*machine));
	vm_fd = request->type->made ? make_vm(machine, request->type) : -1;
	if (vm_fd >= 0) {
		open_with_vm(machine, request, vm_fd);
		close(vm_fd);
	}
	return machine->has_vm ? 0 : open_view(machine, -1, GMEM_VM_AUTO, request->vm_flags);
}

void info_machine_close(struct info_machine *machine)
{
	gmem_vcpu_close(machine->vcpu);
	gmem_vm_close(machine->vm);
}
