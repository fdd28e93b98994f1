/* SPDX-License-Identifier: MIT */
/* Importing, discarding, looking at and placing memory with every system call and allocation of them failing in turn: what is
 * said to be done is done, what is said of a page is true or said to be unknown, and what a passing failure stopped can be done
 * again. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "content.h"
#include "fakekvm.h"
#include "files.h"
#include "handles.h"
#include "inject.h"
#include "memories.h"
#include "points.h"
#include "raw.h"
#include "wrap.h"

#define PAGES 16
#define CONTENT (GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED)
#define UNKNOWN (GMEM_RUN_ALLOCATED_UNKNOWN | GMEM_RUN_INITIALISED_UNKNOWN)

static struct memory memory;

/* What a run does: uncounted before and after the call itself. */
struct subject {
	const char *preset; /* of the VM; NULL = none: then it is a memfd */
	enum make make;
	uint64_t need;
	bool unmapped; /* forget the mapping that populating left */
};

static struct memory make(const struct subject *subject)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = subject->need };
	struct memory made = { .vm_fd = -1, .length = PAGES * page() };

	if (!subject->preset)
		return make_memory(subject->make, made.length);
	made.vm_fd = fakekvm_vm(fakekvm_preset(subject->preset));
	made.vm = open_vm(made.vm_fd);
	assert_int_equal(gmem_create(made.vm, made.length, &made.mem, &opts), 0);
	return made;
}

/* Pages 4 to 7 have content, 8 to 11 are allocated. */
static void set_up(const struct subject *subject)
{
	unsigned char *content;
	int fd;

	inject_pause();
	content = pages_of_content(4, 0);
	memory = make(subject);
	fd = gmem_get_fd(memory.mem, GMEM_FD_SHARED_HALF);
	if (fd < 0)
		fd = gmem_get_fd(memory.mem, GMEM_FD_MEMORY);
	if (subject->need != GMEM_NEED_PRIVATE)
		assert_int_equal(gmem_populate(memory.mem, 4 * page(), 4 * page(), content, NULL, NULL), 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)(8 * page()), (off_t)(4 * page())), 0);
	if (subject->unmapped)
		assert_int_equal(gmem_unmap(memory.mem, 0, memory.length), 0);
	free(content);
	inject_resume();
}

static void tear_down(void)
{
	inject_pause();
	end_memory(&memory);
	inject_resume();
}

static const struct subject subjects[] = {
	{ .make = MEMFD },
	{ .make = LAZY_MEMFD },
	{ .preset = "6.18" },
	{ .preset = "7.3", .unmapped = true },
	{ .preset = "future-upstream", .need = GMEM_NEED_PRIVATE },
	{ .preset = "sw-protected", .need = GMEM_NEED_PRIVATE | GMEM_NEED_MAPPABLE },
};
#define SUBJECTS (sizeof(subjects) / sizeof(subjects[0]))

static void each_subject(int (*body)(void *arg))
{
	for (size_t i = 0; i < SUBJECTS; i++) {
		struct subject subject = subjects[i];

		each(body, &subject);
	}
}

/* Discarding */

static int discard_some(void *arg)
{
	uint64_t offset = 2 * page(), length = 8 * page(), done = UINT64_MAX;
	int r;

	set_up(arg);
	r = gmem_discard(memory.mem, offset, length, &done, NULL);
	inject_pause();
	assert_true(r == 0 ? done == length : done <= length && done % page() == 0);
	if (done)
		assert_int_equal(absent_bytes(memory.mem, offset, done), done);
	if (r && was_transient())
		assert_int_equal(gmem_discard(memory.mem, offset + done, length - done, NULL, NULL), 0);
	if (r == 0 || was_transient())
		assert_int_equal(absent_bytes(memory.mem, 0, memory.length), memory.length - 2 * page());
	inject_resume();
	tear_down();
	return r;
}

static void discarding(void **state)
{
	(void)state;
	want_small_pages();
	each_subject(discard_some);
}

/* Looking */

/* The states that set_up() made; of private memory the kernel does not tell more than what is allocated. */
static uint64_t truth(const struct subject *subject, uint64_t number)
{
	if (number >= 8 && number < 12)
		return GMEM_RUN_ALLOCATED | (subject->need == GMEM_NEED_PRIVATE ? GMEM_RUN_INITIALISED_UNKNOWN : 0);
	if (number >= 4 && number < 8 && subject->need != GMEM_NEED_PRIVATE)
		return CONTENT | (subject->make == LAZY_MEMFD ? GMEM_RUN_FILLED : 0);
	return 0;
}

/* What is known is true. */
static void assert_true_or_unknown(const struct subject *subject, uint64_t number, uint64_t said)
{
	uint64_t is = truth(subject, number), unknown = (said | is) & UNKNOWN;
	uint64_t meaningless = (unknown & GMEM_RUN_ALLOCATED_UNKNOWN ? GMEM_RUN_ALLOCATED : 0) |
			       (unknown & GMEM_RUN_INITIALISED_UNKNOWN ? GMEM_RUN_INITIALISED : 0) | UNKNOWN;

	if ((said ^ is) & ~meaningless)
		fail_msg("page %llu is %#llx, not %#llx as was said after %s", (unsigned long long)number,
			 (unsigned long long)is, (unsigned long long)said, inject_describe());
}

/* The one failure that no kernel would make up: that there is no data behind an offset. */
static bool was_a_lie(void)
{
	return strcmp(inject_where(), "lseek") == 0 && strstr(inject_describe(), strerror(ENXIO));
}

static int look_everywhere(void *arg)
{
	const struct subject *subject = arg;
	int r = 0;

	set_up(subject);
	for (uint64_t at = 0; r == 0 && at < memory.length;) {
		struct gmem_run run = { .size = sizeof(run) };

		r = gmem_query_run(memory.mem, at, &run);
		if (r < 0)
			break;
		assert_true(run.length && run.length % page() == 0 && run.length <= memory.length - at);
		for (uint64_t i = at; i < at + run.length && !was_a_lie(); i += page())
			assert_true_or_unknown(subject, i / page(), run.state);
		at += run.length;
	}
	tear_down();
	return r;
}

static void looking(void **state)
{
	(void)state;
	want_small_pages();
	each_subject(look_everywhere);
}

/* Placing */

static int place_some(void *arg)
{
	static const uint64_t mask = 1;
	const struct subject *subject = arg;
	/* Of a guest_memfd before 6.19, and of what cannot be mapped, there is nothing to place. */
	bool old = subject->preset && strcmp(subject->preset, "6.18") == 0;
	int expected = old || subject->need == GMEM_NEED_PRIVATE ? -EOPNOTSUPP : 0, r;

	set_up(subject);
	r = gmem_set_nodes(memory.mem, page(), 3 * page(), &mask, 1, NULL);
	inject_pause();
	if (was_transient())
		assert_int_equal(gmem_set_nodes(memory.mem, page(), 3 * page(), &mask, 1, NULL), expected);
	inject_resume();
	tear_down();
	return r == expected ? 0 : r;
}

static void placing(void **state)
{
	(void)state;
	if (syscall(SYS_get_mempolicy, NULL, NULL, 0ul, NULL, 0ul))
		gt_skip("no NUMA policies here: %s", strerror(errno));
	each_subject(place_some);
}

/* Importing */

struct parcel {
	const char *preset; /* of the VM */
	bool guest_memfd;   /* it is one, of the VM; else a memfd */
	uint64_t need;
};

static int file_for(const struct parcel *parcel)
{
	uint64_t flags = parcel->need == GMEM_NEED_PRIVATE ? 0 : RAW_SHARED;
	int fd = parcel->guest_memfd ? raw_guest_memfd(memory.vm_fd, PAGES * page(), flags)
				     : memfd_of(PAGES * page(), 0, F_SEAL_SHRINK);

	assert_true(fd >= 0);
	return fd;
}

static int import_one(void *arg)
{
	const struct parcel *parcel = arg;
	struct gmem_import_opts opts = { .size = sizeof(opts), .need = parcel->need };
	struct gmem *mem = UNTOUCHED;
	int fd, r;

	inject_pause();
	memory.vm_fd = fakekvm_vm(fakekvm_preset(parcel->preset));
	memory.vm = open_vm(memory.vm_fd);
	fd = file_for(parcel);
	inject_resume();
	r = gmem_import(memory.vm, fd, 0, &mem, &opts);
	assert_int_equal(r == 0, mem != UNTOUCHED);
	if (r == 0)
		gmem_destroy(mem);
	inject_pause();
	if (was_transient()) {
		assert_int_equal(gmem_import(memory.vm, fd, 0, &mem, &opts), 0);
		gmem_destroy(mem);
	}
	close(fd);
	gmem_vm_close(memory.vm);
	close(memory.vm_fd);
	inject_resume();
	return r;
}

static void importing_a_memfd(void **state)
{
	struct parcel plain = { "6.18", false, 0 }, lazy = { "6.18", false, GMEM_NEED_LAZY };

	(void)state;
	each(import_one, &plain);
	each(import_one, &lazy);
}

static void importing_a_guest_memfd(void **state)
{
	struct parcel by_name = { "6.18", true, 0 }, by_magic = { "7.3", true, 0 };
	struct parcel lazy = { "future-upstream", true, GMEM_NEED_LAZY };
	struct parcel closed = { "future-upstream", true, GMEM_NEED_PRIVATE };

	(void)state;
	each(import_one, &by_name);
	each(import_one, &by_magic);
	each(import_one, &lazy);
	each(import_one, &closed);
}

static const struct gt_test tests[] = {
	GT(discarding, GT_NEEDS_NOTHING),	      GT(looking, GT_NEEDS_NOTHING),
	GT(placing, GT_NEEDS_NOTHING),		      GT(importing_a_memfd, GT_NEEDS_NOTHING),
	GT(importing_a_guest_memfd, GT_NEEDS_NOTHING),
};

GT_MAIN("inject_pages", tests)
