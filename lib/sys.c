/* SPDX-License-Identifier: MIT */
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sys_int.h"
#include "uapi/kvm.h"
#include "uapi/mman.h"
#include "uapi/userfaultfd.h"

#ifdef __GLIBC__
typedef unsigned long ioctl_request;
#else
typedef int ioctl_request;
#endif

/* The last page of the address space: never the process's own, so a handler that copies its argument says EFAULT. */
#define NOWHERE ((void *)(uintptr_t)-4096)

void gmemi_sys_close(int fd)
{
	if (fd >= 0)
		(void)close(fd); /* Linux frees the number whatever it answers */
}

static int duplicate(int fd)
{
	int64_t r = gmemi_outcome(fcntl(fd, F_DUPFD_CLOEXEC, GMEMI_LOWEST_FD));

	if (r == -EINVAL) /* RLIMIT_NOFILE is not even that */
		return -EMFILE;
	return r >= 0 && r < GMEMI_LOWEST_FD ? -EIO : (int)r;
}

int gmemi_moved_up(int64_t fd)
{
	int high;

	fd = gmemi_outcome(fd);
	if (fd < 0 || fd >= GMEMI_LOWEST_FD)
		return (int)fd;
	high = duplicate((int)fd);
	gmemi_sys_close((int)fd);
	return high;
}

/* For kernel interfaces that make fds without close-on-exec. */
static int close_on_exec(int64_t fd)
{
	int r;

	fd = gmemi_outcome(fd);
	if (fd < 0)
		return (int)fd;
	r = gmemi_nothing(fcntl((int)fd, F_SETFD, FD_CLOEXEC));
	if (r == 0)
		return gmemi_moved_up(fd);
	gmemi_sys_close((int)fd);
	return r;
}

int gmemi_sys_open(const char *path, int flags)
{
	int fd;

	do
		fd = open(path, flags | O_CLOEXEC);
	while (fd == -1 && errno == EINTR);
	return gmemi_moved_up(fd);
}

int gmemi_sys_dup(int fd)
{
	return duplicate(fd);
}

int gmemi_sys_raised(int fd)
{
	int high = fd < GMEMI_LOWEST_FD ? duplicate(fd) : -1;

	if (high < 0)
		return fd;
	gmemi_sys_close(fd);
	return high;
}

/* Kernels from 6.3 want to be told that the file is not to be executed; older ones refuse the flag. */
int gmemi_sys_memfd(const char *name, unsigned int flags)
{
	int fd = memfd_create(name, flags | MFD_CLOEXEC | MFD_ALLOW_SEALING | MMANI_MFD_NOEXEC_SEAL);

	if (fd == -1 && errno == EINVAL)
		fd = memfd_create(name, flags | MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return gmemi_moved_up(fd);
}

static _Thread_local bool own_thread; /* of the library: it blocks signals */

/* Beyond RLIMIT_FSIZE the kernel sends SIGXFSZ, which ends the process unless somebody thought of it. Where it is blocked the
 * kernel's EFBIG will do: asking first is a tenth of the price of a page fault. */
static bool beyond_limit(uint64_t length)
{
	struct rlimit limit;

	return !own_thread && getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && length > limit.rlim_cur;
}

int gmemi_sys_resize(int fd, uint64_t length)
{
	int r;

	if (beyond_limit(length))
		return -EFBIG;
	do
		r = ftruncate(fd, (off_t)length);
	while (r == -1 && errno == EINTR);
	return gmemi_nothing(r);
}

int gmemi_sys_seal(int fd, int seals)
{
	return gmemi_nothing(fcntl(fd, F_ADD_SEALS, seals));
}

int64_t gmemi_sys_seek(int fd, uint64_t offset, int whence)
{
	return gmemi_outcome(lseek(fd, (off_t)offset, whence));
}

int gmemi_sys_seals(int fd)
{
	return (int)gmemi_outcome(fcntl(fd, F_GET_SEALS));
}

int gmemi_sys_open_flags(int fd)
{
	return (int)gmemi_outcome(fcntl(fd, F_GETFL));
}

int gmemi_sys_set_flags(int fd, int flags)
{
	return gmemi_nothing(fcntl(fd, F_SETFL, flags));
}

static enum gmemi_file_type type_of(mode_t mode)
{
	if (S_ISREG(mode))
		return GMEMI_FILE_REGULAR;
	if (S_ISBLK(mode))
		return GMEMI_FILE_BLOCK;
	return S_ISFIFO(mode) ? GMEMI_FILE_PIPE : GMEMI_FILE_OTHER;
}

int gmemi_sys_describe(int fd, struct gmemi_file *file)
{
	struct stat about;
	int r = gmemi_nothing(fstat(fd, &about));

	if (r < 0)
		return r;
	*file = (struct gmemi_file){
		.type = type_of(about.st_mode),
		.size = (uint64_t)about.st_size,
		.allocated = (uint64_t)about.st_blocks * 512,
		.block_size = (uint64_t)about.st_blksize,
		.owner = about.st_uid,
	};
	return 0;
}

int gmemi_sys_name(int fd, char *name, size_t room)
{
	char path[32];
	int64_t r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = gmemi_amount(readlink(path, name, room - 1), room - 1);
	if (r < 0)
		return (int)r;
	name[r] = '\0';
	return 0;
}

bool gmemi_sys_may_see(int fd, uid_t owner)
{
	return owner == geteuid() || syscall(MMANI_SYS_FACCESSAT2, fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS) == 0;
}

int gmemi_sys_cached(int fd, uint64_t offset, uint64_t length, uint64_t *pages)
{
	struct mmani_cachestat_range range = { .offset = offset, .length = length };
	struct mmani_cachestat found;
	int r = gmemi_nothing(syscall(MMANI_SYS_CACHESTAT, fd, &range, &found, 0));

	if (r == 0)
		*pages = found.cached + found.evicted; /* of a memfd those are in swap */
	return r;
}

int64_t gmemi_sys_magic(int fd)
{
	struct statfs about;
	int r;

	do
		r = fstatfs(fd, &about);
	while (r == -1 && errno == EINTR);
	r = gmemi_nothing(r);
	return r < 0 ? r : (int64_t)(uint32_t)about.f_type;
}

int64_t gmemi_sys_read(int fd, void *buffer, size_t length)
{
	return gmemi_amount(read(fd, buffer, length), length);
}

int64_t gmemi_sys_pread(int fd, void *buffer, size_t length, uint64_t offset)
{
	return gmemi_amount(pread(fd, buffer, length, (off_t)offset), length);
}

int64_t gmemi_sys_pwrite(int fd, const void *data, size_t length, uint64_t offset)
{
	ssize_t r;

	if (beyond_limit(offset + length))
		return -EFBIG;
	do
		r = pwrite(fd, data, length, (off_t)offset);
	while (r == -1 && errno == EINTR);
	return gmemi_amount(r, length);
}

/* Says what went wrong by its result. */
int gmemi_sys_fadvise(int fd, uint64_t offset, uint64_t length, int advice)
{
	int error = posix_fadvise(fd, (off_t)offset, (off_t)length, advice);

	return error < 0 ? -EIO : -error;
}

int gmemi_sys_fallocate(int fd, int mode, uint64_t offset, uint64_t length)
{
	return gmemi_nothing(fallocate(fd, mode, (off_t)offset, (off_t)length));
}

int gmemi_sys_pipe(int ends[2])
{
	int r = gmemi_nothing(pipe2(ends, O_CLOEXEC));

	for (int i = 0; r == 0 && i < 2; i++) {
		ends[i] = gmemi_moved_up(ends[i]);
		if (ends[i] < 0) {
			r = ends[i];
			gmemi_sys_close(ends[!i]);
		}
	}
	return r;
}

int64_t gmemi_sys_splice(int from, const uint64_t *from_offset, int to, const uint64_t *to_offset, size_t length)
{
	off_t in = from_offset ? (off_t)*from_offset : 0, out = to_offset ? (off_t)*to_offset : 0;

	if (to_offset && beyond_limit(*to_offset + length))
		return -EFBIG;
	return gmemi_amount(splice(from, from_offset ? &in : NULL, to, to_offset ? &out : NULL, length, 0), length);
}

uint64_t gmemi_sys_page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The narrowing that a 32-bit process would do silently. */
static bool fits_address_space(uint64_t length)
{
	return length <= PTRDIFF_MAX;
}

int gmemi_sys_map(void *address, uint64_t length, int protection, int flags, int fd, uint64_t offset, void **result)
{
	void *at;

	if (!fits_address_space(length))
		return -ENOMEM;
	at = mmap(address, (size_t)length, protection, flags, fd, (off_t)offset);
	if (at == MAP_FAILED)
		return gmemi_nothing(-1);
	*result = at;
	return 0;
}

int gmemi_sys_unmap(void *address, uint64_t length)
{
	return gmemi_nothing(munmap(address, (size_t)length));
}

int gmemi_sys_protect(void *address, uint64_t length, int protection)
{
	return gmemi_nothing(mprotect(address, (size_t)length, protection));
}

int gmemi_sys_advise(void *address, uint64_t length, int advice)
{
	int r;

	do
		r = madvise(address, (size_t)length, advice);
	while (r == -1 && errno == EINTR);
	return gmemi_nothing(r);
}

int gmemi_sys_resident(void *address, uint64_t length, unsigned char *vector)
{
	return gmemi_nothing(mincore(address, (size_t)length, vector));
}

int gmemi_sys_ioctl(int fd, unsigned long request, const void *argument)
{
	return (int)gmemi_outcome(ioctl(fd, (ioctl_request)request, argument));
}

int gmemi_sys_ioctl_value(int fd, unsigned long request, unsigned long argument)
{
	return (int)gmemi_outcome(ioctl(fd, (ioctl_request)request, argument));
}

int gmemi_sys_ioctl_known(int fd, unsigned long request)
{
	return gmemi_sys_ioctl(fd, request, NOWHERE);
}

int gmemi_sys_guest_memfd(int vm_fd, uint64_t size, uint64_t flags)
{
	struct kvmi_create_guest_memfd create = { .size = size, .flags = flags };

	return close_on_exec(ioctl(vm_fd, (ioctl_request)KVMI_CREATE_GUEST_MEMFD, &create));
}

int gmemi_sys_userfaultfd(int device, int flags)
{
	flags |= O_CLOEXEC | O_NONBLOCK;
	if (device >= 0)
		return gmemi_moved_up(ioctl(device, (ioctl_request)UFFDI_NEW, (unsigned long)flags));
	return gmemi_moved_up(syscall(SYS_userfaultfd, flags));
}

int gmemi_sys_policy(void *address, uint64_t length, int mode, const uint64_t *mask, uint32_t words)
{
	unsigned long bits = words * 64ul + 1; /* the kernel takes one off */

	return gmemi_nothing(syscall(SYS_mbind, address, (unsigned long)length, mode, mask, bits, 0));
}

int gmemi_sys_thread(pthread_t *thread, void *(*body)(void *), void *argument)
{
	static const int own_fault[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS }; /* blocked, they kill */
	sigset_t others, before;
	int r;

	sigfillset(&others);
	for (size_t i = 0; i < sizeof(own_fault) / sizeof(own_fault[0]); i++)
		sigdelset(&others, own_fault[i]);
	r = -pthread_sigmask(SIG_SETMASK, &others, &before);
	if (r < 0)
		return r;
	r = -pthread_create(thread, NULL, body, argument);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* a set that was got can be set */
	return r;
}

void gmemi_sys_begin_thread(const char *name)
{
	own_thread = true;
	(void)prctl(PR_SET_NAME, name); /* fails only for a bad pointer */
}

void gmemi_sys_join(pthread_t thread)
{
	(void)pthread_join(thread, NULL); /* fails only for what is no thread of ours */
}
