/* SPDX-License-Identifier: MIT */
/* Probes that make a guest_memfd of one page, try something on it, and close it. The page is never allocated except where the
 * probe is about that; closing frees it. */
#include "vm_probe.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sys.h"
#include "uapi/kvm.h"
#include "uapi/mman.h"

#define SHARED (KVMI_GUEST_MEMFD_MMAP | KVMI_GUEST_MEMFD_INIT_SHARED)

static const char selinux_hint[] =
	"a security module refuses the file (SELinux: class anon_inode), or a seccomp filter the call";

static int flags_of(struct gmem_vm *vm)
{
	return gmemi_sys_ioctl_value(vm->fd, KVMI_CHECK_EXTENSION, KVMI_CAP_GUEST_MEMFD_FLAGS);
}

/* A file of one page, if the capability allows the flags: -EINVAL if not. */
static int trial_file(struct gmem_vm *vm, uint64_t flags)
{
	int allowed = flags_of(vm);

	if (allowed < 0)
		return allowed;
	if (flags & ~(uint64_t)(uint32_t)allowed)
		return -EINVAL;
	return gmemi_sys_guest_memfd(vm->fd, gmemi_sys_page_size(), flags);
}

static int map_page(int fd, void **page)
{
	return gmemi_sys_map(NULL, gmemi_sys_page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, page);
}

static int trial_mapping(struct gmem_vm *vm, uint64_t flags, void **page)
{
	int fd = trial_file(vm, flags), r;

	if (fd < 0)
		return fd;
	r = map_page(fd, page);
	gmemi_sys_close(fd);
	return r;
}

int gmemi_vm_trial_page(struct gmem_vm *vm, void **page)
{
	return trial_mapping(vm, SHARED, page);
}

/* Creation alone says little: a default VM of 6.12 creates the file and then cannot bind it. */
struct gmemi_verdict gmemi_probe_guest_memfd(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int r = gmemi_sys_ioctl_known(vm->fd, KVMI_CREATE_GUEST_MEMFD);

	if (r != -EFAULT)
		return gmemi_from_error(row, r < 0 ? r : -ENOTTY, NULL);
	r = gmemi_sys_ioctl_value(vm->fd, KVMI_CHECK_EXTENSION, KVMI_CAP_GUEST_MEMFD);
	if (r <= 0)
		return r < 0 ? gmemi_from_error(row, r, NULL) : gmemi_absent(row, 0);
	r = gmemi_vm_slot_trial(vm, KVMI_MEM_GUEST_MEMFD);
	if (r != -EBADF && r != -EEXIST)
		return gmemi_from_error(row, r < 0 ? r : -ENOTTY, NULL);
	r = gmemi_sys_guest_memfd(vm->fd, gmemi_sys_page_size(), 0);
	if (r < 0)
		return gmemi_from_error(row, r, selinux_hint);
	gmemi_sys_close(r);
	return gmemi_present(row);
}

struct gmemi_verdict gmemi_probe_gmem_mmap(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	void *page;
	int r = trial_mapping(vm, KVMI_GUEST_MEMFD_MMAP, &page);

	if (r < 0)
		return gmemi_from_error(row, r, NULL);
	gmemi_sys_unmap(page, gmemi_sys_page_size());
	return gmemi_present(row);
}

/* A touch of memory that is not shared would be SIGBUS; populating it is only EFAULT. */
static int try_touch(void *page)
{
	int r = gmemi_sys_advise(page, gmemi_sys_page_size(), MMANI_MADV_POPULATE_WRITE);

	gmemi_sys_unmap(page, gmemi_sys_page_size());
	return r;
}

struct gmemi_verdict gmemi_probe_gmem_init_shared(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	void *page;
	int r = trial_mapping(vm, SHARED, &page);

	if (r == 0)
		r = try_touch(page);
	return r == 0 ? gmemi_present(row) : gmemi_from_error(row, r, NULL);
}

static int seek(struct gmem_vm *vm, uint64_t flags)
{
	int fd = trial_file(vm, flags);
	int64_t r;

	if (fd < 0)
		return fd;
	r = gmemi_sys_seek(fd, 0, SEEK_CUR);
	gmemi_sys_close(fd);
	return r < 0 ? (int)r : 0;
}

/* What a write of one byte says, which no version of the patch accepts: -EINVAL = writable, -ENODEV = not with these flags. */
static int try_write(struct gmem_vm *vm, uint64_t flags)
{
	int fd = trial_file(vm, flags);
	int64_t r;

	if (fd < 0)
		return fd == -EINVAL ? -ENODEV : fd;
	r = gmemi_sys_pwrite(fd, "", 1, 0);
	gmemi_sys_close(fd);
	return r >= 0 ? -ENODEV : (int)r; /* a byte that went in is none of the versions we know */
}

/* Kernels with the patch let every guest_memfd seek; others say ESPIPE. Two postings gave write() two different bits, and one
 * of them means something else in the other. */
static int find_write_flag(struct gmem_vm *vm, uint64_t *flag)
{
	int r = seek(vm, SHARED);

	if (r < 0)
		return r;
	*flag = KVMI_GUEST_MEMFD_BIT2;
	r = try_write(vm, SHARED | *flag);
	if (r != -ENODEV)
		return r;
	*flag = KVMI_GUEST_MEMFD_BIT3;
	return try_write(vm, SHARED | *flag);
}

struct gmemi_verdict gmemi_probe_gmem_write(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	uint64_t flag;
	int r = find_write_flag(vm, &flag);

	if (r != -EINVAL)
		return gmemi_from_error(row, r, NULL);
	atomic_store(&vm->write_flag, flag);
	return gmemi_present(row);
}

/* Where bit 2 is not write(), it may be this: then the kernel cannot reach the page through its own map, and populating fails:
 * with the code of a mapping that cannot be pinned (mm/gup.c, as for memfd_secret()), or of a page. */
struct gmemi_verdict gmemi_probe_no_direct_map(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	struct gmemi_verdict write = gmemi_vm_verdict(vm, GMEM_FEATURE_GUEST_MEMFD_WRITE);
	void *page;
	int r;

	if (write.state == GMEM_UNDETERMINED || write.state == GMEM_FORBIDDEN)
		return write;
	if (atomic_load(&vm->write_flag) == KVMI_GUEST_MEMFD_BIT2)
		return gmemi_absent(row, 0);
	r = trial_mapping(vm, SHARED | KVMI_GUEST_MEMFD_BIT2, &page);
	if (r < 0)
		return gmemi_from_error(row, r, NULL);
	r = try_touch(page);
	return r == -EINVAL || r == -EFAULT ? gmemi_present(row) : gmemi_from_error(row, r < 0 ? r : -ENODEV, NULL);
}

/* The policy came with a file system of its own; on kernels before it mbind() answers 0 and does nothing. */
struct gmemi_verdict gmemi_probe_gmem_numa(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int fd = gmemi_sys_guest_memfd(vm->fd, gmemi_sys_page_size(), 0);
	int64_t magic;

	if (fd < 0)
		return gmemi_from_error(row, fd, selinux_hint);
	magic = gmemi_sys_magic(fd);
	gmemi_sys_close(fd);
	if (magic < 0)
		return gmemi_from_error(row, (int)magic, NULL);
	return magic == KVMI_GUEST_MEMFD_MAGIC ? gmemi_present(row) : gmemi_absent(row, 0);
}

/* The handler is there on VMs without private memory too, and then refuses: a page that is thrown away is made private. */
static int try_convert(int fd)
{
	struct kvmi_memory_attributes2 convert = { .size = gmemi_sys_page_size(), .attributes = KVMI_MEMORY_ATTRIBUTE_PRIVATE };
	int r = gmemi_sys_ioctl_known(fd, KVMI_SET_MEMORY_ATTRIBUTES2);

	if (r != -EFAULT)
		return r < 0 ? r : -ENOTTY;
	return gmemi_sys_ioctl(fd, KVMI_SET_MEMORY_ATTRIBUTES2, &convert);
}

struct gmemi_verdict gmemi_probe_attributes_file(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int fd = gmemi_sys_guest_memfd(vm->fd, gmemi_sys_page_size(), 0), r;

	if (fd < 0)
		return gmemi_from_error(row, fd, selinux_hint);
	r = try_convert(fd);
	gmemi_sys_close(fd);
	return r == 0 ? gmemi_present(row) : gmemi_from_error(row, r < 0 ? r : -ENOTTY, NULL);
}
