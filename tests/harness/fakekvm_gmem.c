/* SPDX-License-Identifier: MIT */
/* guest_memfd: what the file says where a memfd would say something else, and which mappings are of it. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fakekvm_int.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define ANON_INODE_MAGIC 0x09041934 /* what guest_memfds stood on before they had a file system */
#define HUGE (UINT64_C(1) << 62)

static struct mapping {
	struct mapping *next;
	uint64_t start;
	uint64_t end;
	const struct fake_object *gmem;
} *mappings;

static uint64_t low(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static const struct fake_object *find_gmem(int fd)
{
	const struct fake_object *object = fd < 0 ? NULL : fake_find(fd);

	return object && object->kind == FAKE_GMEM ? object : NULL;
}

static bool takes_writes(const struct fake_object *gmem)
{
	return gmem->config->gmem_write != 0;
}

/* Creation */

/* No close-on-exec, as in every kernel so far. */
long fake_create_guest_memfd(struct fake_object *vm, void *argument)
{
	const struct kvmi_create_guest_memfd *create = argument;
	struct fake_object *gmem;
	int fd;

	if ((create->flags & ~vm->config->gmem_flags) || (int64_t)create->size <= 0 || (create->size & (fake_page() - 1)))
		return -EINVAL;
	fd = fake_make(FAKE_GMEM, 0, vm->config, &gmem);
	if (fd < 0)
		return fd;
	if (fchmod(fd, 0600)) /* the kernel asks it before it tells others about pages */
		fake_misused("fchmod() of a memfd failed");
	gmem->vm = vm;
	gmem->size = create->size;
	gmem->flags = create->flags;
	if (__real_ftruncate(fd, (off_t)create->size))
		fake_misused("a memfd of %#llx bytes cannot be made", (unsigned long long)create->size);
	return fd;
}

/* Mappings */

static void add_mapping(uint64_t start, uint64_t end, const struct fake_object *gmem)
{
	struct mapping *mapping = __real_calloc(1, sizeof(*mapping));

	if (!mapping)
		fake_misused("no memory for a mapping");
	*mapping = (struct mapping){ mappings, start, end, gmem };
	mappings = mapping;
}

/* Cuts [start, end) out of one mapping: what is left of it on either side stays. */
static void cut(struct mapping **link, uint64_t start, uint64_t end)
{
	struct mapping old = **link;

	__real_free(*link);
	*link = old.next;
	if (old.start < start)
		add_mapping(old.start, start, old.gmem);
	if (end < old.end)
		add_mapping(end, old.end, old.gmem);
}

static struct mapping **first_overlap(uint64_t start, uint64_t end)
{
	struct mapping **link = &mappings;

	while (*link && ((*link)->start >= end || (*link)->end <= start))
		link = &(*link)->next;
	return *link ? link : NULL;
}

static void forget_range(uint64_t start, uint64_t end)
{
	struct mapping **link;

	while (start < end && (link = first_overlap(start, end)))
		cut(link, start, end);
}

void fake_forget_mappings(void)
{
	forget_range(0, UINT64_MAX);
}

const struct fake_object *fake_mapped_at(uint64_t address)
{
	struct mapping **link = first_overlap(address, address + 1);

	return link ? (*link)->gmem : NULL;
}

void fake_unmapped(const void *address, size_t length)
{
	uint64_t start = (uint64_t)(uintptr_t)address;

	if (!fake_enabled())
		return;
	fake_lock();
	forget_range(start, (start + length + fake_page() - 1) & ~(fake_page() - 1));
	fake_unlock();
}

void fake_mapped(void *address, size_t length, int fd)
{
	uint64_t start = (uint64_t)(uintptr_t)address;
	const struct fake_object *gmem;

	if (!fake_enabled())
		return;
	fake_unmapped(address, length); /* MAP_FIXED replaces */
	fake_lock();
	gmem = find_gmem(fd);
	if (gmem)
		add_mapping(start, start + length, gmem);
	fake_unlock();
}

static long check_mmap(const struct fake_object *gmem, int *protection, int flags)
{
	long scripted = fake_scripted("mmap");

	if (scripted)
		return scripted;
	if (*protection & PROT_EXEC)
		return -EPERM;
	if (!(gmem->flags & KVMI_GUEST_MEMFD_MMAP))
		return -ENODEV;
	if (!(flags & MAP_SHARED) || (flags & MAP_HUGETLB))
		return -EINVAL;
	/* The host may map it, not touch it. The signal is another one than the kernel's. */
	if (!(gmem->flags & KVMI_GUEST_MEMFD_INIT_SHARED))
		*protection = PROT_NONE;
	return FAKE_NOT_MINE;
}

/* An entry from wrap.c that is about a guest_memfd runs between these two. NULL: it is not, and nothing is held. */
static const struct fake_object *begin(int fd)
{
	const struct fake_object *gmem;

	if (!fake_enabled())
		return NULL;
	fake_lock();
	gmem = find_gmem(fd);
	if (!gmem)
		fake_unlock();
	return gmem;
}

static long end(long result)
{
	fake_unlock();
	return result;
}

long fake_mmap(int *protection, int flags, int fd)
{
	const struct fake_object *gmem = begin(flags & MAP_ANONYMOUS ? -1 : fd);

	return gmem ? end(check_mmap(gmem, protection, flags)) : FAKE_NOT_MINE;
}

/* The kernel populates through the page tables: not where the host may not touch, nor what is not in the direct map. */
static bool populates(int advice)
{
	return advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
}

static bool host_touches(const struct fake_object *gmem)
{
	return (gmem->flags & KVMI_GUEST_MEMFD_INIT_SHARED) && !(gmem->flags & gmem->config->gmem_no_direct_map);
}

static long advise(const struct fake_object *gmem, void *address, size_t length, int advice)
{
	uint64_t most = HUGE;
	int error = 0;
	long scripted = fake_scripted_limit("madvise", &most, &error);

	if (scripted)
		return scripted;
	if (populates(advice) && !host_touches(gmem))
		return -EFAULT;
	if (advice == MADV_FREE || advice == MADV_WIPEONFORK)
		return -EINVAL;
	if (most == HUGE)
		return FAKE_NOT_MINE;
	if (__real_madvise(address, low(most, length), advice))
		return -errno;
	return error ? -error : 0;
}

static const struct fake_object *gmem_under(const void *address)
{
	return mappings ? fake_mapped_at((uint64_t)(uintptr_t)address) : NULL;
}

static long or_mine(long scripted)
{
	return scripted ? scripted : FAKE_NOT_MINE;
}

long fake_madvise(void *address, size_t length, int advice)
{
	const struct fake_object *gmem;
	long result = FAKE_NOT_MINE;

	if (!fake_enabled())
		return result;
	fake_lock();
	gmem = gmem_under(address);
	if (gmem)
		result = advise(gmem, address, length, advice);
	fake_unlock();
	return result;
}

long fake_mincore(const void *address)
{
	long scripted = 0;

	if (!fake_enabled())
		return FAKE_NOT_MINE;
	fake_lock();
	if (gmem_under(address))
		scripted = fake_scripted("mincore");
	fake_unlock();
	return or_mine(scripted);
}

/* Before it had a file system of its own it took every policy, and ignored it. */
long fake_mbind(const void *address)
{
	const struct fake_object *gmem = gmem_under(address);
	long scripted = gmem ? fake_scripted("mbind") : 0;

	if (!gmem || scripted)
		return or_mine(scripted);
	return gmem->config->gmem_magic ? FAKE_NOT_MINE : 0;
}

/* The file */

static long allocate(const struct fake_object *gmem, int fd, int mode, off_t offset, off_t length)
{
	uint64_t most = HUGE, end = (uint64_t)offset + (uint64_t)length;
	bool punches = mode & FALLOC_FL_PUNCH_HOLE;
	int error = 0;
	long scripted = fake_scripted_limit("fallocate", &most, &error);

	if (scripted)
		return scripted;
	if (!(mode & FALLOC_FL_KEEP_SIZE) || (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)))
		return -EOPNOTSUPP;
	if (offset < 0 || length <= 0 || ((uint64_t)(offset | length) & (fake_page() - 1)))
		return -EINVAL;
	if (!punches && end > gmem->size)
		return -EINVAL;
	if (most == HUGE)
		return FAKE_NOT_MINE;
	if (most && __real_fallocate(fd, mode, offset, (off_t)low(most, (uint64_t)length)))
		return -errno;
	return error ? -error : 0;
}

long fake_fallocate(int fd, int mode, off_t offset, off_t length)
{
	const struct fake_object *gmem = begin(fd);

	return gmem ? end(allocate(gmem, fd, mode, offset, length)) : FAKE_NOT_MINE;
}

static long seek(const struct fake_object *gmem)
{
	long scripted = fake_scripted("lseek");

	return scripted || takes_writes(gmem) ? or_mine(scripted) : -ESPIPE;
}

long fake_lseek(int fd)
{
	const struct fake_object *gmem = begin(fd);

	return gmem ? end(seek(gmem)) : FAKE_NOT_MINE;
}

/* How much of a write begins before the first page that is there already: those have left the direct map. */
static uint64_t before_data(int fd, off_t offset, uint64_t length)
{
	off_t data = __real_lseek(fd, offset, SEEK_DATA);

	return data < 0 ? length : low(length, (uint64_t)(data - offset));
}

static long write_at(const struct fake_object *gmem, int fd, size_t *length, off_t offset)
{
	uint64_t most = *length, end = (uint64_t)offset + *length;
	int error = 0;
	long scripted;

	if (!takes_writes(gmem))
		return -ESPIPE;
	if (!(gmem->flags & gmem->config->gmem_write))
		return -ENODEV;
	if (offset < 0 || (((uint64_t)offset | *length) & (fake_page() - 1)) || end > gmem->size)
		return -EINVAL;
	scripted = fake_scripted_limit("pwrite", &most, &error);
	if (scripted || (!most && error))
		return scripted ? scripted : -error;
	if (gmem->flags & gmem->config->gmem_no_direct_map)
		most = low(most, before_data(fd, offset, *length));
	if (!most)
		return -EEXIST;
	*length = (size_t)most;
	return FAKE_NOT_MINE;
}

long fake_pwrite(int fd, size_t *length, off_t offset)
{
	const struct fake_object *gmem = begin(fd);

	return gmem ? end(write_at(gmem, fd, length, offset)) : FAKE_NOT_MINE;
}

long fake_read(int fd)
{
	return begin(fd) ? end(-EINVAL) : FAKE_NOT_MINE;
}

long fake_pread(int fd)
{
	const struct fake_object *gmem = begin(fd);

	return gmem ? end(takes_writes(gmem) ? -EINVAL : -ESPIPE) : FAKE_NOT_MINE;
}

/* No kernel's guest_memfd can be spliced, in or out. */
long fake_splice(int from, int to)
{
	long scripted;

	if (!begin(from) && !begin(to))
		return FAKE_NOT_MINE;
	scripted = fake_scripted("splice");
	return end(scripted ? scripted : -EINVAL);
}

/* The memfd below knows what is cached. */
long fake_cachestat(int fd)
{
	const struct fake_object *gmem = find_gmem(fd);
	long scripted = gmem ? fake_scripted("cachestat") : 0;

	if (!scripted && (gmem ? gmem->config : &fake_machine)->no_cachestat)
		return -ENOSYS;
	return or_mine(scripted);
}

static long name_of(const struct fake_object *gmem, char *name, size_t room)
{
	const char *text = gmem->config->gmem_magic ? "/[kvm-gmem] (deleted)" : "anon_inode:[kvm-gmem]";
	size_t length = low(strlen(text), room);
	long scripted = fake_scripted("readlink");

	if (scripted)
		return scripted;
	memcpy(name, text, length);
	return (long)length;
}

long fake_readlink(const char *path, char *name, size_t room)
{
	const struct fake_object *gmem;
	int fd, end_of_path = 0;

	if (sscanf(path, "/proc/self/fd/%d%n", &fd, &end_of_path) != 1 || path[end_of_path])
		return FAKE_NOT_MINE;
	gmem = begin(fd);
	return gmem ? end(name_of(gmem, name, room)) : FAKE_NOT_MINE;
}

long fake_ftruncate(int fd)
{
	return begin(fd) ? end(-EINVAL) : FAKE_NOT_MINE;
}

long fake_fcntl(int fd, int command)
{
	if (command != F_ADD_SEALS && command != F_GET_SEALS)
		return FAKE_NOT_MINE;
	return begin(fd) ? end(-EINVAL) : FAKE_NOT_MINE;
}

void fake_fstat(int fd, struct stat *about)
{
	if (!begin(fd))
		return;
	about->st_mode = S_IFREG | 0600;
	about->st_blocks = 0;
	about->st_blksize = (blksize_t)fake_page();
	end(0);
}

void fake_fstatfs(int fd, struct statfs *about)
{
	const struct fake_object *gmem = begin(fd);

	if (!gmem)
		return;
	about->f_type = gmem->config->gmem_magic ? KVMI_GUEST_MEMFD_MAGIC : ANON_INODE_MAGIC;
	end(0);
}
