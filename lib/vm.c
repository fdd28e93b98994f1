/* SPDX-License-Identifier: MIT */
#include "vm.h"

#include <sys/mman.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "sys.h"
#include "uapi/kvm.h"

#define ALIVE 0x676d656du

bool gmemi_vm_forked(const struct gmem_vm *vm)
{
	return *vm->alive != ALIVE;
}

void gmemi_vm_lock(struct gmem_vm *vm)
{
	if (!gmemi_vm_forked(vm))
		pthread_mutex_lock(&vm->lock);
}

void gmemi_vm_unlock(struct gmem_vm *vm)
{
	if (!gmemi_vm_forked(vm))
		pthread_mutex_unlock(&vm->lock);
}

int gmemi_vm_check(const struct gmem_vm *vm)
{
	if (!vm)
		return gmemi_refuse(-EINVAL, "the VM is NULL");
	if (gmemi_vm_forked(vm))
		return gmemi_refuse(-ESTALE, "the handle was made before fork: open a new one in the child");
	return 0;
}

/* A page that reads 0 in a forked child: telling a child apart costs a load, not a system call. */
static int mark_alive(struct gmem_vm *vm)
{
	void *page;
	int r = gmemi_sys_map(NULL, gmemi_sys_page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &page);

	if (r < 0)
		return gmemi_failed(r, "mmap() of one page", NULL);
	r = gmemi_sys_advise(page, gmemi_sys_page_size(), MADV_WIPEONFORK);
	if (r < 0) {
		gmemi_sys_unmap(page, gmemi_sys_page_size());
		return gmemi_failed(r, "madvise(MADV_WIPEONFORK)", "needs kernel 4.14");
	}
	*(uint32_t *)page = ALIVE;
	vm->alive = page;
	return 0;
}

static void unmark_alive(struct gmem_vm *vm)
{
	gmemi_sys_unmap((void *)(uintptr_t)vm->alive, gmemi_sys_page_size());
}

/* The VM's own handler copies the argument of this call first; every other kind of fd says something else. */
static int check_vm_fd(int fd)
{
	int r = gmemi_sys_ioctl_known(fd, KVMI_SET_USER_MEMORY_REGION);

	switch (r) {
	case -EFAULT:
		return 0;
	case -EIO:
		return gmemi_failed(r, "asking the VM fd", "KVM answers only the process that made the VM");
	case -ENOTTY:
	case -EINVAL:
		return gmemi_refuse(-EINVAL, "fd %d is not a VM: pass what KVM_CREATE_VM returned, or -1", fd);
	default:
		return gmemi_failed(r < 0 ? r : -EIO, "asking the VM fd", NULL);
	}
}

static int take_fd(struct gmem_vm *vm, int vm_fd)
{
	int r;

	vm->fd = -1;
	if (vm_fd == -1)
		return 0;
	r = check_vm_fd(vm_fd);
	if (r < 0)
		return r;
	vm->fd = gmemi_sys_dup(vm_fd);
	return vm->fd < 0 ? gmemi_failed(vm->fd, "duplicating the VM fd", NULL) : 0;
}

static int check_opts(const struct gmem_vm_open_opts *opts)
{
	int r = gmemi_opts_flags(opts->flags, GMEM_VM_RFC_IOCTLS, "opts->flags");

	if (r < 0)
		return r;
	if (opts->kind > GMEM_VM_PKVM)
		return gmemi_refuse(-EINVAL, "opts->kind %u is unknown", opts->kind);
	return gmemi_opts_reserved(opts->reserved);
}

static int set_up(struct gmem_vm *vm, int vm_fd, const struct gmem_vm_open_opts *opts)
{
	int r = take_fd(vm, vm_fd);

	if (r < 0)
		return r;
	r = mark_alive(vm);
	if (r < 0) {
		gmemi_sys_close(vm->fd);
		return r;
	}
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->slots_lock, NULL);
	atomic_init(&vm->claims, 1);
	vm->flags = opts->flags;
	vm->kind = opts->kind;
	return 0;
}

int gmem_vm_open(int vm_fd, struct gmem_vm **result, const struct gmem_vm_open_opts *opts)
{
	struct gmem_vm_open_opts o;
	struct gmem_vm *vm;
	int r;

	GMEMI_CALL();
	if (!result)
		return gmemi_refuse(-EINVAL, "vm is NULL");
	if (vm_fd < -1)
		return gmemi_refuse(-EINVAL, "vm_fd is %d: pass a VM fd, or -1 for none", vm_fd);
	r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = check_opts(&o);
	if (r < 0)
		return r;
	vm = gmemi_alloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	r = set_up(vm, vm_fd, &o);
	if (r < 0)
		gmemi_free(vm);
	else
		*result = vm;
	return r;
}

void gmem_vm_close(struct gmem_vm *vm)
{
	GMEMI_CALL();
	if (vm)
		gmemi_vm_release(vm);
}

void gmemi_vm_claim(struct gmem_vm *vm)
{
	atomic_fetch_add_explicit(&vm->claims, 1, memory_order_relaxed);
}

static void end(struct gmem_vm *vm)
{
	unmark_alive(vm);
	gmemi_sys_close(vm->fd);
	pthread_mutex_destroy(&vm->lock);
	pthread_mutex_destroy(&vm->slots_lock);
	gmemi_free(vm);
}

void gmemi_vm_release(struct gmem_vm *vm)
{
	if (atomic_fetch_sub_explicit(&vm->claims, 1, memory_order_acq_rel) == 1)
		end(vm);
}

void gmemi_vm_add_vcpu(struct gmem_vm *vm, struct gmemi_vcpu_entry *entry)
{
	gmemi_vm_lock(vm);
	entry->next = vm->vcpus;
	vm->vcpus = entry;
	gmemi_vm_unlock(vm);
}

void gmemi_vm_remove_vcpu(struct gmem_vm *vm, struct gmemi_vcpu_entry *entry)
{
	struct gmemi_vcpu_entry **link = &vm->vcpus;

	gmemi_vm_lock(vm);
	while (*link != entry)
		link = &(*link)->next;
	*link = entry->next;
	gmemi_vm_unlock(vm);
}

int gmemi_vm_borrow_vcpu(struct gmem_vm *vm, uint32_t index)
{
	const struct gmemi_vcpu_entry *vcpu;
	int fd;

	gmemi_vm_lock(vm);
	vcpu = vm->vcpus;
	while (vcpu && index--)
		vcpu = vcpu->next;
	fd = vcpu ? gmemi_sys_dup(vcpu->fd) : -ENOENT;
	gmemi_vm_unlock(vm);
	return fd;
}
