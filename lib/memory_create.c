/* SPDX-License-Identifier: MIT */
/* The chain of ways to create memory. */
#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "err.h"
#include "sys.h"
#include "uapi/kvm.h"
#include "uapi/mman.h"
#include "vm_chain.h"

/* Nobody who gets the fd later can shrink it under a guest, or add seals. */
static int make_memfd(struct gmem *mem, const char *name, unsigned int flags, int *result)
{
	int fd = gmemi_sys_memfd(name, flags), r;

	if (fd < 0)
		return gmemi_failed(fd, "memfd_create()", NULL);
	r = gmemi_sys_resize(fd, mem->length);
	if (r == 0)
		r = gmemi_sys_seal(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (r < 0) {
		gmemi_sys_close(fd);
		return gmemi_failed(r, "sizing and sealing the memfd", NULL);
	}
	*result = fd;
	return 0;
}

static int make_hugetlb(struct gmem *mem, const char *name)
{
	return make_memfd(mem, name, MFD_HUGETLB | (unsigned int)__builtin_ctzll(mem->page_size) << MMANI_MFD_HUGE_SHIFT, &mem->fd);
}

/* Is it there? 1, 0, or why that cannot be said now: a shortage must not make a lesser memory. */
static int ask(struct gmem_vm *vm, enum gmem_feature feature)
{
	struct gmemi_verdict verdict = gmemi_vm_verdict(vm, feature);

	if (verdict.state == GMEM_UNDETERMINED && verdict.error)
		return gmemi_failed(verdict.error, verdict.facility, verdict.hint);
	return verdict.state == GMEM_PRESENT;
}

/* On a VM without private memory only a file that can be mapped serves the guest from the file (virt/kvm/guest_memfd.c), so
 * memory that the host shall not map is mappable too, and not shared. */
static int access_flags(struct gmem *mem, uint64_t *flags)
{
	int r;

	*flags = 0;
	if (mem->need & (GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY)) {
		*flags = KVMI_GUEST_MEMFD_MMAP | KVMI_GUEST_MEMFD_INIT_SHARED;
		return 0;
	}
	if (mem->need & GMEM_NEED_PRIVATE)
		return 0;
	r = ask(mem->vm, GMEM_FEATURE_GUEST_MEMFD_MMAP);
	if (r > 0)
		*flags = KVMI_GUEST_MEMFD_MMAP;
	return r < 0 ? r : 0;
}

static int make_guest_memfd(struct gmem *mem, uint64_t flags)
{
	mem->fd = gmemi_sys_guest_memfd(mem->vm->fd, mem->length, flags);
	return mem->fd < 0 ? gmemi_failed(mem->fd, "KVM_CREATE_GUEST_MEMFD", NULL) : 0;
}

static int make_alone(struct gmem *mem)
{
	uint64_t flags;
	int r = access_flags(mem, &flags);

	if (r < 0)
		return r;
	if (mem->need & GMEM_NEED_HIDDEN)
		flags |= KVMI_GUEST_MEMFD_BIT2;
	if (flags) {
		r = ask(mem->vm, GMEM_FEATURE_GUEST_MEMFD_WRITE);
		flags |= r > 0 ? mem->vm->write_flag : 0;
	}
	return r < 0 ? r : make_guest_memfd(mem, flags);
}

static int make_pair(struct gmem *mem, const char *name)
{
	int r = make_guest_memfd(mem, 0);

	if (r < 0)
		return r;
	r = make_memfd(mem, name, 0, &mem->shared_fd);
	if (r < 0) {
		gmemi_sys_close(mem->fd);
		mem->fd = -1;
	}
	return r;
}

static int make_by(struct gmem *mem, enum gmem_mechanism mechanism, const char *name)
{
	switch (mechanism) {
	case GMEM_MECH_GUEST_MEMFD:
		return make_alone(mem);
	case GMEM_MECH_GUEST_MEMFD_PAIR:
		return make_pair(mem, name);
	case GMEM_MECH_HUGETLB:
		return make_hugetlb(mem, name);
	default:
		return make_memfd(mem, name, 0, &mem->fd);
	}
}

static void note_choice(struct gmem *mem, const struct gmemi_chain_row *row)
{
	mem->mechanism = row->mechanism;
	mem->backing = gmemi_backing_of(row->mechanism);
	gmemi_note(GMEM_LOG_INFO, "gmem_create: %llu bytes on %s", (unsigned long long)mem->length,
		  gmem_mechanism_name(row->mechanism));
}

int gmemi_memory_make(struct gmem *mem, enum gmem_backing backing, const char *name)
{
	struct gmemi_wish wish = { .need = mem->need, .backing = backing };
	const struct gmemi_chain_row *row = NULL;
	int shortage = 0;

	while ((row = gmemi_chain_pick_for_good(mem->vm, GMEM_TASK_CREATE, &wish, row, &shortage))) {
		int r = make_by(mem, row->mechanism, name);

		if (r == 0)
			note_choice(mem, row);
		if (r == 0 || !gmemi_chain_demote(mem->vm, row, r))
			return r;
	}
	return shortage ? shortage : gmemi_chain_refuse(mem->vm, GMEM_TASK_CREATE, &wish);
}
