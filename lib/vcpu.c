/* SPDX-License-Identifier: MIT */
#include <gmem/vcpu.h>

#include "alloc.h"
#include "err.h"
#include "sys.h"
#include "uapi/kvm.h"
#include "vm.h"

struct gmem_vcpu {
	struct gmem_vm *vm;
	struct gmemi_vcpu_entry entry;
};

/* A vCPU's handler copies the argument of this call first and changes nothing when it cannot. */
static int check_vcpu_fd(int fd)
{
	int r = gmemi_sys_ioctl_known(fd, KVMI_SET_SIGNAL_MASK);

	switch (r) {
	case -EFAULT:
		return 0;
	case -EIO:
		return gmemi_failed(r, "asking the vCPU fd", "KVM answers only the process that made the VM");
	case -ENOTTY:
	case -EINVAL:
		return gmemi_refuse(-EINVAL, "fd %d is not a vCPU: pass what KVM_CREATE_VCPU returned", fd);
	default:
		return gmemi_failed(r < 0 ? r : -EIO, "asking the vCPU fd", NULL);
	}
}

/* Now, while the vCPU is most likely idle. */
static void ask_now(struct gmem_vm *vm)
{
	gmemi_vm_verdict(vm, GMEM_FEATURE_PRE_FAULT);
	gmemi_vm_verdict(vm, GMEM_FEATURE_MAP_MEMORY);
	gmemi_vm_verdict(vm, GMEM_FEATURE_MAP_MEMORY_V1);
}

static int check_arguments(struct gmem_vm *vm, int vcpu_fd, struct gmem_vcpu **result)
{
	int r = gmemi_vm_check(vm);

	if (r < 0)
		return r;
	if (!result)
		return gmemi_refuse(-EINVAL, "vcpu is NULL");
	if (vm->fd < 0)
		return gmemi_refuse(-EINVAL, "the VM was opened without a VM fd, so it has no vCPUs");
	return check_vcpu_fd(vcpu_fd);
}

int gmem_vcpu_open(struct gmem_vm *vm, int vcpu_fd, struct gmem_vcpu **result)
{
	struct gmem_vcpu *vcpu;
	int r;

	GMEMI_CALL();
	r = check_arguments(vm, vcpu_fd, result);
	if (r < 0)
		return r;
	vcpu = gmemi_alloc(1, sizeof(*vcpu));
	if (!vcpu)
		return -ENOMEM;
	vcpu->entry.fd = gmemi_sys_dup(vcpu_fd);
	if (vcpu->entry.fd < 0) {
		r = gmemi_failed(vcpu->entry.fd, "duplicating the vCPU fd", NULL);
		gmemi_free(vcpu);
		return r;
	}
	vcpu->vm = vm;
	gmemi_vm_claim(vm);
	gmemi_vm_add_vcpu(vm, &vcpu->entry);
	ask_now(vm);
	*result = vcpu;
	return 0;
}

void gmem_vcpu_close(struct gmem_vcpu *vcpu)
{
	GMEMI_CALL();
	if (!vcpu)
		return;
	gmemi_vm_remove_vcpu(vcpu->vm, &vcpu->entry);
	gmemi_sys_close(vcpu->entry.fd);
	gmemi_vm_release(vcpu->vm);
	gmemi_free(vcpu);
}
