/* SPDX-License-Identifier: MIT */
#include "handles.h"

#include <unistd.h>

#include "fakekvm.h"
#include "gt.h"

uint64_t page(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

struct gmem_vm *open_vm(int fd)
{
	struct gmem_vm *vm = NULL;

	assert_int_equal(gmem_vm_open(fd, &vm, NULL), 0);
	assert_non_null(vm);
	return vm;
}

struct gmem_vm *open_vm_for(uint32_t *backing)
{
	struct gmem_vm *vm;
	int fd;

	if (*backing != GMEM_BACKING_MEMFD || !gt_over_guest_memfd())
		return open_vm(-1);
	fd = gt_make_vm();
	vm = open_vm(fd);
	close(fd);
	*backing = GMEM_BACKING_GUEST_MEMFD;
	return vm;
}

struct gmem *make_pages(struct gmem_vm *vm, uint64_t pages)
{
	struct gmem *mem = NULL;

	assert_int_equal(gmem_create(vm, pages * page(), &mem, NULL), 0);
	return mem;
}

void make_vmless(struct gmem_vm **vm, struct gmem **mem, uint64_t length, const struct gmem_create_opts *opts)
{
	*vm = NULL;
	*mem = NULL;
	assert_int_equal(gmem_vm_open(-1, vm, NULL), 0);
	assert_int_equal(gmem_create(*vm, length, mem, opts), 0);
}

struct gmem_info info_of(const struct gmem *mem)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(mem, &info), 0);
	return info;
}

size_t slot_count(int vm_fd)
{
	struct fakekvm_slot first;

	return fakekvm_slots(vm_fd, &first, 1);
}
