/* SPDX-License-Identifier: MIT */
/* A guest on memory that somebody else made: another process, or another VM. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "content.h"
#include "feed.h"
#include "gt.h"
#include "huge.h"
#include "passing.h"
#include "promise.h"
#include "world.h"

#define LENGTH content_length()
#define SMALL (4 * MIB)
#define PAGE 4096u
#define HUGE_2M (MFD_HUGETLB | 21u << 26)

/* What the other process is to make. */
struct order {
	const unsigned char *content;
	size_t length;
	unsigned int flags; /* of memfd_create() */
	int seals;
};

static int fill_and_keep(int fd, const struct order *order)
{
	unsigned char *at = promise_map(fd, order->length);

	memcpy(at, order->content, order->length);
	munmap(at, order->length);
	return fd;
}

static int make_memfd(void *arg)
{
	const struct order *order = arg;
	int fd = memfd_create("elsewhere", MFD_CLOEXEC | MFD_ALLOW_SEALING | order->flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)order->length), 0);
	if (order->seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, order->seals), 0);
	return fill_and_keep(fd, order);
}

static int make_guest_memfd(void *arg)
{
	const struct order *order = arg;

	return fill_and_keep(promise_gmem(guest_vm(), order->length, PROMISE_SHARED), order);
}

/* The memory of w is the file. */
static void import(struct world *w, int fd, uint64_t flags)
{
	struct gmem_import_opts opts = { .size = sizeof(opts), .flags = flags };

	if (gmem_import(w->vm, fd, 0, &w->mem, &opts))
		fail_msg("%s", gmem_last_error());
	w->length = world_query(w).length;
}

/* Over what is there, by several threads: its zeros have to be written. */
static void put_new_content(struct world *w, struct feed *f)
{
	uint64_t done;

	f->content = content_make(w->length, &w->seed);
	f->file = content_file(f->content, w->length, &w->seed);
	f->opts = (struct gmem_populate_opts){ .size = sizeof(f->opts), .threads = 2 };
	if (feed(w->mem, f, FEED_FILE, 0, w->length, &done))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, w->length);
	close(f->file);
}

/* Read by the guest, filled again, read again. */
static void use(struct world *w, const struct order *order, uint64_t bind_flags)
{
	struct feed f;

	assert_int_equal(w->length, order->length);
	world_bind(w, 0, 0, 0, w->length, bind_flags);
	world_assert_guest_sees(w, 0, order->content, w->length);
	put_new_content(w, &f);
	world_assert_guest_sees(w, 0, f.content, w->length);
}

static void memfd_from(unsigned int flags, size_t length, uint32_t backing)
{
	struct world w = world_start();
	struct order order = { content_make(length, &w.seed), length, flags, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
	int fd = fd_from_child(make_memfd, &order);

	import(&w, fd, 0);
	close(fd);
	assert_int_equal(world_query(&w).backing, backing);
	use(&w, &order, 0);
	world_end(&w);
}

static void memfd_of_another_process(void **state)
{
	(void)state;
	memfd_from(0, LENGTH, GMEM_BACKING_MEMFD);
}

static void hugetlb_of_another_process(void **state)
{
	(void)state;
	memfd_from(HUGE_2M, huge_length(4 * HUGE_PAGE), GMEM_BACKING_HUGETLB);
}

static void unsealed_memfd_only_where_vouched_for(void **state)
{
	struct world w = world_start();
	struct order order = { .content = content_make(SMALL, &w.seed), .length = SMALL };
	int fd = fd_from_child(make_memfd, &order);

	(void)state;
	assert_int_equal(gmem_import(w.vm, fd, 0, &w.mem, NULL), -EINVAL);
	assert_non_null(strstr(gmem_last_error(), "F_SEAL_SHRINK"));
	assert_null(w.mem);
	import(&w, fd, GMEM_IMPORT_UNSEALED);
	close(fd);
	use(&w, &order, 0);
	world_end(&w);
}

/* Two handles on one file in one VM: whatever comes in through one is there for the other. */
static void two_handles_on_one_file(void **state)
{
	struct world w = world_make(GMEM_BACKING_MEMFD, SMALL), other = w;
	struct feed f;

	(void)state;
	world_bind(&w, 0, 0, 0, SMALL, 0);
	import(&other, gmem_get_fd(w.mem, GMEM_FD_MEMORY), 0);
	put_new_content(&other, &f);
	world_assert_guest_sees(&w, 0, f.content, SMALL);
	assert_int_equal(gmem_discard(other.mem, 0, SMALL / 2, NULL, NULL), 0);
	memset((unsigned char *)(uintptr_t)f.content, 0, SMALL / 2);
	world_assert_guest_sees(&w, 0, f.content, SMALL);
	gmem_destroy(other.mem);
	world_assert_guest_sees(&w, 0, f.content, SMALL);
	world_end(&w);
}

/* --- guest_memfd --- */

/* KVM refuses to bind it, and says what the library passes on; everything else works, a plain memslot too. */
static void foreign_guest_memfd(struct world *w, int fd, const struct order *order)
{
	void *at;

	import(w, fd, 0);
	close(fd);
	assert_int_equal(world_query(w).backing, GMEM_BACKING_GUEST_MEMFD);
	assert_int_equal(gmem_map(w->mem, 0, w->length, &at, NULL), 0);
	assert_memory_equal(at, order->content, w->length);
	assert_int_equal(gmem_bind(w->mem, 0, 0, 0, w->length, NULL), -EINVAL);
	assert_non_null(strstr(gmem_last_error(), "KVM_SET_USER_MEMORY_REGION2"));
	assert_int_equal(world_query(w).slots, 0);
	world_assert_nothing_at(w, 0);
	use(w, order, GMEM_BIND_PLAIN);
}

static void guest_memfd_of_another_process(void **state)
{
	struct world w = world_start();
	struct order order = { .content = content_make(SMALL, &w.seed), .length = SMALL };

	(void)state;
	foreign_guest_memfd(&w, fd_from_child(make_guest_memfd, &order), &order);
	world_end(&w);
}

static void guest_memfd_of_another_vm(void **state)
{
	struct world w = world_start();
	struct order order = { .content = content_make(SMALL, &w.seed), .length = SMALL };
	int other = guest_vm();

	(void)state;
	foreign_guest_memfd(&w, fill_and_keep(promise_gmem(other, SMALL, PROMISE_SHARED), &order), &order);
	close(other);
	world_end(&w);
}

/* One that the program made itself for this VM can be bound as if the library had made it. */
static void guest_memfd_of_this_vm(void **state)
{
	struct world w = world_start();
	struct order order = { .content = content_make(LENGTH, &w.seed), .length = LENGTH };
	int fd = fill_and_keep(promise_gmem(w.vm_fd, LENGTH, PROMISE_SHARED), &order);

	(void)state;
	import(&w, fd, 0);
	close(fd);
	use(&w, &order, 0);
	world_end(&w);
}

static void guest_memfd_that_the_host_cannot_touch(void **state)
{
	const uint64_t flags[] = { 0, PROMISE_MMAP };
	struct world w = world_start();

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		int fd = promise_gmem(w.vm_fd, SMALL, flags[i]);

		assert_int_equal(gmem_import(w.vm, fd, 0, &w.mem, NULL), -EOPNOTSUPP);
		assert_non_null(strstr(gmem_last_error(), "guest_memfd"));
		close(fd);
	}
	world_end(&w);
}

#define GMEM GT_NEEDS_VCPU | GT_NEEDS_GUEST_MEMFD

static const struct gt_test tests[] = {
	GT(memfd_of_another_process, GT_NEEDS_VCPU),
	GT(hugetlb_of_another_process, GT_NEEDS_VCPU | GT_NEEDS_HUGETLB_2M),
	GT(unsealed_memfd_only_where_vouched_for, GT_NEEDS_VCPU),
	GT(two_handles_on_one_file, GT_NEEDS_VCPU),
	GT(guest_memfd_of_another_process, GMEM),
	GT(guest_memfd_of_another_vm, GMEM),
	GT(guest_memfd_of_this_vm, GMEM),
	GT(guest_memfd_that_the_host_cannot_touch, GMEM),
};

GT_MAIN("import_guest", tests)
