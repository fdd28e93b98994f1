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
#include "vm_probe.h"

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

/* On a VM without private memory only a file that can be mapped serves the guest from the file (virt/kvm/guest_memfd.c), so memory
 * that the host shall not map is mappable too, and not shared. */
static uint64_t guest_memfd_flags(struct gmem *mem)
{
	uint64_t flags = 0;

	if (mem->need & GMEM_NEED_MAPPABLE)
		flags = KVMI_GUEST_MEMFD_MMAP | KVMI_GUEST_MEMFD_INIT_SHARED;
	else if (!(mem->need & GMEM_NEED_PRIVATE) && gmemi_vm_has(mem->vm, GMEM_FEATURE_GUEST_MEMFD_MMAP))
		flags = KVMI_GUEST_MEMFD_MMAP;
	if (mem->need & GMEM_NEED_HIDDEN)
		flags |= gmemi_vm_hidden_flag(mem->vm);
	return flags ? flags | gmemi_vm_write_flag(mem->vm) : 0;
}

static int make_guest_memfd(struct gmem *mem, uint64_t flags)
{
	mem->fd = gmemi_sys_guest_memfd(mem->vm->fd, mem->length, flags);
	return mem->fd < 0 ? gmemi_failed(mem->fd, "KVM_CREATE_GUEST_MEMFD", NULL) : 0;
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
		return make_guest_memfd(mem, guest_memfd_flags(mem));
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

	while ((row = gmemi_chain_pick(mem->vm, GMEM_TASK_CREATE, &wish, row))) {
		int r = make_by(mem, row->mechanism, name);

		if (r == 0)
			note_choice(mem, row);
		if (r == 0 || !gmemi_chain_demote(mem->vm, row, r))
			return r;
	}
	return gmemi_chain_refuse(mem->vm, GMEM_TASK_CREATE, &wish);
}
