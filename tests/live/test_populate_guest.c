/* SPDX-License-Identifier: MIT */
/* A real guest reads every word that was put in, by each mechanism, from each kind of input, without and with threads. */
#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "content.h"
#include "feed.h"
#include "gt.h"
#include "huge.h"
#include "world.h"

#define LENGTH content_length()
#define PAGE 4096u
#define PC_HOLE UINT64_C(0x20000000) /* where low memory would end if it were full, and high memory begin */

struct way {
	uint32_t backing;
	enum gmem_mechanism mechanism;
	uint64_t flags; /* GMEM_POPULATE_* */
};

/* --- every input, with and without threads --- */

static bool can_be_forced(struct world *w, const struct way *way, enum feed_from from)
{
	if (way->mechanism == GMEM_MECH_SPLICE)
		return from == FEED_FILE || from == FEED_PIPE;
	return way->mechanism != GMEM_MECH_WRITE || way->backing != GMEM_BACKING_GUEST_MEMFD ||
	       gmem_vm_probe(w->vm, GMEM_FEATURE_GUEST_MEMFD_WRITE, NULL) == GMEM_PRESENT;
}

static void assert_refused(struct world *w, const struct feed *f, enum feed_from from)
{
	uint64_t done = 7;

	assert_int_equal(feed(w->mem, f, from, 0, PAGE, &done), -EOPNOTSUPP);
	assert_int_equal(done, 0);
}

/* By buffer what cannot be had otherwise, so that the whole image is in. */
static void put(struct world *w, const struct way *way, struct feed *f, enum feed_from from, uint64_t offset, uint64_t length)
{
	uint64_t done;

	f->opts.mechanism = way->mechanism;
	if (!can_be_forced(w, way, from)) {
		assert_refused(w, f, from);
		f->opts.mechanism = GMEM_MECH_NONE;
	}
	if (feed(w->mem, f, from, offset, length, &done))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, length);
	assert_int_not_equal(world_query(w).populate_mechanism, GMEM_MECH_NONE);
	if (f->opts.mechanism)
		assert_int_equal(world_query(w).populate_mechanism, f->opts.mechanism);
}

/* The image in eight pieces, cut at any byte. */
static void put_pieces(struct world *w, const struct way *way, struct feed *f)
{
	const unsigned int pieces = 2 * FEED_WAYS;
	uint64_t at = 0;

	for (unsigned int i = 0; i < pieces; i++) {
		uint64_t end = w->length / pieces * (i + 1) - content_random(&w->seed) % (w->length / pieces / 2);

		if (i == pieces - 1)
			end = w->length;
		f->opts.threads = i % 2 ? 2 : 0;
		put(w, way, f, (enum feed_from)(i / 2), at, end - at);
		at = end;
	}
}

/* Pages that the guest has touched before have to be overwritten, with zeros too. */
static void dirty_some(struct world *w)
{
	for (int i = 0; i < 20; i++)
		assert_true(guest_store(w->guest, content_random(&w->seed) % (w->length / PAGE) * PAGE + 16, ~UINT64_C(0)));
}

static void assert_accounted(struct world *w, uint64_t flags)
{
	struct gmem_info info = world_query(w);
	struct gmem_run run = { .size = sizeof(run) };

	assert_int_equal(info.populated + info.skipped, w->length);
	if (info.page_size == PAGE)
		assert_int_equal(info.skipped != 0, !(flags & GMEM_POPULATE_KEEP_ZEROS));
	if (!(flags & GMEM_POPULATE_KEEP_ZEROS))
		return;
	assert_int_equal(gmem_query_run(w->mem, 0, &run), 0);
	assert_int_equal(run.length, w->length);
	assert_int_equal(run.state, GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED);
}

static void all_inputs(const struct way *way, uint64_t length)
{
	struct world w = world_make(way->backing, length);
	struct feed f = { .opts = { .size = sizeof(f.opts), .flags = way->flags } };

	f.content = content_make(length, &w.seed);
	f.file = content_file(f.content, length, &w.seed);
	world_bind(&w, 0, 0, 0, length, 0);
	dirty_some(&w);
	put_pieces(&w, way, &f);
	close(f.file);
	assert_accounted(&w, way->flags);
	world_assert_guest_sees(&w, 0, f.content, length);
	world_end(&w);
}

#define ALL_INPUTS(name, ...)                                        \
	static void name##_all_inputs(void **state)                  \
	{                                                            \
		(void)state;                                         \
		all_inputs(&(const struct way){ __VA_ARGS__ }, LENGTH); \
	}

ALL_INPUTS(guest_memfd_by_default, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_NONE, 0)
ALL_INPUTS(guest_memfd_by_default_with_zeros, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_NONE, GMEM_POPULATE_KEEP_ZEROS)
ALL_INPUTS(guest_memfd_by_mapping, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_MAPPING, 0)
ALL_INPUTS(guest_memfd_by_mapping_with_zeros, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_MAPPING, GMEM_POPULATE_KEEP_ZEROS)
ALL_INPUTS(memfd_by_default, GMEM_BACKING_MEMFD, GMEM_MECH_NONE, 0)
ALL_INPUTS(memfd_by_default_with_zeros, GMEM_BACKING_MEMFD, GMEM_MECH_NONE, GMEM_POPULATE_KEEP_ZEROS)
ALL_INPUTS(memfd_by_write, GMEM_BACKING_MEMFD, GMEM_MECH_WRITE, 0)
ALL_INPUTS(memfd_by_mapping, GMEM_BACKING_MEMFD, GMEM_MECH_MAPPING, 0)
ALL_INPUTS(memfd_by_mapping_with_zeros, GMEM_BACKING_MEMFD, GMEM_MECH_MAPPING, GMEM_POPULATE_KEEP_ZEROS)
ALL_INPUTS(memfd_by_splice, GMEM_BACKING_MEMFD, GMEM_MECH_SPLICE, GMEM_POPULATE_KEEP_ZEROS)

static void guest_memfd_by_write_all_inputs(void **state)
{
	const struct way way = { GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_WRITE, 0 };
	struct world w = world_make(way.backing, PAGE);
	struct feed f = { .content = content_make(PAGE, &w.seed),
			  .opts = { .size = sizeof(f.opts), .mechanism = GMEM_MECH_WRITE } };
	bool can = can_be_forced(&w, &way, FEED_BUFFER);

	(void)state;
	if (!can)
		assert_refused(&w, &f, FEED_BUFFER);
	world_end(&w);
	if (!can)
		gt_skip("no write() on a guest_memfd in this kernel; refused as it should be");
	all_inputs(&way, LENGTH);
}

static void hugetlb_by_default_all_inputs(void **state)
{
	(void)state;
	all_inputs(&(const struct way){ .backing = GMEM_BACKING_HUGETLB }, huge_length(LENGTH));
}

static void hugetlb_by_mapping_all_inputs(void **state)
{
	const struct way way = { GMEM_BACKING_HUGETLB, GMEM_MECH_MAPPING, GMEM_POPULATE_KEEP_ZEROS };

	(void)state;
	all_inputs(&way, huge_length(LENGTH));
}

/* --- one call for all --- */

/* On fresh memory that nobody has been told of, as a VMM starts. */
static void image(const struct way *way, enum feed_from from, uint32_t threads)
{
	struct world w = world_make(way->backing, LENGTH);
	struct feed f = { .opts = { .size = sizeof(f.opts), .flags = way->flags, .threads = threads } };

	f.content = content_make(LENGTH, &w.seed);
	f.file = content_file(f.content, LENGTH, &w.seed);
	put(&w, way, &f, from, 0, LENGTH);
	close(f.file);
	assert_accounted(&w, way->flags);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	world_assert_guest_sees(&w, 0, f.content, LENGTH);
	world_end(&w);
}

#define IMAGE(name, from, threads, ...)                                    \
	static void image_##name(void **state)                             \
	{                                                                  \
		(void)state;                                               \
		image(&(const struct way){ __VA_ARGS__ }, from, threads); \
	}

IMAGE(straight_from_file, FEED_FILE, 0, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_MAPPING, 0)
IMAGE(straight_from_file_with_threads, FEED_FILE, 2, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_MAPPING, 0)
IMAGE(straight_from_file_with_zeros, FEED_FILE, 2, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_MAPPING, GMEM_POPULATE_KEEP_ZEROS)
IMAGE(from_source_with_threads, FEED_SOURCE, 2, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_NONE, 0)
IMAGE(from_buffer_with_threads, FEED_BUFFER, 2, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_NONE, 0)
IMAGE(memfd_from_file_with_threads, FEED_FILE, 2, GMEM_BACKING_MEMFD, GMEM_MECH_NONE, 0)
IMAGE(memfd_spliced_with_threads, FEED_FILE, 2, GMEM_BACKING_MEMFD, GMEM_MECH_SPLICE, GMEM_POPULATE_KEEP_ZEROS)
IMAGE(memfd_spliced_from_pipe, FEED_PIPE, 0, GMEM_BACKING_MEMFD, GMEM_MECH_SPLICE, GMEM_POPULATE_KEEP_ZEROS)

/* --- memslots of several sorts --- */

/* Memory below and above a hole in the guest's addresses, as a PC has it, from one file; bound first, filled in one call. */
static void below_and_above_a_hole(uint32_t backing, uint64_t flags)
{
	const uint64_t length = 16 * MIB, low = 6 * MIB + 3 * PAGE;
	struct world w = world_make(backing, length);
	struct feed f = { .content = content_make(length, &w.seed), .opts = { .size = sizeof(f.opts), .threads = 2 } };
	uint64_t done;

	if (flags & GMEM_BIND_READONLY && ioctl(w.vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_READONLY_MEM) <= 0) {
		world_end(&w);
		gt_skip("KVM has no read-only memslots here");
	}
	f.file = content_file(f.content, length, &w.seed);
	world_bind(&w, 0, PC_HOLE - low, 0, low, flags);
	world_bind(&w, 1, 2 * PC_HOLE, low, length - low, flags);
	assert_int_equal(feed(w.mem, &f, FEED_FILE, 0, length, &done), 0);
	close(f.file);
	world_assert_guest_sees(&w, PC_HOLE - low, f.content, low);
	world_assert_guest_sees(&w, 2 * PC_HOLE, f.content + low, length - low);
	world_assert_nothing_at(&w, PC_HOLE);
	world_assert_nothing_at(&w, 2 * PC_HOLE - 8);
	if (flags & GMEM_BIND_READONLY)
		assert_false(guest_store(w.guest, 2 * PC_HOLE, 1));
	world_assert_guest_sees(&w, 2 * PC_HOLE, f.content + low, length - low);
	world_end(&w);
}

#define HOLE(name, backing, flags)                      \
	static void hole_##name(void **state)           \
	{                                               \
		(void)state;                            \
		below_and_above_a_hole(backing, flags); \
	}

HOLE(guest_memfd, GMEM_BACKING_GUEST_MEMFD, 0)
HOLE(plain_slots_over_guest_memfd, GMEM_BACKING_GUEST_MEMFD, GMEM_BIND_PLAIN)
HOLE(read_only_over_guest_memfd, GMEM_BACKING_GUEST_MEMFD, GMEM_BIND_READONLY)
HOLE(memfd, GMEM_BACKING_MEMFD, 0)
HOLE(read_only_memfd, GMEM_BACKING_MEMFD, GMEM_BIND_READONLY)

#define GMEM GT_NEEDS_VCPU | GT_NEEDS_GUEST_MEMFD
#define HUGE_PAGES GT_NEEDS_VCPU | GT_NEEDS_HUGETLB_2M

static const struct gt_test tests[] = {
	GT(guest_memfd_by_default_all_inputs, GMEM),
	GT(guest_memfd_by_default_with_zeros_all_inputs, GMEM),
	GT(guest_memfd_by_mapping_all_inputs, GMEM),
	GT(guest_memfd_by_mapping_with_zeros_all_inputs, GMEM),
	GT(guest_memfd_by_write_all_inputs, GMEM),
	GT(memfd_by_default_all_inputs, GT_NEEDS_VCPU),
	GT(memfd_by_default_with_zeros_all_inputs, GT_NEEDS_VCPU),
	GT(memfd_by_write_all_inputs, GT_NEEDS_VCPU),
	GT(memfd_by_mapping_all_inputs, GT_NEEDS_VCPU),
	GT(memfd_by_mapping_with_zeros_all_inputs, GT_NEEDS_VCPU),
	GT(memfd_by_splice_all_inputs, GT_NEEDS_VCPU),
	GT(hugetlb_by_default_all_inputs, HUGE_PAGES),
	GT(hugetlb_by_mapping_all_inputs, HUGE_PAGES),
	GT(image_straight_from_file, GMEM),
	GT(image_straight_from_file_with_threads, GMEM),
	GT(image_straight_from_file_with_zeros, GMEM),
	GT(image_from_source_with_threads, GMEM),
	GT(image_from_buffer_with_threads, GMEM),
	GT(image_memfd_from_file_with_threads, GT_NEEDS_VCPU),
	GT(image_memfd_spliced_with_threads, GT_NEEDS_VCPU),
	GT(image_memfd_spliced_from_pipe, GT_NEEDS_VCPU),
	GT(hole_guest_memfd, GMEM),
	GT(hole_plain_slots_over_guest_memfd, GMEM),
	GT(hole_read_only_over_guest_memfd, GMEM),
	GT(hole_memfd, GT_NEEDS_VCPU),
	GT(hole_read_only_memfd, GT_NEEDS_VCPU),
};

GT_MAIN("populate_guest", tests)
