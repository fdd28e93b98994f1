/* SPDX-License-Identifier: MIT */
/* Making and ending userfault endpoints, and what they have counted. */
#include "fault.h"

#include <string.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "sys.h"
#include "vm_uffd.h"

#define BIT(name) (UINT64_C(1) << UFFDI_BIT_##name)

/* Of what the kernel offers. FORK and UNMAP are not asked for: watched mappings are not inherited, and only the library unmaps
 * them, so nobody has to wait for an event to be read. */
#define WANTED                                                                                                    \
	(BIT(PAGEFAULT_WP) | BIT(EVENT_REMAP) | BIT(EVENT_REMOVE) | BIT(MISSING_HUGETLBFS) | BIT(MISSING_SHMEM) | \
	 BIT(THREAD_ID) | BIT(MINOR_HUGETLBFS) | BIT(MINOR_SHMEM) | BIT(WP_HUGETLBFS_SHMEM) | BIT(POISON))

int gmemi_uffd_check(const struct gmem_uffd *uffd)
{
	return uffd ? gmemi_vm_check(uffd->vm) : gmemi_refuse(-EINVAL, "the endpoint is NULL");
}

static struct gmem_uffd *new_uffd(struct gmem_vm *vm, int fd)
{
	struct gmem_uffd *uffd = gmemi_alloc(1, sizeof(*uffd));

	if (!uffd)
		return NULL;
	uffd->vm = vm;
	uffd->fd = fd;
	uffd->fileless.uffd = uffd;
	atomic_init(&uffd->claims, 1);
	atomic_init(&uffd->users, 1);
	pthread_mutex_init(&uffd->register_lock, NULL);
	gmemi_lock_begin(&uffd->index_lock);
	gmemi_gate_begin(&uffd->events);
	pthread_mutex_init(&uffd->listener_lock, NULL);
	gmemi_claims_begin(&uffd->fileless.content);
	gmemi_vm_claim(vm);
	return uffd;
}

void gmemi_uffd_claim(struct gmem_uffd *uffd)
{
	atomic_fetch_add_explicit(&uffd->claims, 1, memory_order_relaxed);
}

/* Memory without a file here goes with its endpoint: the peer has the memory, and its own hold on the endpoint. */
static void end_fileless(struct gmem_uffd *uffd)
{
	struct gmemi_table *regions = &uffd->fileless.regions;

	while (regions->count)
		gmemi_region_end(uffd, regions->items[regions->count - 1], false);
	gmemi_table_end(regions);
}

static void close_fds(struct gmem_uffd *uffd)
{
	while (uffd->child_count)
		gmemi_sys_close(uffd->children[--uffd->child_count]);
	for (; uffd->batch_next < uffd->batch_count; uffd->batch_next++)
		if (uffd->batch[uffd->batch_next].event == UFFDI_EVENT_FORK)
			gmemi_sys_close((int)uffd->batch[uffd->batch_next].fork.fd);
	gmemi_sys_close(uffd->fd);
}

/* In a forked child the copies stay: they may be in the middle of anything, with nobody there to go on. */
static void end(struct gmem_uffd *uffd)
{
	struct gmem_vm *vm = uffd->vm;

	close_fds(uffd);
	if (gmemi_vm_forked(vm)) {
		gmemi_vm_release(vm);
		return;
	}
	end_fileless(uffd);
	gmemi_table_end(&uffd->views);
	gmemi_free(uffd->brought);
	pthread_mutex_destroy(&uffd->register_lock);
	pthread_mutex_destroy(&uffd->listener_lock);
	gmemi_free(uffd);
	gmemi_vm_release(vm);
}

void gmemi_uffd_release(struct gmem_uffd *uffd)
{
	if (atomic_fetch_sub_explicit(&uffd->claims, 1, memory_order_acq_rel) == 1)
		end(uffd);
}

void gmemi_uffd_hold(struct gmem_uffd *uffd)
{
	atomic_fetch_add_explicit(&uffd->users, 1, memory_order_relaxed);
	gmemi_uffd_claim(uffd);
}

void gmemi_uffd_let_go(struct gmem_uffd *uffd)
{
	if (atomic_fetch_sub_explicit(&uffd->users, 1, memory_order_acq_rel) == 1)
		while (uffd->brought_count)
			gmem_destroy(uffd->brought[--uffd->brought_count]);
	gmemi_uffd_release(uffd);
}

int gmemi_uffd_bring(struct gmem_uffd *uffd, struct gmem *mem)
{
	struct gmem **more = gmemi_alloc(uffd->brought_count + UINT64_C(1), sizeof(struct gmem *));

	if (!more)
		return -ENOMEM;
	if (uffd->brought_count)
		memcpy(more, uffd->brought, uffd->brought_count * sizeof(struct gmem *));
	more[uffd->brought_count++] = mem;
	gmemi_free(uffd->brought);
	uffd->brought = more;
	return 0;
}

bool gmemi_uffd_serve(struct gmem_uffd *uffd, const void *server, const void *instead_of)
{
	uintptr_t expected = (uintptr_t)instead_of;

	return atomic_compare_exchange_strong(&uffd->server, &expected, (uintptr_t)server);
}

/* KVM's own faults have to be heard where there is a guest; without one those of user mode are better than nothing. */
static int open_fd(struct gmem_vm *vm, bool *user_mode)
{
	int fd = gmemi_uffd_open_full();

	*user_mode = false;
	if (fd >= 0 || vm->fd >= 0 || (fd != -EPERM && fd != -EACCES))
		return fd < 0 ? gmemi_failed(fd, "userfaultfd()", fd == -ENOSYS ? NULL : gmemi_uffd_kernel_hint) : fd;
	fd = gmemi_uffd_open_any();
	if (fd < 0)
		return gmemi_failed(fd, "userfaultfd()", gmemi_uffd_any_hint);
	*user_mode = true;
	gmemi_note(GMEM_LOG_WARNING, "%s: only faults taken in user mode are heard: %s", gmemi_entered(),
		   gmemi_uffd_kernel_hint);
	return fd;
}

static int shake_hands(int fd)
{
	struct uffdi_api offered, wanted = { 0 };
	int r = gmemi_uffd_offered(&offered);

	if (r < 0)
		return gmemi_failed(r, "asking what userfaultfd offers", NULL);
	wanted.features = offered.features & WANTED;
	r = gmemi_uffd_shake_hands(fd, &wanted);
	return r < 0 ? gmemi_failed(r, "UFFDIO_API", NULL) : 0;
}

static int create(struct gmem_vm *vm, struct gmem_uffd **result)
{
	bool user_mode;
	int fd = open_fd(vm, &user_mode), r;
	struct gmem_uffd *uffd;

	if (fd < 0)
		return fd;
	r = shake_hands(fd);
	uffd = r == 0 ? new_uffd(vm, fd) : NULL;
	if (!uffd) {
		gmemi_sys_close(fd);
		return r < 0 ? r : -ENOMEM;
	}
	uffd->user_mode = user_mode;
	*result = uffd;
	return 0;
}

static int check_call(struct gmem_vm *vm, struct gmem_uffd **uffd, const struct gmem_uffd_create_opts *opts)
{
	struct gmem_uffd_create_opts o;
	int r = gmemi_vm_check(vm);

	if (r < 0)
		return r;
	if (!uffd)
		return gmemi_refuse(-EINVAL, "uffd is NULL");
	r = GMEMI_OPTS_IN(o, opts);
	return r < 0 ? r : gmemi_opts_flags(o.flags, 0, "opts->flags");
}

int gmem_uffd_create(struct gmem_vm *vm, struct gmem_uffd **uffd, const struct gmem_uffd_create_opts *opts)
{
	int r;

	GMEMI_CALL();
	r = check_call(vm, uffd, opts);
	return r < 0 ? r : create(vm, uffd);
}

/* By its handler, which copies the argument of these calls first: an fd that nobody has shaken hands on knows the first
 * alone. */
static int check_fd(int fd)
{
	int api = gmemi_sys_ioctl_known(fd, UFFDI_API), wakes = gmemi_sys_ioctl_known(fd, UFFDI_WAKE);
	char name[64];

	if (api == -EBADF)
		return gmemi_failed(api, "asking the fd", NULL);
	if (api != -EFAULT || (gmemi_sys_name(fd, name, sizeof(name)) == 0 && !strstr(name, "userfaultfd")))
		return gmemi_refuse(-EINVAL, "fd %d is no userfaultfd", fd);
	return wakes == -EFAULT ? 0 : gmemi_refuse(-EBADFD, "nobody has called UFFDIO_API on fd %d", fd);
}

static int import(struct gmem_vm *vm, int fd, struct gmem_uffd **result)
{
	int own = gmemi_sys_dup(fd);
	struct gmem_uffd *uffd;

	if (own < 0)
		return gmemi_failed(own, "duplicating the userfaultfd", NULL);
	uffd = new_uffd(vm, own);
	if (!uffd) {
		gmemi_sys_close(own);
		return -ENOMEM;
	}
	uffd->imported = true;
	*result = uffd;
	return 0;
}

int gmem_uffd_import(struct gmem_vm *vm, int fd, struct gmem_uffd **uffd, const struct gmem_uffd_create_opts *opts)
{
	int r;

	GMEMI_CALL();
	r = check_call(vm, uffd, opts);
	if (r == 0)
		r = check_fd(fd);
	return r < 0 ? r : import(vm, fd, uffd);
}

void gmem_uffd_destroy(struct gmem_uffd *uffd)
{
	GMEMI_CALL();
	if (uffd)
		gmemi_uffd_let_go(uffd);
}

int gmem_uffd_get_fd(const struct gmem_uffd *uffd)
{
	int r;

	GMEMI_CALL();
	r = gmemi_uffd_check(uffd);
	return r < 0 ? r : uffd->fd;
}
