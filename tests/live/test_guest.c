/* SPDX-License-Identifier: MIT */
/* A real guest reads memory that libgmem made and filled: what it computes over it must be what the source says. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "content.h"
#include "gt.h"
#include "world.h"

#define LENGTH content_length()

/* Leaves out what this kernel cannot do, and only that: a mechanism that fails although its feature is there is a failure. */
static void skip_unless_forced_works(struct world *w, uint32_t mechanism)
{
	enum gmem_feature feature =
		mechanism == GMEM_MECH_WRITE ? GMEM_FEATURE_GUEST_MEMFD_WRITE : GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED;
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = mechanism };
	uint64_t done = 7;

	if (!mechanism || world_query(w).backing != GMEM_BACKING_GUEST_MEMFD ||
	    gmem_vm_probe(w->vm, feature, NULL) == GMEM_PRESENT)
		return;
	assert_int_equal(gmem_populate(w->mem, 0, 4096, "", &done, &opts), -EOPNOTSUPP);
	assert_int_equal(done, 0);
	world_end(w);
	gt_skip("no %s on this kernel; refused as it should be", gmem_feature_name(feature));
}

/* --- whole images, by every mechanism --- */

static void assert_populated(struct world *w, int result, uint64_t done, uint32_t mechanism)
{
	struct gmem_info info = world_query(w);

	if (result)
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, w->length);
	assert_int_equal(info.populated + info.skipped, w->length);
	assert_true(info.skipped > 0);
	if (mechanism)
		assert_int_equal(info.populate_mechanism, mechanism);
	else
		assert_int_not_equal(info.populate_mechanism, 0);
}

static void image_from_buffer(uint32_t backing, uint32_t mechanism)
{
	struct world w = world_make(backing, LENGTH);
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = mechanism };
	const unsigned char *content;
	uint64_t done;
	int r;

	skip_unless_forced_works(&w, mechanism);
	content = content_make(LENGTH, &w.seed);
	r = gmem_populate(w.mem, 0, LENGTH, content, &done, &opts);
	assert_populated(&w, r, done, mechanism);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_end(&w);
}

/* Bound first: the guest sees what is put in later. */
static void image_from_file(uint32_t backing, uint32_t mechanism)
{
	struct world w = world_make(backing, LENGTH);
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = mechanism };
	const unsigned char *content;
	uint64_t done;
	int fd, r;

	skip_unless_forced_works(&w, mechanism);
	content = content_make(LENGTH, &w.seed);
	fd = content_file(content, LENGTH, &w.seed);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	r = gmem_populate_fd(w.mem, 0, LENGTH, fd, 0, &done, &opts);
	close(fd);
	assert_populated(&w, r, done, mechanism);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_end(&w);
}

#define IMAGE(name, backing, mechanism)                \
	static void name##_from_buffer(void **state)   \
	{                                              \
		(void)state;                           \
		image_from_buffer(backing, mechanism); \
	}                                              \
	static void name##_from_file(void **state)     \
	{                                              \
		(void)state;                           \
		image_from_file(backing, mechanism);   \
	}

IMAGE(auto_by_chain, GMEM_BACKING_AUTO, 0)
IMAGE(guest_memfd_by_chain, GMEM_BACKING_GUEST_MEMFD, 0)
IMAGE(guest_memfd_by_mapping, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_MAPPING)
IMAGE(guest_memfd_by_write, GMEM_BACKING_GUEST_MEMFD, GMEM_MECH_WRITE)
IMAGE(memfd_by_chain, GMEM_BACKING_MEMFD, 0)
IMAGE(memfd_by_mapping, GMEM_BACKING_MEMFD, GMEM_MECH_MAPPING)
IMAGE(memfd_by_write, GMEM_BACKING_MEMFD, GMEM_MECH_WRITE)

/* One page; more may not be free. */
static void hugetlb_by_chain(void **state)
{
	struct world w = world_make(GMEM_BACKING_HUGETLB, 2 * MIB);
	const unsigned char *content = world_fill(&w);

	(void)state;
	assert_int_equal(world_query(&w).page_size, 2 * MIB);
	world_bind(&w, 0, 4 * MIB, 0, w.length, 0);
	world_assert_guest_sees(&w, 4 * MIB, content, w.length);
	assert_true(guest_store(w.guest, 4 * MIB + 8, 1));
	world_end(&w);
}

struct feed {
	int fd;
	const unsigned char *content;
};

static void *feed(void *arg)
{
	const struct feed *feed = arg;
	size_t done = 0;

	while (done < LENGTH) {
		ssize_t r = write(feed->fd, feed->content + done, LENGTH - done);

		if (r <= 0)
			break;
		done += (size_t)r;
	}
	close(feed->fd);
	return NULL;
}

/* A pipe brings a few pages at a time. */
static void auto_by_chain_from_pipe(void **state)
{
	struct world w = world_make(GMEM_BACKING_AUTO, LENGTH);
	struct feed feeder = { .content = content_make(LENGTH, &w.seed) };
	pthread_t thread;
	uint64_t done;
	int ends[2], r;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	feeder.fd = ends[1];
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	assert_int_equal(pthread_create(&thread, NULL, feed, &feeder), 0);
	r = gmem_populate_fd(w.mem, 0, LENGTH, ends[0], 0, &done, NULL);
	close(ends[0]);
	pthread_join(thread, NULL);
	assert_populated(&w, r, done, 0);
	world_assert_guest_sees(&w, 0, feeder.content, LENGTH);
	world_end(&w);
}

/* --- pieces at odd offsets --- */

#define PIECES 40

/* The image is cut at random bytes; returns the number of cuts, the two ends included. */
static size_t cut(uint64_t *cuts, uint64_t length, uint64_t *seed)
{
	uint64_t at = 0;
	size_t n = 0;

	while (n < PIECES && at < length) {
		cuts[n++] = at;
		at += 1 + content_random(seed) % (length / PIECES * 2);
	}
	cuts[n] = length;
	return n + 1;
}

static void put_piece(struct world *w, const unsigned char *content, int fd, uint64_t from, uint64_t to)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts) };
	uint64_t done = 0;
	int r;

	if (content_random(&w->seed) & 1)
		opts.flags = GMEM_POPULATE_KEEP_ZEROS;
	if (content_random(&w->seed) & 1)
		opts.chunk = UINT64_C(4096) << content_random(&w->seed) % 10;
	if (content_random(&w->seed) & 1)
		r = gmem_populate(w->mem, from, to - from, content + from, &done, &opts);
	else
		r = gmem_populate_fd(w->mem, from, to - from, fd, from, &done, &opts);
	if (r)
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, to - from);
}

/* Out of order, into memory which is bound and which the guest has read already. */
static void pieces(uint32_t backing)
{
	struct world w = world_make(backing, 16 * MIB);
	const unsigned char *content = content_make(w.length, &w.seed);
	int fd = content_file(content, w.length, &w.seed);
	uint64_t cuts[PIECES + 1];
	size_t n = cut(cuts, w.length, &w.seed) - 1;
	static const unsigned char zeros[16 * MIB];

	world_bind(&w, 0, 0, 0, w.length, 0);
	world_assert_guest_sees(&w, 0, zeros, w.length);
	for (size_t i = 0; i < n; i++) {
		size_t piece = (i * 7 + 3) % n;

		if (n % 7 == 0)
			piece = n - 1 - i;
		put_piece(&w, content, fd, cuts[piece], cuts[piece + 1]);
	}
	close(fd);
	world_assert_guest_sees(&w, 0, content, w.length);
	world_end(&w);
}

static void guest_memfd_in_odd_pieces(void **state)
{
	(void)state;
	pieces(GMEM_BACKING_GUEST_MEMFD);
}

static void memfd_in_odd_pieces(void **state)
{
	(void)state;
	pieces(GMEM_BACKING_MEMFD);
}

/* --- zeros over what was there --- */

/* The guest's own writes make pages too, which a later image of zeros has to overwrite. */
static void zeros_overwrite(uint32_t backing)
{
	struct world w = world_make(backing, 4 * MIB);
	static const unsigned char zeros[4 * MIB];
	uint64_t done, *host, sum;

	world_bind(&w, 0, 0, 0, w.length, 0);
	assert_true(guest_store(w.guest, 5 * 4096 + 8, 0x1111));
	assert_true(guest_store(w.guest, w.length - 8, 0x2222));
	assert_int_equal(gmem_map(w.mem, 0, w.length, (void **)&host, NULL), 0);
	assert_int_equal(host[(5 * 4096 + 8) / 8], 0x1111);
	host[100 * 512] = 0x3333;
	sum = guest_sum(w.guest, WORLD_SUM, 0, w.length);
	assert_int_not_equal(sum, host_sum(WORLD_SUM, zeros, w.length));
	assert_int_equal(gmem_populate(w.mem, 0, w.length, zeros, &done, NULL), 0);
	assert_int_equal(done, w.length);
	world_assert_guest_sees(&w, 0, zeros, w.length);
	world_end(&w);
}

static void guest_memfd_zeros_overwrite(void **state)
{
	(void)state;
	zeros_overwrite(GMEM_BACKING_GUEST_MEMFD);
}

static void memfd_zeros_overwrite(void **state)
{
	(void)state;
	zeros_overwrite(GMEM_BACKING_MEMFD);
}

/* --- the checksum itself --- */

static void flipped_word_is_noticed(void **state)
{
	struct world w = world_make(GMEM_BACKING_AUTO, LENGTH);
	unsigned char *content = content_make(LENGTH, &w.seed), *host;
	uint64_t done, where = content_random(&w.seed) % (LENGTH / 8) * 8;

	(void)state;
	assert_int_equal(gmem_populate(w.mem, 0, LENGTH, content, &done, NULL), 0);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	assert_int_equal(gmem_map(w.mem, 0, LENGTH, (void **)&host, NULL), 0);
	host[where] ^= 1;
	assert_int_not_equal(guest_sum(w.guest, WORLD_SUM, 0, LENGTH), host_sum(WORLD_SUM, content, LENGTH));
	content[where] ^= 1;
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_end(&w);
}

#define GMEM GT_NEEDS_VCPU | GT_NEEDS_GUEST_MEMFD

static const struct gt_test tests[] = {
	GT(auto_by_chain_from_buffer, GT_NEEDS_VCPU),
	GT(auto_by_chain_from_file, GT_NEEDS_VCPU),
	GT(auto_by_chain_from_pipe, GT_NEEDS_VCPU),
	GT(guest_memfd_by_chain_from_buffer, GMEM),
	GT(guest_memfd_by_chain_from_file, GMEM),
	GT(guest_memfd_by_mapping_from_buffer, GMEM),
	GT(guest_memfd_by_mapping_from_file, GMEM),
	GT(guest_memfd_by_write_from_buffer, GMEM),
	GT(guest_memfd_by_write_from_file, GMEM),
	GT(memfd_by_chain_from_buffer, GT_NEEDS_VCPU),
	GT(memfd_by_chain_from_file, GT_NEEDS_VCPU),
	GT(memfd_by_mapping_from_buffer, GT_NEEDS_VCPU),
	GT(memfd_by_mapping_from_file, GT_NEEDS_VCPU),
	GT(memfd_by_write_from_buffer, GT_NEEDS_VCPU),
	GT(memfd_by_write_from_file, GT_NEEDS_VCPU),
	GT(hugetlb_by_chain, GT_NEEDS_VCPU | GT_NEEDS_HUGETLB_2M),
	GT(guest_memfd_in_odd_pieces, GMEM),
	GT(memfd_in_odd_pieces, GT_NEEDS_VCPU),
	GT(guest_memfd_zeros_overwrite, GMEM),
	GT(memfd_zeros_overwrite, GT_NEEDS_VCPU),
	GT(flipped_word_is_noticed, GT_NEEDS_VCPU),
};

GT_MAIN("guest", tests)
