/* SPDX-License-Identifier: MIT */
/* The populate calls with every system call and allocation of them failing in turn: what is said to be done is in the memory,
 * byte by byte, and what a passing failure stopped is gone on with. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"
#include "inject.h"
#include "points.h"
#include "wrap.h"

#define PAGES 40

static int vm_fd;
static struct gmem_vm *vm;
static struct gmem *mem;

/* Uncounted. */
static void set_up(const char *preset, uint64_t need)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need };

	inject_pause();
	vm = NULL;
	mem = NULL;
	vm_fd = preset ? fakekvm_vm(fakekvm_preset(preset)) : -1;
	assert_int_equal(gmem_vm_open(vm_fd, &vm, NULL), 0);
	assert_int_equal(gmem_create(vm, PAGES * page(), &mem, &opts), 0);
	inject_resume();
}

static void tear_down(void)
{
	inject_pause();
	gmem_destroy(mem);
	gmem_vm_close(vm);
	if (vm_fd >= 0)
		close(vm_fd);
	inject_resume();
}

/* The one failure that no kernel would make up: that there is no data where there is some. */
static bool was_a_lie(void)
{
	return strcmp(inject_where(), "lseek") == 0 && strstr(inject_describe(), strerror(ENXIO));
}

/* Into what, from where, how, and over what. */
struct filling {
	const char *preset; /* of the VM, NULL = none: then it is a memfd */
	uint64_t need;
	enum gmem_mechanism mechanism;
	bool over; /* something that is there already */
	int fd;    /* -1 = the buffer */
	bool stream;
	unsigned char *data; /* PAGES of content, pages of zeros between */
};

#define FROM 33 /* odd */

static uint64_t length_of(void)
{
	return (PAGES - 1) * page() - FROM;
}

static void assert_filled(const struct filling *filling, uint64_t done)
{
	const unsigned char *is;
	void *address;

	assert_int_equal(gmem_map(mem, 0, PAGES * page(), &address, NULL), 0);
	is = address;
	if (memcmp(is + FROM, filling->data, done) != 0)
		fail_msg("the %llu bytes that are done are not those of the input, after %s", (unsigned long long)done,
			 inject_describe());
	assert_int_equal(is[FROM - 1], filling->over ? 0xcc : 0);
	assert_int_equal(is[FROM + length_of()], filling->over ? 0xcc : 0);
}

static void prepare(struct filling *filling)
{
	unsigned char *before = malloc(PAGES * page());

	assert_non_null(before);
	memset(before, 0xcc, PAGES * page());
	if (filling->over)
		assert_int_equal(gmem_populate(mem, 0, PAGES * page(), before, NULL, NULL), 0);
	free(before);
	if (filling->stream) {
		int ends[2];

		assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
		assert_true(fcntl(ends[1], F_SETPIPE_SZ, PAGES * page()) >= 0);
		assert_int_equal(write(ends[1], filling->data, length_of()), length_of());
		close(ends[1]);
		filling->fd = ends[0];
	} else if (filling->fd >= 0) {
		assert_int_equal(lseek(filling->fd, 0, SEEK_SET), 0);
	}
}

static int fill(const struct filling *filling, uint64_t from, uint64_t *done)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = filling->mechanism, .chunk = 16 * page() };

	*done = UINT64_MAX;
	if (filling->fd >= 0)
		return gmem_populate_fd(mem, FROM + from, length_of() - from, filling->fd, from, done, &opts);
	return gmem_populate(mem, FROM + from, length_of() - from, filling->data + from, done, &opts);
}

static void check(const struct filling *filling, int r, uint64_t done)
{
	struct gmem_info info;
	uint64_t more;

	assert_true(r == 0 ? done == length_of() : done <= length_of());
	if (was_a_lie())
		return;
	assert_filled(filling, done);
	info = info_of(mem);
	if (!filling->over)
		assert_int_equal(info.populated + info.skipped, done);
	/* A stream may have lost one step. */
	if (r == 0 || filling->stream || !was_transient())
		return;
	assert_int_equal(fill(filling, done, &more), 0);
	assert_int_equal(done + more, length_of());
	assert_filled(filling, length_of());
}

static int fill_memory(void *arg)
{
	struct filling filling = *(struct filling *)arg;
	uint64_t done;
	int r;

	set_up(filling.preset, filling.need);
	inject_pause();
	prepare(&filling);
	inject_resume();
	r = fill(&filling, 0, &done);
	inject_pause();
	check(&filling, r, done);
	if (filling.stream)
		close(filling.fd);
	inject_resume();
	tear_down();
	return r;
}

static void fill_in_all_ways(struct filling filling)
{
	const enum gmem_mechanism ways[] = { 0, GMEM_MECH_MAPPING, filling.preset ? 0 : GMEM_MECH_WRITE };

	filling.data = calloc(PAGES, page());
	assert_non_null(filling.data);
	for (uint64_t i = 0; i < PAGES * page(); i++)
		filling.data[i] = i / page() % 4 ? (unsigned char)(i % 199 + 1) : 0;
	if (filling.fd >= 0)
		assert_int_equal(pwrite(filling.fd, filling.data, length_of(), 0), length_of());
	for (size_t i = 0; i < 6; i++) {
		filling.mechanism = ways[i / 2];
		filling.over = i % 2;
		if (i < 2 || filling.mechanism)
			each(fill_memory, &filling);
	}
	free(filling.data);
}

static void populating_from_a_buffer(void **state)
{
	(void)state;
	fill_in_all_ways((struct filling){ .fd = -1 });
}

static void populating_lazy_memory(void **state)
{
	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	fill_in_all_ways((struct filling){ .fd = -1, .need = GMEM_NEED_LAZY | GMEM_NEED_MAPPABLE });
}

static void populating_from_a_file(void **state)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	fill_in_all_ways((struct filling){ .fd = fd });
	close(fd);
}

static void populating_from_a_pipe(void **state)
{
	(void)state;
	fill_in_all_ways((struct filling){ .fd = -1, .stream = true });
}

static void populating_a_guest_memfd_through_its_mapping(void **state)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	(void)state;
	fill_in_all_ways((struct filling){ .preset = "6.18", .fd = -1 });
	fill_in_all_ways((struct filling){ .preset = "6.18", .fd = fd });
	close(fd);
}

static void populating_a_guest_memfd_that_can_be_written(void **state)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	(void)state;
	fill_in_all_ways((struct filling){ .preset = "future-upstream", .fd = -1 });
	fill_in_all_ways((struct filling){ .preset = "future-upstream", .fd = fd });
	close(fd);
}

static const struct gt_test tests[] = {
	GT(populating_from_a_buffer, GT_NEEDS_NOTHING),
	GT(populating_lazy_memory, GT_NEEDS_NOTHING),
	GT(populating_from_a_file, GT_NEEDS_NOTHING),
	GT(populating_from_a_pipe, GT_NEEDS_NOTHING),
	GT(populating_a_guest_memfd_through_its_mapping, GT_NEEDS_NOTHING),
	GT(populating_a_guest_memfd_that_can_be_written, GT_NEEDS_NOTHING),
};

GT_MAIN("inject_fill", tests)
