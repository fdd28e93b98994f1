/* SPDX-License-Identifier: MIT */
#include "memory.h"

#include <string.h>

#include "alloc.h"
#include "err.h"
#include "gate.h"
#include "opts.h"
#include "range.h"
#include "sys.h"
#include "vm_chain.h"

#define LONGEST (UINT64_C(1) << 62)
#define LONGEST_NAME 200

int gmemi_memory_check(const struct gmem *mem)
{
	return mem ? gmemi_vm_check(mem->vm) : gmemi_refuse(-EINVAL, "the memory is NULL");
}

int gmemi_memory_shared_fd(const struct gmem *mem)
{
	return mem->shared_fd >= 0 ? mem->shared_fd : mem->fd;
}

enum gmem_backing gmemi_memory_shared_backing(const struct gmem *mem)
{
	return mem->shared_fd >= 0 ? GMEM_BACKING_MEMFD : mem->backing;
}

bool gmemi_memory_mappable(const struct gmem *mem)
{
	return mem->need & (GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY) || gmemi_memory_shared_backing(mem) != GMEM_BACKING_GUEST_MEMFD;
}

static int check_opts(struct gmem_create_opts *opts)
{
	int r = gmemi_need_check(&opts->need, (enum gmem_backing)opts->backing);

	if (r == 0)
		r = gmemi_opts_flags(opts->flags, 0, "opts->flags");
	if (r == 0)
		r = gmemi_opts_reserved(opts->reserved);
	if (r < 0)
		return r;
	if (opts->name && strnlen(opts->name, LONGEST_NAME + 1) > LONGEST_NAME)
		return gmemi_refuse(-EINVAL, "opts->name is longer than %d bytes", LONGEST_NAME);
	return 0;
}

static uint64_t page_size_for(uint64_t need)
{
	if (need & GMEM_NEED_HUGE_1G)
		return UINT64_C(1) << 30;
	return need & GMEM_NEED_HUGE_2M ? UINT64_C(2) << 20 : gmemi_sys_page_size();
}

static int check_length(uint64_t length, uint64_t page_size)
{
	if (length == 0 || length > LONGEST || !gmemi_aligned(length, page_size))
		return gmemi_refuse(-EINVAL, "the length 0x%llx is 0, above 2^62 or not a multiple of the page size 0x%llx",
				    (unsigned long long)length, (unsigned long long)page_size);
	return 0;
}

static void close_files(struct gmem *mem)
{
	gmemi_sys_close(mem->fd);
	gmemi_sys_close(mem->shared_fd);
	gmemi_pagemap_destroy(mem->map);
}

int gmemi_memory_add_map(struct gmem *mem)
{
	return mem->need & GMEM_NEED_LAZY ? gmemi_pagemap_create(mem->length / mem->page_size, &mem->map) : 0;
}

struct gmem *gmemi_memory_new(struct gmem_vm *vm, uint64_t length, uint64_t need)
{
	struct gmem *mem = gmemi_alloc(1, sizeof(*mem));

	if (!mem)
		return NULL;
	mem->vm = vm;
	mem->fd = -1;
	mem->shared_fd = -1;
	mem->length = length;
	mem->need = need;
	mem->page_size = page_size_for(need);
	gmemi_lock_begin(&mem->lock);
	gmemi_claims_begin(&mem->content);
	gmemi_vm_claim(vm);
	return mem;
}

void gmemi_memory_free(struct gmem *mem)
{
	struct gmem_vm *vm = mem->vm;

	gmemi_mapping_end(mem);
	close_files(mem);
	gmemi_free(mem);
	gmemi_vm_release(vm);
}

static int create(struct gmem_vm *vm, uint64_t length, struct gmem **result, struct gmem_create_opts *opts)
{
	struct gmem *mem;
	int r = check_opts(opts);

	if (r == 0)
		r = check_length(length, page_size_for(opts->need));
	if (r < 0)
		return r;
	mem = gmemi_memory_new(vm, length, opts->need);
	if (!mem)
		return -ENOMEM;
	r = gmemi_memory_make(mem, (enum gmem_backing)opts->backing, opts->name ? opts->name : "gmem");
	if (r == 0)
		r = gmemi_memory_add_map(mem);
	if (r < 0) {
		gmemi_memory_free(mem);
		return r;
	}
	*result = mem;
	return 0;
}

int gmem_create(struct gmem_vm *vm, uint64_t length, struct gmem **mem, const struct gmem_create_opts *opts)
{
	struct gmem_create_opts o;
	int r;

	GMEMI_CALL();
	r = gmemi_vm_check(vm);
	if (r < 0)
		return r;
	if (!mem)
		return gmemi_refuse(-EINVAL, "mem is NULL");
	r = GMEMI_OPTS_IN(o, opts);
	return r < 0 ? r : create(vm, length, mem, &o);
}

void gmem_destroy(struct gmem *mem)
{
	GMEMI_CALL();
	if (!mem)
		return;
	gmemi_slots_end(mem);
	if (mem->watch)
		mem->watch->leave(mem->watch);
	gmemi_memory_free(mem);
}

static bool is_in_place(const struct gmem *mem)
{
	return mem->need & GMEM_NEED_PRIVATE && mem->shared_fd < 0;
}

int gmem_query(const struct gmem *mem, struct gmem_info *info)
{
	struct gmem_info now;
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r == 0)
		r = gmemi_info_check(info, "info");
	if (r < 0)
		return r;
	now = (struct gmem_info){
		.length = mem->length,
		.page_size = mem->page_size,
		.need = mem->need,
		.populated = atomic_load(&mem->populated),
		.skipped = atomic_load(&mem->skipped),
		.backing = mem->backing,
		.mechanism = mem->mechanism,
		.populate_mechanism = atomic_load(&mem->populate_mechanism),
		.slots = atomic_load(&mem->slots),
		.in_place = is_in_place(mem),
		.prefault_mechanism = atomic_load(&mem->prefault_mechanism),
	};
	gmemi_info_out(info, &now, sizeof(now));
	return 0;
}

static int find_fd(const struct gmem *mem, enum gmem_fd_kind kind)
{
	switch (kind) {
	case GMEM_FD_MEMORY:
		return mem->fd;
	case GMEM_FD_SHARED_HALF:
		return mem->shared_fd >= 0 ? mem->shared_fd : gmemi_refuse(-ENOENT, "this memory is not a pair of files");
	case GMEM_FD_PAGE_MAP:
		return mem->map ? gmemi_pagemap_fd(mem->map)
				: gmemi_refuse(-ENOENT, "only memory created with GMEM_NEED_LAZY has a page map");
	default:
		return gmemi_refuse(-EINVAL, "fd kind %d is unknown", (int)kind);
	}
}

int gmem_get_fd(const struct gmem *mem, enum gmem_fd_kind kind)
{
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r == 0)
		r = find_fd(mem, kind);
	if (r >= 0 && kind == GMEM_FD_PAGE_MAP)
		atomic_store(&((struct gmem *)(uintptr_t)mem)->map_lent, true);
	if (r >= 0 && kind != GMEM_FD_PAGE_MAP)
		gmemi_memory_expose((struct gmem *)(uintptr_t)mem); /* const to the caller: what it says of the memory stays the same */
	return r;
}

const char *gmem_backing_name(enum gmem_backing backing)
{
	static const char *const names[] = {
		[GMEM_BACKING_AUTO] = "auto",
		[GMEM_BACKING_GUEST_MEMFD] = "guest_memfd",
		[GMEM_BACKING_MEMFD] = "memfd",
		[GMEM_BACKING_HUGETLB] = "hugetlb",
	};
	size_t index = (size_t)backing;

	return index < sizeof(names) / sizeof(names[0]) ? names[index] : "unknown";
}
