/* SPDX-License-Identifier: MIT */
#include "vm_probe.h"

#include <errno.h>
#include <fcntl.h>

#include "sys.h"
#include "uapi/kvm.h"

#define SLOT_TRIALS 8
#define TRIAL_GPA (UINT64_C(1) << 45) /* beyond any guest's memory; only looked at for overlaps */

static const char access_hint[] = "give this user read and write access to /dev/kvm (group kvm, or an ACL)";
static const char missing_hint[] = "load KVM's module, or pass /dev/kvm into this container or jail";
static const char no_vm_hint[] = "open libgmem's VM with a VM fd: this is a property of the VM";
static const char rfc_hint[] = "open the VM with GMEM_VM_RFC_IOCTLS if this kernel is known to carry the patch";
static const char vcpu_hint[] = "tell libgmem of a vCPU: gmem_vcpu_open()";

/* No node: no KVM, or it was not passed in. */
static struct gmemi_verdict no_device(const struct gmemi_probe_row *row, int error)
{
	struct gmemi_verdict verdict = gmemi_from_error(row, error, access_hint);

	if (verdict.state == GMEM_ABSENT)
		verdict.hint = missing_hint;
	return verdict;
}

/* An open VM proves KVM; without one the device does. */
struct gmemi_verdict gmemi_probe_kvm(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int fd, r;

	if (vm->fd >= 0)
		return gmemi_present(row);
	fd = gmemi_sys_open("/dev/kvm", O_RDWR);
	if (fd < 0)
		return no_device(row, fd);
	r = gmemi_sys_ioctl_value(fd, KVMI_GET_API_VERSION, 0);
	gmemi_sys_close(fd);
	if (r == KVMI_API_VERSION)
		return gmemi_present(row);
	return gmemi_from_error(row, r < 0 ? r : -ENOTTY, NULL);
}

static struct gmemi_verdict no_vm(const struct gmemi_probe_row *row)
{
	struct gmemi_verdict verdict = gmemi_undetermined(row, 0, no_vm_hint);

	verdict.facility = "no VM";
	return verdict;
}

static struct gmemi_verdict capability(int fd, const struct gmemi_probe_row *row)
{
	int r = gmemi_sys_ioctl_value(fd, KVMI_CHECK_EXTENSION, row->argument);

	if (r < 0)
		return gmemi_from_error(row, r, NULL);
	return ((uint32_t)r & row->mask) == row->mask ? gmemi_present(row) : gmemi_absent(row, 0);
}

struct gmemi_verdict gmemi_probe_capability(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	return vm->fd < 0 ? no_vm(row) : capability(vm->fd, row);
}

/* What is the same for every VM can be asked of the device. */
struct gmemi_verdict gmemi_probe_kvm_wide(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	struct gmemi_verdict verdict;
	int fd;

	if (vm->fd >= 0)
		return capability(vm->fd, row);
	fd = gmemi_sys_open("/dev/kvm", O_RDWR);
	if (fd < 0)
		return no_device(row, fd);
	verdict = capability(fd, row);
	gmemi_sys_close(fd);
	return verdict;
}

/* EFAULT is the one answer that only a handler gives which knows the request. */
static struct gmemi_verdict known(const struct gmemi_probe_row *row, int r)
{
	if (r == -EFAULT)
		return gmemi_present(row);
	if (r >= 0)
		return gmemi_undetermined(row, -EIO, "KVM accepted an argument that cannot be read: something stands between");
	return gmemi_from_error(row, r, NULL);
}

struct gmemi_verdict gmemi_probe_vm_ioctl(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	if (vm->fd < 0)
		return no_vm(row);
	return known(row, gmemi_sys_ioctl_known(vm->fd, row->argument));
}

struct gmemi_verdict gmemi_probe_rfc_vm_ioctl(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	if (!(vm->flags & GMEM_VM_RFC_IOCTLS))
		return gmemi_undetermined(row, 0, rfc_hint);
	return gmemi_probe_vm_ioctl(vm, row);
}

static struct gmemi_verdict vcpu_ioctl(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int fd, r;

	if (vm->fd < 0)
		return no_vm(row);
	fd = gmemi_vm_borrow_vcpu(vm, 0);
	if (fd == -ENOENT)
		return gmemi_undetermined(row, 0, vcpu_hint);
	if (fd < 0)
		return gmemi_from_error(row, fd, NULL);
	r = gmemi_sys_ioctl_known(fd, row->argument);
	gmemi_sys_close(fd);
	return known(row, r);
}

/* The command is known on hosts that cannot do it, where the capability is 0; the capability's number has had other owners. */
struct gmemi_verdict gmemi_probe_pre_fault(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int r;

	if (vm->fd < 0)
		return no_vm(row);
	r = gmemi_sys_ioctl_value(vm->fd, KVMI_CHECK_EXTENSION, KVMI_CAP_PRE_FAULT_MEMORY);
	if (r < 0)
		return gmemi_from_error(row, r, NULL);
	return r == 0 ? gmemi_absent(row, 0) : vcpu_ioctl(vm, row);
}

struct gmemi_verdict gmemi_probe_rfc_vcpu_ioctl(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	if (!(vm->flags & GMEM_VM_RFC_IOCTLS))
		return gmemi_undetermined(row, 0, rfc_hint);
	return vcpu_ioctl(vm, row);
}

static int slot_trial(int vm_fd, uint32_t slot, uint32_t flags)
{
	struct kvmi_userspace_memory_region2 region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = TRIAL_GPA,
		.memory_size = gmemi_sys_page_size(),
		.guest_memfd = (uint32_t)-1,
	};

	return gmemi_sys_ioctl(vm_fd, KVMI_SET_USER_MEMORY_REGION2, &region);
}

/* The flags are looked at before the fd, which is none, so no memslot can come of it. A slot in use says EINVAL to anything:
 * several are asked, from the end, where VMMs that count from 0 do not come. */
int gmemi_vm_slot_trial(struct gmem_vm *vm, uint32_t flags)
{
	int slots = gmemi_sys_ioctl_value(vm->fd, KVMI_CHECK_EXTENSION, KVMI_CAP_NR_MEMSLOTS), r = -EINVAL;

	if (slots < 0)
		return slots;
	for (int i = 1; r == -EINVAL && i <= SLOT_TRIALS && i <= slots; i++)
		r = slot_trial(vm->fd, (uint32_t)(slots - i), flags);
	return r;
}

struct gmemi_verdict gmemi_probe_userfault(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int r = gmemi_vm_slot_trial(vm, KVMI_MEM_GUEST_MEMFD | KVMI_MEM_USERFAULT);

	return r == -EBADF || r == -EEXIST ? gmemi_present(row) : gmemi_from_error(row, r < 0 ? r : -ENOTTY, NULL);
}

/* A null argument is answered 0 where SEV is on (Documentation/virt/kvm/x86/amd-memory-encryption.rst). */
struct gmemi_verdict gmemi_probe_sev(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int r;

	if (vm->fd < 0)
		return no_vm(row);
	r = gmemi_sys_ioctl(vm->fd, KVMI_MEMORY_ENCRYPT_OP, NULL);
	return r == 0 ? gmemi_present(row) : gmemi_from_error(row, r < 0 ? r : -ENOTTY, NULL);
}
