/* SPDX-License-Identifier: MIT */
/* Raw probes of what tests need. They share no line and no number with the library: a wrong one there must not make its own
 * tests skip. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gt.h"

#define NEED_CREATE_VM 0x0000ae01ul
#define NEED_CREATE_VCPU 0x0000ae41ul
#define NEED_CREATE_GUEST_MEMFD 0xc040aed4ul
#define NEED_UFFD_NEW 0x0000aa00ul
#define NEED_UFFDIO_API 0xc018aa3ful
#define NEED_CACHESTAT 451
#define NEED_UFFD_MINOR_SHMEM (UINT64_C(1) << 10)

#define HUGE_2M ((size_t)2 << 20)
#define MEMFD_HUGE_2M (21u << 26)

static char reason[256];

static bool lacks(const char *what)
{
	snprintf(reason, sizeof(reason), "%s: %s", what, strerror(errno));
	return false;
}

/* The answer of a step on something that is done with: closes it. */
static bool after(int fd, bool answer)
{
	close(fd);
	return answer;
}

static int make_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;

	if (kvm < 0) {
		lacks("/dev/kvm");
		return -1;
	}
	vm = ioctl(kvm, NEED_CREATE_VM, 0ul);
	if (vm < 0)
		lacks("KVM_CREATE_VM");
	close(kvm);
	return vm;
}

int gt_make_vm(void)
{
	int vm = make_vm();

	if (vm < 0)
		fail_msg("%s", reason);
	return vm;
}

bool gt_over_guest_memfd(void)
{
	const char *wish = getenv("GMEM_TEST_BACKING");

	return wish && strcmp(wish, "guest_memfd") == 0;
}

static bool have_kvm(void)
{
	int vm = make_vm();

	return vm >= 0 && after(vm, true);
}

static bool vcpu_of(int vm)
{
	int vcpu = ioctl(vm, NEED_CREATE_VCPU, 0ul);

	return vcpu < 0 ? lacks("KVM_CREATE_VCPU") : after(vcpu, true);
}

static bool have_vcpu(void)
{
	int vm = make_vm();

	return vm >= 0 && after(vm, vcpu_of(vm));
}

static bool maps(int fd, size_t length, int flags, const char *what)
{
	void *address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);

	if (address == MAP_FAILED)
		return lacks(what);
	munmap(address, length);
	return true;
}

static bool guest_memfd_of(int vm)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint64_t create[8] = { page, 3 };
	int fd = ioctl(vm, NEED_CREATE_GUEST_MEMFD, create);

	return fd < 0 ? lacks("KVM_CREATE_GUEST_MEMFD with MMAP|INIT_SHARED")
		      : after(fd, maps(fd, page, 0, "mmap() of a guest_memfd"));
}

static bool have_guest_memfd(void)
{
	int vm = make_vm();

	return vm >= 0 && after(vm, guest_memfd_of(vm));
}

static int make_uffd(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

	if (device < 0)
		return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	fd = ioctl(device, NEED_UFFD_NEW, (unsigned long)(O_CLOEXEC | O_NONBLOCK));
	close(device);
	return fd;
}

static bool have_uffd_with(uint64_t features, const char *what)
{
	uint64_t api[3] = { 0xaa, features, 0 };
	int fd = make_uffd();

	if (fd < 0)
		return lacks("userfaultfd for faults of the kernel");
	return after(fd, ioctl(fd, NEED_UFFDIO_API, api) == 0 || lacks(what));
}

static bool have_uffd(void)
{
	return have_uffd_with(0, "UFFDIO_API");
}

static bool have_uffd_minor(void)
{
	return have_uffd_with(NEED_UFFD_MINOR_SHMEM, "UFFDIO_API with MINOR_SHMEM");
}

static bool have_hugetlb(void)
{
	int fd = memfd_create("gt-huge", MFD_CLOEXEC | MFD_HUGETLB | MEMFD_HUGE_2M);

	if (fd < 0)
		return lacks("memfd_create() on 2 MiB pages");
	if (ftruncate(fd, (off_t)HUGE_2M))
		return after(fd, lacks("ftruncate() of a memfd on 2 MiB pages"));
	/* Without MAP_NORESERVE the kernel promises the page at mmap() or refuses. */
	return after(fd, maps(fd, HUGE_2M, 0, "a free 2 MiB page"));
}

static bool have_root(void)
{
	if (geteuid() == 0)
		return true;
	snprintf(reason, sizeof(reason), "root: running as uid %u", (unsigned int)geteuid());
	return false;
}

static int succeed(void *arg)
{
	(void)arg;
	return 0;
}

static bool have_ordinary_user(void)
{
	if (!have_root())
		return false;
	if (gt_as_user(GT_NOBODY, succeed, NULL) == 0)
		return true;
	snprintf(reason, sizeof(reason), "an ordinary user: this process may not become uid %u", GT_NOBODY);
	return false;
}

/* Of no file: the call is known or not. */
static bool have_cachestat(void)
{
	long r = syscall(NEED_CACHESTAT, -1, NULL, NULL, 0);

	return (r < 0 && errno == EBADF) || lacks("cachestat()");
}

static const struct {
	unsigned int need;
	bool (*probe)(void);
} probes[] = {
	{ GT_NEEDS_KVM, have_kvm },
	{ GT_NEEDS_VCPU, have_vcpu },
	{ GT_NEEDS_GUEST_MEMFD, have_guest_memfd },
	{ GT_NEEDS_UFFD, have_uffd },
	{ GT_NEEDS_UFFD_MINOR, have_uffd_minor },
	{ GT_NEEDS_HUGETLB_2M, have_hugetlb },
	{ GT_NEEDS_ROOT, have_root },
	{ GT_NEEDS_ORDINARY_USER, have_ordinary_user },
	{ GT_NEEDS_CACHESTAT, have_cachestat },
};

/* What was there once is not asked again; what was missing is, so that the reason is fresh. */
const char *gt_missing(unsigned int needs)
{
	static unsigned int met;

	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		if (!(needs & ~met & probes[i].need))
			continue;
		if (!probes[i].probe())
			return reason;
		met |= probes[i].need;
	}
	return NULL;
}
