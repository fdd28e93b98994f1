/* SPDX-License-Identifier: MIT */
/* Probes of userfaultfd. Every trial is made on an fd of its own: one that has shaken hands once cannot do it again. */
#include "vm_probe.h"
#include "vm_uffd.h"

#include <errno.h>
#include <fcntl.h>

#include "sys.h"
#include "uapi/userfaultfd.h"

#define DEVICE "/dev/userfaultfd"

static const char device_hint[] = "give this user read and write access to /dev/userfaultfd (an ACL, or the jailer makes the node)";
const char gmemi_uffd_kernel_hint[] = "give access to /dev/userfaultfd, or CAP_SYS_PTRACE, or set sysctl vm.unprivileged_userfaultfd=1";
const char gmemi_uffd_any_hint[] = "a seccomp filter or security module refuses userfaultfd()";
static const char fork_hint[] = "needs CAP_SYS_PTRACE";

static int from_device(void)
{
	int device = gmemi_sys_open(DEVICE, O_RDWR), fd;

	if (device < 0)
		return device;
	fd = gmemi_sys_userfaultfd(device, 0);
	gmemi_sys_close(device);
	return fd;
}

/* That hears of faults taken by the kernel: the device first, and the system call whatever the device said. */
int gmemi_uffd_open_full(void)
{
	int fd = from_device();

	return fd >= 0 ? fd : gmemi_sys_userfaultfd(-1, 0);
}

int gmemi_uffd_open_any(void)
{
	int fd = gmemi_uffd_open_full();

	return fd >= 0 ? fd : gmemi_sys_userfaultfd(-1, UFFDI_USER_MODE_ONLY);
}

static struct gmemi_verdict opened(const struct gmemi_probe_row *row, int fd, const char *hint)
{
	if (fd < 0)
		return gmemi_from_error(row, fd, hint);
	gmemi_sys_close(fd);
	return gmemi_present(row);
}

struct gmemi_verdict gmemi_probe_uffd_device(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	(void)vm;
	return opened(row, from_device(), device_hint);
}

struct gmemi_verdict gmemi_probe_uffd_kernel(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	(void)vm;
	return opened(row, gmemi_uffd_open_full(), gmemi_uffd_kernel_hint);
}

struct gmemi_verdict gmemi_probe_uffd(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	(void)vm;
	return opened(row, gmemi_uffd_open_any(), gmemi_uffd_any_hint);
}

int gmemi_uffd_shake_hands(int fd, struct uffdi_api *api)
{
	api->api = UFFDI_API_VERSION;
	return gmemi_sys_ioctl(fd, UFFDI_API, api);
}

/* What the kernel offers, on an fd that is thrown away: a refused handshake would not tell. */
int gmemi_uffd_offered(struct uffdi_api *api)
{
	int fd = gmemi_uffd_open_any(), r;

	if (fd < 0)
		return fd;
	*api = (struct uffdi_api){ .features = 0 };
	r = gmemi_uffd_shake_hands(fd, api);
	gmemi_sys_close(fd);
	return r;
}

static int ask_for(uint64_t features)
{
	struct uffdi_api api = { .features = features };
	int fd = gmemi_uffd_open_any(), r;

	if (fd < 0)
		return fd;
	r = gmemi_uffd_shake_hands(fd, &api);
	gmemi_sys_close(fd);
	return r;
}

/* Bits that mean what we think only together with others. */
static uint64_t bits_for(uint32_t bit)
{
	uint64_t bits = UINT64_C(1) << bit;

	return bit == UFFDI_BIT_RWP_ASYNC ? bits | UINT64_C(1) << UFFDI_BIT_RWP : bits;
}

/* Proposals for guest_memfd used the number of RWP; only the real one brings UFFDIO_SET_MODE. */
static bool is_impostor(uint32_t bit, const struct uffdi_api *api)
{
	return (bit == UFFDI_BIT_RWP || bit == UFFDI_BIT_RWP_ASYNC) && !(api->ioctls & UFFDI_IOCTL_SET_MODE);
}

struct gmemi_verdict gmemi_probe_uffd_bit(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	struct uffdi_api api;
	uint64_t bits = bits_for(row->argument);
	int r = gmemi_uffd_offered(&api);

	(void)vm;
	if (r < 0)
		return gmemi_from_error(row, r, gmemi_uffd_any_hint);
	if ((api.features & bits) != bits || is_impostor(row->argument, &api))
		return gmemi_absent(row, 0);
	r = ask_for(bits);
	return r == 0 ? gmemi_present(row) : gmemi_from_error(row, r, fork_hint);
}

static int try_register(void *page, uint64_t features, uint64_t mode)
{
	struct uffdi_register range = { .start = (uintptr_t)page, .length = gmemi_sys_page_size(), .mode = mode };
	struct uffdi_api api = { .features = features };
	int fd = gmemi_uffd_open_any(), r;

	if (fd < 0)
		return fd;
	r = gmemi_uffd_shake_hands(fd, &api);
	if (r == 0)
		r = gmemi_sys_ioctl(fd, UFFDI_REGISTER, &range);
	gmemi_sys_close(fd);
	return r;
}

/* No feature bit tells: the only way is to register a page. */
struct gmemi_verdict gmemi_probe_uffd_gmem(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	uint64_t features = row->argument == UFFDI_REGISTER_WP ? UINT64_C(1) << UFFDI_BIT_WP_ASYNC : 0;
	void *page;
	int r;

	r = gmemi_vm_trial_page(vm, &page);
	if (r < 0)
		return gmemi_from_error(row, r, NULL);
	r = try_register(page, features, row->argument);
	gmemi_sys_unmap(page, gmemi_sys_page_size());
	return r == 0 ? gmemi_present(row) : gmemi_from_error(row, r, gmemi_uffd_any_hint);
}
