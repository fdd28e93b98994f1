/* SPDX-License-Identifier: MIT */
/* Prefaulting from the host's side: pages exist after, and hold what they held. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/populate.h>

#include "content.h"
#include "fakekvm.h"
#include "handles.h"
#include "inject.h"
#include "machines.h"
#include "memories.h"
#include "points.h"
#include "refusal.h"

#define PAGES 1300 /* pieces of 512: two, and a part */
#define LENGTH (PAGES * page())
#define PRESENT (GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED)
#define HUGE (UINT64_C(2) << 20)

static struct memory m;

static int host(uint64_t offset, uint64_t length, uint64_t *done)
{
	return prefault_with(m.mem, offset, length, done, 0, 0);
}

/* What it does */

static void check_range(enum make make, uint64_t first, uint64_t count, uint32_t threads)
{
	unsigned char *content = pages_of_content(PAGES, 0), *model = buffer(LENGTH, 0);
	uint64_t offset = first * page(), length = count * page(), done;

	m = make_memory(make, LENGTH);
	/* Some of it is there, some of it not. */
	memcpy(model + 50 * page() + 7, content, 600 * page());
	assert_int_equal(gmem_populate(m.mem, 50 * page() + 7, 600 * page(), content, NULL, NULL), 0);
	assert_int_equal(prefault_with(m.mem, offset, length, &done, 0, threads), 0);
	assert_int_equal(done, length);
	assert_int_equal(info_of(m.mem).prefault_mechanism, GMEM_MECH_HOST_FAULT);
	assert_int_equal(info_of(m.mem).populated, 600 * page());
	if (make != LAZY_MEMFD)
		assert_state(m.mem, offset, length, PRESENT);
	assert_int_equal(absent_bytes(m.mem, offset, length), 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		bool there = (i >= 50 && i < 651) || (i >= first && i < first + count);

		assert_int_equal(absent_bytes(m.mem, i * page(), page()), there ? 0 : page());
	}
	assert_reads_only(&m, 0, model, LENGTH);
	end_memory(&m);
	free(model);
	free(content);
}

static void check_ranges(enum make make)
{
	static const uint64_t ranges[][2] = { { 0, PAGES }, { 0, 1 }, { PAGES - 1, 1 }, { 20, 60 }, { 511, 2 }, { 600, 700 } };

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		check_range(make, ranges[i][0], ranges[i][1], (uint32_t)i % 3 * 3);
}

static void pages_exist_after_and_hold_what_they_held(void **state)
{
	(void)state;
	want_small_pages();
	check_ranges(MEMFD);
	check_ranges(FAKE_GUEST_MEMFD);
	check_ranges(FAKE_WITH_WRITE);
	check_ranges(LAZY_MEMFD);
}

static void pages_exist_after_in_a_guest_memfd(void **state)
{
	(void)state;
	check_ranges(REAL_GUEST_MEMFD);
}

static void a_huge_page_exists_after(void **state)
{
	unsigned char *content = pages_of_content(1, 0);
	uint64_t done;

	(void)state;
	m = make_memory(HUGETLB, HUGE);
	bad("gmem_prefault", host(0, page(), &done), -EINVAL, "");
	assert_int_equal(gmem_populate(m.mem, 5, page(), content, NULL, NULL), 0);
	assert_int_equal(host(0, HUGE, &done), 0);
	assert_int_equal(done, HUGE);
	assert_state(m.mem, 0, HUGE, PRESENT);
	assert_reads_only(&m, 5, content, page());
	end_memory(&m);
	free(content);
}

/* The page map knows nothing of it: the pages are as empty as before to a pager. */
static void in_the_page_map_nothing_changes(void **state)
{
	uint64_t done;

	(void)state;
	m = make_memory(LAZY_MEMFD, LENGTH);
	assert_int_equal(host(0, LENGTH, &done), 0);
	assert_state(m.mem, 0, LENGTH, PRESENT);
	end_memory(&m);
}

static void any_number_of_threads_does_it(void **state)
{
	static const uint32_t threads[] = { 1, 2, 7, 64 };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		uint64_t done;

		m = make_memory(MEMFD, LENGTH);
		assert_int_equal(prefault_with(m.mem, 0, LENGTH, &done, 0, threads[i]), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(absent_bytes(m.mem, 0, LENGTH), 0);
		end_memory(&m);
	}
}

/* What exists is always written over: content of zeros does not bring the pages back to nothing. */
static void what_was_prefaulted_stays(void **state)
{
	unsigned char *zeros = buffer(LENGTH, 0);
	uint64_t done;

	(void)state;
	for (unsigned int make = 0; make < WITHOUT_NEEDS; make++) {
		m = make_memory(make, LENGTH);
		assert_int_equal(host(0, LENGTH, &done), 0);
		assert_int_equal(gmem_populate(m.mem, 0, LENGTH, zeros, NULL, NULL), 0);
		assert_int_equal(info_of(m.mem).skipped, 0);
		assert_state(m.mem, 0, LENGTH, PRESENT);
		end_memory(&m);
	}
	free(zeros);
}

/* The mapping that a memslot uses is the one whose page tables are filled. */
static void mappings_of_parts_are_used_as_far_as_they_go(void **state)
{
	uint64_t done;
	void *address;

	(void)state;
	m = make_memory(MEMFD, LENGTH);
	for (uint64_t i = 0; i < PAGES; i += 130)
		assert_int_equal(gmem_map(m.mem, i * page(), 100 * page(), &address, NULL), 0);
	assert_int_equal(host(10 * page(), 1200 * page(), &done), 0);
	assert_int_equal(done, 1200 * page());
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), 100 * page());
	end_memory(&m);
}

/* Where the host may not touch it, pages are allocated. */
static void memory_that_cannot_be_mapped_is_allocated(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_HIDDEN };
	int vm_fd = fakekvm_vm(fakekvm_preset("future-firecracker"));
	struct gmem_vm *vm = open_vm(vm_fd);
	uint64_t done;

	(void)state;
	assert_int_equal(gmem_create(vm, LENGTH, &m.mem, &opts), 0);
	fakekvm_script("madvise", EFAULT, 0, 0);
	assert_int_equal(host(0, LENGTH, &done), 0);
	assert_int_equal(done, LENGTH);
	assert_int_equal(fakekvm_calls("fallocate"), 3);
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), 0);
	gmem_destroy(m.mem);
	gmem_vm_close(vm);
	close(vm_fd);
}

/* Refusals */

static void bad_arguments_are_refused(void **state)
{
	struct {
		struct gmem_prefault_opts opts;
		uint64_t tail;
	} o = { .opts = { .size = sizeof(o) } };
	uint64_t done, p = page();

	(void)state;
	m = make_memory(MEMFD, LENGTH);
	bad("gmem_prefault", prefault_with(NULL, 0, p, &done, 0, 0), -EINVAL, "NULL");
	assert_int_equal(done, 0);
	bad("gmem_prefault", host(1, p, &done), -EINVAL, "");
	bad("gmem_prefault", host(0, p + 1, &done), -EINVAL, "");
	bad("gmem_prefault", host(0, 0, &done), -EINVAL, "");
	bad("gmem_prefault", host(0, LENGTH + p, &done), -EINVAL, "");
	bad("gmem_prefault", host(LENGTH, p, &done), -EINVAL, "");
	bad("gmem_prefault", host(p, ~UINT64_C(0) - p + 1, &done), -EINVAL, "");
	bad("gmem_prefault", prefault_with(m.mem, 0, p, &done, 0, 65), -EINVAL, "threads");
	assert_int_equal(done, 0);
	o.opts.flags = 1;
	bad("gmem_prefault", gmem_prefault(m.mem, 0, p, &done, &o.opts), -E2BIG, "flags");
	o.opts.flags = 0;
	o.tail = 1;
	bad("gmem_prefault", gmem_prefault(m.mem, 0, p, &done, &o.opts), -E2BIG, "member");
	o.opts.size = 7;
	bad("gmem_prefault", gmem_prefault(m.mem, 0, p, &done, &o.opts), -EINVAL, "size");
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), LENGTH);
	assert_int_equal(info_of(m.mem).prefault_mechanism, 0);
	o.opts.size = 8;
	assert_int_equal(gmem_prefault(m.mem, 0, p, NULL, &o.opts), 0);
	end_memory(&m);
}

static void ways_that_are_none_cannot_be_forced(void **state)
{
	static const enum gmem_mechanism ways[] = { GMEM_MECH_PRE_FAULT, GMEM_MECH_MAP_MEMORY, GMEM_MECH_MAP_MEMORY_V1,
						    GMEM_MECH_WRITE, GMEM_MECH_MEMFD, 999 };
	uint64_t done;

	(void)state;
	m = make_memory(MEMFD, LENGTH);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bad("gmem_prefault", prefault_with(m.mem, 0, LENGTH, &done, ways[i], 0), -EOPNOTSUPP, "host fault");
		assert_int_equal(done, 0);
	}
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), LENGTH);
	assert_int_equal(prefault_with(m.mem, 0, LENGTH, &done, GMEM_MECH_HOST_FAULT, 0), 0);
	end_memory(&m);
}

static int prefault_in_child(void *mem)
{
	uint64_t done;
	int r = prefault_with(mem, 0, LENGTH, &done, 0, 0);

	return r == -ESTALE && done == 0 ? 0 : 1;
}

static void after_fork_it_is_stale(void **state)
{
	(void)state;
	m = make_memory(MEMFD, LENGTH);
	assert_int_equal(gt_in_child(prefault_in_child, m.mem), 0);
	end_memory(&m);
}

/* Progress */

struct watch {
	pthread_t caller;
	uint64_t last;
	unsigned int calls, wrong, stop_at;
};

static int watch(void *user, uint64_t done, uint64_t length)
{
	struct watch *w = user;

	w->wrong += !pthread_equal(pthread_self(), w->caller) || length != LENGTH || done <= w->last || done > LENGTH;
	w->last = done;
	return ++w->calls == w->stop_at;
}

static int watched(struct watch *w, uint32_t threads, uint64_t *done)
{
	struct gmem_prefault_opts opts = { .size = sizeof(opts), .progress = watch, .user = w, .threads = threads };
	int r;

	*w = (struct watch){ .caller = pthread_self(), .stop_at = w->stop_at };
	r = gmem_prefault(m.mem, 0, LENGTH, done, &opts);
	assert_int_equal(w->wrong, 0);
	return r;
}

static void progress_is_told(void **state)
{
	(void)state;
	for (uint32_t threads = 0; threads < 3; threads++) {
		struct watch w = { .stop_at = 0 };
		uint64_t done;

		m = make_memory(MEMFD, LENGTH);
		assert_int_equal(watched(&w, threads, &done), 0);
		assert_int_equal(w.last, LENGTH);
		if (!threads)
			assert_int_equal(w.calls, 3);
		end_memory(&m);
	}
}

static void a_word_to_stop_ends_it(void **state)
{
	(void)state;
	for (unsigned int stop = 1; stop <= 3; stop++) {
		struct watch w = { .stop_at = stop };
		uint64_t done;
		int r;

		m = make_memory(MEMFD, LENGTH);
		r = watched(&w, 0, &done);
		assert_int_equal(done, stop < 3 ? stop * HUGE : LENGTH);
		if (stop < 3)
			bad("gmem_prefault", r, -ECANCELED, "the progress callback said stop");
		else
			assert_int_equal(r, 0);
		assert_int_equal(absent_bytes(m.mem, 0, LENGTH), LENGTH - done);
		end_memory(&m);
	}
}

/* Failures */

static void prefault_new(void *arg)
{
	uint64_t done;

	inject_pause();
	m = make_memory(*(enum make *)arg, LENGTH);
	gmem_vm_probe(m.vm, GMEM_FEATURE_MADV_POPULATE, NULL);
	inject_resume();
	(void)host(0, LENGTH, &done);
	inject_pause();
	end_memory(&m);
	inject_resume();
}

static void check_failure(enum make make, const char *call, unsigned int k, int error, const char *words)
{
	unsigned long nth = point_of(prefault_new, &make, call, k);
	uint64_t done;

	if (!nth && strcmp(call, "madvise") == 0)
		return; /* before 5.14 */
	assert_true(nth > 0);
	m = make_memory(make, LENGTH);
	gmem_vm_probe(m.vm, GMEM_FEATURE_MADV_POPULATE, NULL);
	inject_arm(nth, error);
	bad("gmem_prefault", host(0, LENGTH, &done), -error, words);
	inject_disarm();
	assert_int_equal(done, (k - 1) * HUGE);
	assert_int_equal(absent_bytes(m.mem, 0, done), 0);
	assert_int_equal(gmem_unmap(m.mem, 0, LENGTH), 0); /* nobody holds the mapping */
	assert_int_equal(host(done, LENGTH - done, &done), 0);
	assert_int_equal(absent_bytes(m.mem, 0, LENGTH), 0);
	end_memory(&m);
}

static void failures_end_it_after_a_piece_and_are_gone_on_from(void **state)
{
	(void)state;
	for (unsigned int make = 0; make < 2; make++)
		for (unsigned int k = 1; k <= 3; k++) {
			check_failure(make, "fallocate", k, ENOSPC, "out of memory, or of free huge pages?");
			check_failure(make, "fallocate", k, ENOMEM, "fallocate()");
			check_failure(make, "madvise", k, EFAULT, "madvise(MADV_POPULATE_WRITE)");
			check_failure(make, "madvise", k, EHWPOISON, "poisoned");
		}
}

/* fallocate() of a memfd gives up all for a signal: it is asked for less, until it is done. */
static void signals_do_not_end_it(void **state)
{
	uint64_t done;

	(void)state;
	m = make_memory(FAKE_GUEST_MEMFD, LENGTH);
	fakekvm_script("fallocate", EINTR, 5, 0);
	assert_int_equal(host(0, LENGTH, &done), 0);
	assert_int_equal(fakekvm_calls("fallocate"), 5 + 32 + 1 + 1); /* halved five times */
	fakekvm_script("madvise", EINTR, 3, 0);
	assert_int_equal(host(0, LENGTH, &done), 0);
	assert_int_equal(done, LENGTH);
	assert_state(m.mem, 0, LENGTH, PRESENT);
	end_memory(&m);
}

static const struct gt_test tests[] = {
	GT(pages_exist_after_and_hold_what_they_held, GT_NEEDS_NOTHING),
	GT(pages_exist_after_in_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
	GT(a_huge_page_exists_after, GT_NEEDS_HUGETLB_2M),
	GT(in_the_page_map_nothing_changes, GT_NEEDS_NOTHING),
	GT(any_number_of_threads_does_it, GT_NEEDS_NOTHING),
	GT(what_was_prefaulted_stays, GT_NEEDS_NOTHING),
	GT(mappings_of_parts_are_used_as_far_as_they_go, GT_NEEDS_NOTHING),
	GT(memory_that_cannot_be_mapped_is_allocated, GT_NEEDS_NOTHING),
	GT(bad_arguments_are_refused, GT_NEEDS_NOTHING),
	GT(ways_that_are_none_cannot_be_forced, GT_NEEDS_NOTHING),
	GT(after_fork_it_is_stale, GT_NEEDS_NOTHING),
	GT(progress_is_told, GT_NEEDS_NOTHING),
	GT(a_word_to_stop_ends_it, GT_NEEDS_NOTHING),
	GT(failures_end_it_after_a_piece_and_are_gone_on_from, GT_NEEDS_NOTHING),
	GT(signals_do_not_end_it, GT_NEEDS_NOTHING),
};

GT_MAIN("prefault", tests)
