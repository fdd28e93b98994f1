/* SPDX-License-Identifier: MIT */
/* What endpoints refuse: by which code, in which words, and with everything as it was. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "faults.h"
#include "handles.h"
#include "refusal.h"
#include "sys.h"
#include "uapi/userfaultfd.h"

#define PAGES 8
#define UNTOUCHED ((void *)0x5a5a)

static struct lazy lazy;

static void set_up(void)
{
	lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	watch_pages(&lazy, 0, 2, GMEM_STRATEGY_AUTO);
	spoil_sentence();
}

/* Everything is as set_up() left it. */
static void as_it_was(void)
{
	struct gmem_uffd_info info = counted(lazy.uffd);

	assert_int_equal(info.ranges, 1);
	assert_int_equal(info.remaining, 2 * lazy.page);
	assert_int_equal(info.filled + info.zeroed + info.present + info.poisoned + info.removed, 0);
	assert_map(lazy.mem, "EEEEEEEE");
	assert_int_equal(touch(lazy.at + 2 * lazy.page), 0);
	end_lazy(&lazy);
}

/* A userfaultfd that has not been shaken hands on. */
static int new_uffd(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

	fd = gmemi_sys_userfaultfd(device, 0);
	if (device >= 0)
		close(device);
	assert_true(fd >= 0);
	return fd;
}

static void creating(void **state)
{
	const struct gmem_uffd_create_opts flags = { .size = sizeof(flags), .flags = 1 }, small = { .size = 3 };
	struct {
		struct gmem_uffd_create_opts opts;
		uint64_t more;
	} later = { { .size = sizeof(later) }, 1 };
	struct gmem_uffd *made = UNTOUCHED;

	(void)state;
	set_up();
	bad("gmem_uffd_create", gmem_uffd_create(NULL, &made, NULL), -EINVAL, "NULL");
	bad("gmem_uffd_create", gmem_uffd_create(lazy.vm, NULL, NULL), -EINVAL, "uffd is NULL");
	bad("gmem_uffd_create", gmem_uffd_create(lazy.vm, &made, &flags), -E2BIG, "opts->flags");
	bad("gmem_uffd_create", gmem_uffd_create(lazy.vm, &made, &small), -EINVAL, "size");
	bad("gmem_uffd_create", gmem_uffd_create(lazy.vm, &made, &later.opts), -E2BIG, "");
	later.more = 0;
	assert_int_equal(gmem_uffd_create(lazy.vm, &made, &later.opts), 0);
	gmem_uffd_destroy(made);
	as_it_was();
}

static void importing(void **state)
{
	const struct gmem_uffd_create_opts flags = { .size = sizeof(flags), .flags = 1 };
	struct uffdi_api api = { .api = UFFDI_API_VERSION };
	struct gmem_uffd *made = UNTOUCHED;
	int fd = new_uffd(), file = memfd_create("file", MFD_CLOEXEC);

	(void)state;
	set_up();
	bad("gmem_uffd_import", gmem_uffd_import(NULL, fd, &made, NULL), -EINVAL, "NULL");
	bad("gmem_uffd_import", gmem_uffd_import(lazy.vm, fd, NULL, NULL), -EINVAL, "uffd is NULL");
	bad("gmem_uffd_import", gmem_uffd_import(lazy.vm, -1, &made, NULL), -EBADF, "");
	bad("gmem_uffd_import", gmem_uffd_import(lazy.vm, 9999, &made, NULL), -EBADF, "");
	bad("gmem_uffd_import", gmem_uffd_import(lazy.vm, file, &made, NULL), -EINVAL, "no userfaultfd");
	bad("gmem_uffd_import", gmem_uffd_import(lazy.vm, fd, &made, NULL), -EBADFD, "UFFDIO_API");
	assert_int_equal(ioctl(fd, UFFDI_API, &api), 0); /* the look has not used it up */
	bad("gmem_uffd_import", gmem_uffd_import(lazy.vm, fd, &made, &flags), -E2BIG, "opts->flags");
	assert_ptr_equal(made, UNTOUCHED);
	assert_int_equal(gmem_uffd_import(lazy.vm, fd, &made, NULL), 0);
	assert_true(gmem_uffd_get_fd(made) != fd);
	assert_int_equal(counted(made).flags, GMEM_UFFD_IMPORTED);
	gmem_uffd_destroy(made);
	close(fd);
	close(file);
	as_it_was();
}

#define REGISTER(offset, length, code, word, ...)                                                                      \
	do {                                                                                                           \
		const struct gmem_uffd_register_opts wrong = { .size = sizeof(wrong), __VA_ARGS__ };                   \
		bad("gmem_uffd_register", gmem_uffd_register(lazy.uffd, lazy.mem, offset, length, &wrong), code, word); \
	} while (0)

static void registering_ranges(void **state)
{
	uint64_t page;

	(void)state;
	set_up();
	page = lazy.page;
	bad("gmem_uffd_register", gmem_uffd_register(NULL, lazy.mem, 2 * page, page, NULL), -EINVAL, "NULL");
	REGISTER(2 * page, 0, -EINVAL, "", 0);
	REGISTER(2 * page, page - 1, -EINVAL, "", 0);
	REGISTER(2 * page + 1, page, -EINVAL, "", 0);
	REGISTER(7 * page, 2 * page, -EINVAL, "", 0);
	REGISTER(8 * page, page, -EINVAL, "", 0);
	REGISTER(UINT64_MAX - page + 1, 2 * page, -EINVAL, "", 0);
	REGISTER(page, page, -EEXIST, "watched already", 0);
	REGISTER(0, 8 * page, -EEXIST, "watched already", 0);
	REGISTER(page, 3 * page, -EEXIST, "watched already", 0);
	as_it_was();
}

static void registering_options(void **state)
{
	struct {
		struct gmem_uffd_register_opts opts;
		uint64_t more;
	} later = { { .size = sizeof(later) }, 1 };
	uint64_t page;

	(void)state;
	set_up();
	page = lazy.page;
	REGISTER(2 * page, page, -E2BIG, "opts->flags", .flags = 1 << 3);
	REGISTER(2 * page, page, -EINVAL, "reserved", .reserved = 1);
	REGISTER(2 * page, page, -EINVAL, "strategy", .strategy = 3);
	REGISTER(2 * page, page, -EINVAL, "page_size", .page_size = page);
	REGISTER(2 * page, page, -EINVAL, "GMEM_REGISTER_CONTENT", .content = page);
	REGISTER(2 * page, page, -EINVAL, "wraps", .flags = GMEM_REGISTER_CONTENT, .content = UINT64_MAX - 1);
	REGISTER(2 * page, page, -EINVAL, "BY_PEER", .hva = page);
	REGISTER(2 * page, page, -EINVAL, "BY_PEER", .gpa = page);
	REGISTER(2 * page, page, -EBADFD, "gmem_uffd_import", .flags = GMEM_REGISTER_BY_PEER, .hva = page);
	bad("gmem_uffd_register", gmem_uffd_register(lazy.uffd, lazy.mem, 2 * page, page, &later.opts), -E2BIG, "");
	bad("gmem_uffd_register", gmem_uffd_register(lazy.uffd, NULL, 2 * page, page, NULL), -EINVAL, "mem is NULL");
	as_it_was();
}

static void registering_memory(void **state)
{
	struct gmem_create_opts need = { .size = sizeof(need), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct gmem_uffd *second;
	struct gmem_vm *other;
	struct gmem *mem;

	(void)state;
	set_up();
	make_vmless(&other, &mem, lazy.length, &need);
	bad("gmem_uffd_register", gmem_uffd_register(lazy.uffd, mem, 0, lazy.page, NULL), -EINVAL, "another VM");
	gmem_destroy(mem);
	gmem_vm_close(other);
	mem = make_pages(lazy.vm, PAGES);
	bad("gmem_uffd_register", gmem_uffd_register(lazy.uffd, mem, 0, lazy.page, NULL), -EBADFD, "GMEM_NEED_LAZY");
	gmem_destroy(mem);
	assert_int_equal(gmem_uffd_create(lazy.vm, &second, NULL), 0);
	bad("gmem_uffd_register", gmem_uffd_register(second, lazy.mem, 4 * lazy.page, lazy.page, NULL), -EBUSY, "another endpoint");
	assert_int_equal(counted(second).ranges, 0);
	gmem_uffd_destroy(second);
	as_it_was();
}

#define PEER(mem, offset, length, code, word, ...)                                                            \
	do {                                                                                                  \
		const struct gmem_uffd_register_opts wrong = { .size = sizeof(wrong), __VA_ARGS__ };          \
		bad("gmem_uffd_register", gmem_uffd_register(made, mem, offset, length, &wrong), code, word); \
	} while (0)
#define BY_PEER .flags = GMEM_REGISTER_BY_PEER

static void registering_for_a_peer(void **state)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), BY_PEER, .hva = UINT64_C(1) << 40, .page_size = 65536 };
	struct uffdi_api api = { .api = UFFDI_API_VERSION };
	struct gmem_uffd *made;
	int fd = new_uffd();
	uint64_t page, length;

	(void)state;
	set_up();
	page = lazy.page;
	length = UINT64_C(4) << 20;
	assert_int_equal(ioctl(fd, UFFDI_API, &api), 0);
	assert_int_equal(gmem_uffd_import(lazy.vm, fd, &made, NULL), 0);
	PEER(lazy.mem, 4 * page, page, -EBADFD, "GMEM_REGISTER_BY_PEER", 0);
	PEER(lazy.mem, 4 * page, page, -EBUSY, "another endpoint", BY_PEER, .hva = length);
	PEER(NULL, 0, length, -EINVAL, "mem is NULL", 0);
	PEER(NULL, 0, length, -EINVAL, "hva", BY_PEER, .hva = 1);
	PEER(NULL, 0, length, -EINVAL, "hva", BY_PEER, .hva = UINT64_MAX - length + page);
	PEER(NULL, 0, length, -EINVAL, "page_size", BY_PEER, .page_size = 3 * page);
	PEER(NULL, 0, length, -EINVAL, "page_size", BY_PEER, .page_size = 1);
	PEER(NULL, 0, length, -EINVAL, "page_size", BY_PEER, .page_size = UINT64_C(2) << 30);
	PEER(NULL, 0, length, -EINVAL, "file to fill", BY_PEER, .strategy = GMEM_STRATEGY_FILL);
	PEER(NULL, page, length, -EINVAL, "", BY_PEER, .page_size = 65536 * 2);
	PEER(NULL, UINT64_MAX - page + 1, 2 * page, -EINVAL, "", BY_PEER);
	assert_int_equal(counted(made).ranges, 0);
	assert_int_equal(gmem_uffd_register(made, NULL, 0, length, &opts), 0);
	PEER(NULL, 65536, length, -EEXIST, "watched already", BY_PEER, .page_size = 65536, .hva = length);
	PEER(NULL, length, length, -EEXIST, "addresses", BY_PEER, .page_size = 65536, .hva = opts.hva + length - 65536);
	bad("gmem_uffd_resolve", gmem_uffd_resolve(made, NULL, page, 65536, GMEM_RESOLVE_ZERO, NULL, NULL), -EINVAL, "whole pages");
	assert_int_equal(counted(made).ranges, 1);
	gmem_uffd_destroy(made);
	close(fd);
	as_it_was();
}

static void unregistering(void **state)
{
	uint64_t page;

	(void)state;
	set_up();
	page = lazy.page;
	bad("gmem_uffd_unregister", gmem_uffd_unregister(NULL, lazy.mem, 0, page), -EINVAL, "NULL");
	bad("gmem_uffd_unregister", gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, 0), -EINVAL, "");
	bad("gmem_uffd_unregister", gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, 9 * page), -EINVAL, "");
	bad("gmem_uffd_unregister", gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, page), -EINVAL, "partly");
	bad("gmem_uffd_unregister", gmem_uffd_unregister(lazy.uffd, lazy.mem, 2 * page, page), -ENOENT, "watched");
	bad("gmem_uffd_unregister", gmem_uffd_unregister(lazy.uffd, NULL, 0, page), -ENOENT, "watched");
	bad("gmem_uffd_unregister", gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, 8 * page), -EBUSY, "empty");
	as_it_was();
}

static void reading_and_asking(void **state)
{
	struct gmem_uffd_info info = { .size = 7, .ranges = 77 };
	struct gmem_fault fault;

	(void)state;
	set_up();
	bad("gmem_uffd_read", gmem_uffd_read(NULL, &fault, 1), -EINVAL, "NULL");
	bad("gmem_uffd_read", gmem_uffd_read(lazy.uffd, NULL, 1), -EINVAL, "faults is NULL");
	bad("gmem_uffd_read", gmem_uffd_read(lazy.uffd, &fault, 0), -EINVAL, "count is 0");
	no_event(lazy.uffd);
	bad("gmem_uffd_get_fd", gmem_uffd_get_fd(NULL), -EINVAL, "NULL");
	bad("gmem_uffd_query", gmem_uffd_query(NULL, &info), -EINVAL, "NULL");
	bad("gmem_uffd_query", gmem_uffd_query(lazy.uffd, NULL), -EINVAL, "info");
	bad("gmem_uffd_query", gmem_uffd_query(lazy.uffd, &info), -EINVAL, "size");
	assert_int_equal(info.ranges, 77);
	as_it_was();
}

static void refused(struct gmem_uffd *uffd, uint64_t offset, uint64_t length, int how, const void *data, int code, const char *word)
{
	uint64_t done = 77;
	int r = gmem_uffd_resolve(uffd, lazy.mem, offset, length, (enum gmem_resolve)how, data, &done);

	bad("gmem_uffd_resolve", r, code, word);
	assert_int_equal(done, 0);
}

static void resolving(void **state)
{
	unsigned char *data;
	uint64_t page;

	(void)state;
	set_up();
	page = lazy.page;
	data = malloc(page);
	refused(NULL, 0, page, GMEM_RESOLVE_DATA, data, -EINVAL, "NULL");
	refused(lazy.uffd, 0, 0, GMEM_RESOLVE_DATA, data, -EINVAL, "");
	refused(lazy.uffd, 1, page, GMEM_RESOLVE_DATA, data, -EINVAL, "");
	refused(lazy.uffd, 0, page - 1, GMEM_RESOLVE_DATA, data, -EINVAL, "");
	refused(lazy.uffd, 7 * page, 2 * page, GMEM_RESOLVE_DATA, data, -EINVAL, "");
	refused(lazy.uffd, 0, page, GMEM_RESOLVE_DATA, NULL, -EINVAL, "data is NULL");
	refused(lazy.uffd, 0, page, 0, data, -EINVAL, "how");
	refused(lazy.uffd, 0, page, 6, data, -EINVAL, "how");
	refused(lazy.uffd, 2 * page, page, GMEM_RESOLVE_DATA, data, -ENOENT, "not watched");
	refused(lazy.uffd, 0, page, GMEM_RESOLVE_PRESENT, NULL, -EBADFD, "empty");
	bad("gmem_uffd_resolve", gmem_uffd_resolve(lazy.uffd, NULL, 0, page, GMEM_RESOLVE_ZERO, NULL, NULL), -ENOENT, "not watched");
	free(data);
	as_it_was();
}

static void protecting(void **state)
{
	uint64_t page, done = 77;

	(void)state;
	set_up();
	page = lazy.page;
	bad("gmem_uffd_protect", gmem_uffd_protect(NULL, lazy.mem, 0, page, 1, &done), -EINVAL, "NULL");
	assert_int_equal(done, 0);
	done = 77;
	bad("gmem_uffd_protect", gmem_uffd_protect(lazy.uffd, lazy.mem, 0, page + 1, 1, &done), -EINVAL, "");
	bad("gmem_uffd_protect", gmem_uffd_protect(lazy.uffd, lazy.mem, 0, page, 2, &done), -EINVAL, "on is 2");
	bad("gmem_uffd_protect", gmem_uffd_protect(lazy.uffd, lazy.mem, 2 * page, page, 1, &done), -ENOENT, "not watched");
	bad("gmem_uffd_protect", gmem_uffd_protect(lazy.uffd, lazy.mem, 0, page, 1, &done), -EBADFD, "GMEM_REGISTER_WRITE_PROTECT");
	assert_int_equal(done, 0);
	as_it_was();
}

static const struct gt_test tests[] = {
	GT(creating, GT_NEEDS_UFFD_MINOR),
	GT(importing, GT_NEEDS_UFFD_MINOR),
	GT(registering_ranges, GT_NEEDS_UFFD_MINOR),
	GT(registering_options, GT_NEEDS_UFFD_MINOR),
	GT(registering_memory, GT_NEEDS_UFFD_MINOR),
	GT(registering_for_a_peer, GT_NEEDS_UFFD_MINOR),
	GT(unregistering, GT_NEEDS_UFFD_MINOR),
	GT(reading_and_asking, GT_NEEDS_UFFD_MINOR),
	GT(resolving, GT_NEEDS_UFFD_MINOR),
	GT(protecting, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("fault_input", tests)
