/* SPDX-License-Identifier: MIT */
/* Memory around a file that was made elsewhere. */
#include "memory.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "range.h"
#include "sys.h"
#include "uapi/kvm.h"
#include "uapi/mman.h"
#include "vm_chain.h"

#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6
#define ANON_INODE_MAGIC 0x09041934

/* Before guest_memfd had a file system of its own only the name tells it from other anonymous files. */
static int backing_by_name(int fd)
{
	char name[40];
	int r = gmemi_sys_name(fd, name, sizeof(name));

	if (r < 0)
		return gmemi_failed(r, "reading the name of the file in /proc/self/fd", "is /proc mounted?");
	return strcmp(name, "anon_inode:[kvm-gmem]") == 0 ? GMEM_BACKING_GUEST_MEMFD : GMEM_BACKING_AUTO;
}

static int backing_by_magic(int fd, int64_t magic)
{
	switch (magic) {
	case TMPFS_MAGIC:
		return GMEM_BACKING_MEMFD;
	case HUGETLBFS_MAGIC:
		return GMEM_BACKING_HUGETLB;
	case KVMI_GUEST_MEMFD_MAGIC:
		return GMEM_BACKING_GUEST_MEMFD;
	case ANON_INODE_MAGIC:
		return backing_by_name(fd);
	default:
		return GMEM_BACKING_AUTO;
	}
}

static int find_backing(struct gmem *mem, int fd, struct gmemi_file *about)
{
	int r = gmemi_sys_describe(fd, about);
	int64_t magic;

	if (r < 0)
		return gmemi_failed(r, "fstat() of the file", NULL);
	magic = gmemi_sys_magic(fd);
	if (magic < 0)
		return gmemi_failed((int)magic, "fstatfs() of the file", NULL);
	r = about->type == GMEMI_FILE_REGULAR ? backing_by_magic(fd, magic) : GMEM_BACKING_AUTO;
	if (r < 0)
		return r;
	mem->backing = (enum gmem_backing)r;
	if (mem->backing == GMEM_BACKING_AUTO)
		return gmemi_refuse(-EINVAL, "fd %d is no guest_memfd, memfd, or file on tmpfs or hugetlbfs", fd);
	return 0;
}

static enum gmem_mechanism mechanism_of(enum gmem_backing backing)
{
	switch (backing) {
	case GMEM_BACKING_GUEST_MEMFD:
		return GMEM_MECH_GUEST_MEMFD;
	case GMEM_BACKING_HUGETLB:
		return GMEM_MECH_HUGETLB;
	default:
		return GMEM_MECH_MEMFD;
	}
}

/* Where every write goes to the end of the file, pwrite() writes there too, whatever its offset. */
static int check_access(int fd)
{
	int flags = gmemi_sys_open_flags(fd);

	if (flags < 0)
		return gmemi_failed(flags, "asking how the file was opened", NULL);
	if (flags & O_APPEND)
		return gmemi_refuse(-EINVAL, "fd %d is open for appending (O_APPEND)", fd);
	return (flags & O_ACCMODE) == O_RDWR ? 0 : gmemi_refuse(-EINVAL, "fd %d is not open for reading and writing", fd);
}

/* A guest_memfd cannot change its size, and takes no seals. */
static int check_seals(const struct gmem *mem, int fd, uint64_t flags)
{
	int seals = mem->backing == GMEM_BACKING_GUEST_MEMFD ? F_SEAL_SHRINK : gmemi_sys_seals(fd);

	if (seals == -EINVAL)
		seals = 0;
	if (seals < 0)
		return gmemi_failed(seals, "asking for the seals", NULL);
	if (seals & (F_SEAL_WRITE | MMANI_SEAL_FUTURE_WRITE))
		return gmemi_refuse(-EINVAL, "fd %d is sealed against writing", fd);
	if (!(seals & F_SEAL_SHRINK) && !(flags & GMEM_IMPORT_UNSEALED))
		return gmemi_refuse(-EINVAL, "fd %d could be cut short: add F_SEAL_SHRINK, or say GMEM_IMPORT_UNSEALED", fd);
	return 0;
}

static uint64_t huge_need(uint64_t page_size)
{
	switch (page_size) {
	case UINT64_C(2) << 20:
		return GMEM_NEED_HUGE_2M;
	case UINT64_C(1) << 30:
		return GMEM_NEED_HUGE_1G;
	default:
		return 0;
	}
}

static int find_page_size(struct gmem *mem, const struct gmemi_file *about)
{
	const uint64_t huge = GMEM_NEED_HUGE_2M | GMEM_NEED_HUGE_1G;
	uint64_t has = mem->backing == GMEM_BACKING_HUGETLB ? huge_need(about->block_size) : 0;

	if (mem->backing == GMEM_BACKING_HUGETLB)
		mem->page_size = about->block_size;
	else
		mem->page_size = gmemi_sys_page_size();
	if (mem->need & huge & ~has)
		return gmemi_refuse(-EOPNOTSUPP, "the file has pages of 0x%llx bytes", (unsigned long long)mem->page_size);
	mem->need |= has;
	return 0;
}

static int find_length(struct gmem *mem, const struct gmemi_file *about)
{
	if (!mem->length)
		mem->length = about->size;
	return gmemi_range_check(0, mem->length, mem->page_size, about->size);
}

/* A guest_memfd shows what it was created for only when it is mapped and touched: populating tells, where a touch would be
 * SIGBUS. */
static int try_touch(int fd)
{
	uint64_t size = gmemi_sys_page_size();
	void *page;
	int r = gmemi_sys_map(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &page);

	if (r == -ENODEV)
		return gmemi_refuse(-EOPNOTSUPP,
				    "this guest_memfd was created without GUEST_MEMFD_FLAG_MMAP: it cannot be mapped");
	if (r < 0)
		return gmemi_failed(r, "mmap() of one page", NULL);
	r = gmemi_sys_advise(page, size, MMANI_MADV_POPULATE_WRITE);
	gmemi_sys_unmap(page, size);
	if (r == -EFAULT)
		return gmemi_refuse(-EOPNOTSUPP, "the host cannot touch this guest_memfd: its pages are private");
	return r < 0 ? gmemi_failed(r, "madvise(MADV_POPULATE_WRITE)", NULL) : 0;
}

static int check_needs(struct gmem *mem, int fd)
{
	uint64_t by_feature = mem->need & (GMEM_NEED_PRIVATE | GMEM_NEED_LAZY);
	int r = by_feature ? gmemi_chain_serves(mem->vm, mem->mechanism, by_feature) : 0;

	if (r < 0)
		return r;
	return mem->backing == GMEM_BACKING_GUEST_MEMFD && gmemi_memory_mappable(mem) ? try_touch(fd) : 0;
}

/* The file, but for what it is needed for. */
static int take_file(struct gmem *mem, int fd, uint64_t flags)
{
	struct gmemi_file about;
	int r = find_backing(mem, fd, &about);

	if (r == 0)
		r = check_access(fd);
	if (r == 0)
		r = check_seals(mem, fd, flags);
	if (r == 0)
		r = find_page_size(mem, &about);
	if (r == 0)
		r = find_length(mem, &about);
	mem->mechanism = mechanism_of(mem->backing);
	return r;
}

static int keep(struct gmem *mem, int fd)
{
	mem->fd = gmemi_sys_dup(fd);
	if (mem->fd < 0)
		return gmemi_failed(mem->fd, "duplicating the fd", NULL);
	mem->exposed = true;
	mem->imported = true;
	return 0;
}

static int take(struct gmem *mem, int fd, uint64_t flags)
{
	int r = take_file(mem, fd, flags);

	if (r == 0)
		r = check_needs(mem, fd);
	if (r == 0)
		r = keep(mem, fd);
	return r < 0 ? r : gmemi_memory_add_map(mem);
}

static int take_peers(struct gmem *mem, int fd, int map_fd)
{
	int r = take_file(mem, fd, 0);

	if (r == 0)
		r = keep(mem, fd);
	if (r < 0 || map_fd < 0)
		return r < 0 ? r : gmemi_memory_add_map(mem);
	atomic_store(&mem->map_lent, true);
	return gmemi_pagemap_open(map_fd, mem->length / mem->page_size, &mem->map);
}

int gmemi_memory_import_peer(struct gmem_vm *vm, int fd, uint64_t length, int map_fd, struct gmem **result)
{
	struct gmem *mem = gmemi_memory_new(vm, length, GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY);
	int r;

	if (!mem)
		return -ENOMEM;
	r = take_peers(mem, fd, map_fd);
	if (r < 0) {
		gmemi_memory_free(mem);
		return r;
	}
	*result = mem;
	return 0;
}

static int check_opts(struct gmem_import_opts *opts)
{
	int r = gmemi_need_check(&opts->need, GMEM_BACKING_AUTO);

	if (r == 0)
		r = gmemi_opts_flags(opts->flags, GMEM_IMPORT_UNSEALED, "opts->flags");
	if (r == 0 && opts->need & GMEM_NEED_HIDDEN)
		r = gmemi_refuse(-EOPNOTSUPP, "whether a file is out of the host's direct map cannot be seen");
	return r;
}

int gmem_import(struct gmem_vm *vm, int fd, uint64_t length, struct gmem **result, const struct gmem_import_opts *opts)
{
	struct gmem_import_opts o;
	struct gmem *mem;
	int r;

	GMEMI_CALL();
	r = gmemi_vm_check(vm);
	if (r < 0)
		return r;
	if (!result)
		return gmemi_refuse(-EINVAL, "mem is NULL");
	r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = check_opts(&o);
	if (r < 0)
		return r;
	mem = gmemi_memory_new(vm, length, o.need);
	if (!mem)
		return -ENOMEM;
	r = take(mem, fd, o.flags);
	if (r < 0) {
		gmemi_memory_free(mem);
		return r;
	}
	*result = mem;
	return 0;
}
