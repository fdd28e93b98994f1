/* SPDX-License-Identifier: MIT */
/* Populating by several threads: what is in memory then, what is done without a gap, and who is told. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/populate.h>

#include "handles.h"
#include "inject.h"
#include "memories.h"
#include "refusal.h"
#include "sources.h"

#define PAGES 130
#define LENGTH (PAGES * page())
#define CHUNK (2 * page())

static const uint32_t counts[] = { 0, 1, 2, 7, 64 };
#define COUNTS (sizeof(counts) / sizeof(counts[0]))
#define FEW (COUNTS - 1) /* 64 take their time, under a sanitizer */

enum input { BUFFER, INPUT_FILE, SOURCE, INPUTS };

struct job {
	struct memory m;
	unsigned char *content;
	int fd;
	struct script script;
	struct gmem_source *source;
	struct gmem_populate_opts opts;
};

static void set_up(struct job *job, enum make make, uint32_t threads)
{
	memset(job, 0, sizeof(*job));
	job->m = make_memory(make, LENGTH);
	job->content = pages_of_content(PAGES, 6);
	job->fd = file_of(job->content, LENGTH);
	job->script = (struct script){ .data = job->content, .length = LENGTH };
	job->source = make_source(&job->script);
	job->opts = (struct gmem_populate_opts){ .size = sizeof(job->opts), .chunk = CHUNK, .threads = threads };
}

static void tear_down(struct job *job)
{
	end_source(job->source, &job->script);
	close(job->fd);
	free(job->content);
	end_memory(&job->m);
}

static int fill(struct job *job, enum input input, uint64_t offset, uint64_t length, uint64_t *done)
{
	spoil_sentence();
	*done = UINT64_MAX;
	if (input == BUFFER)
		return gmem_populate(job->m.mem, offset, length, job->content + offset, done, &job->opts);
	if (input == INPUT_FILE)
		return gmem_populate_fd(job->m.mem, offset, length, job->fd, offset, done, &job->opts);
	return gmem_populate_source(job->m.mem, offset, length, job->source, offset, done, &job->opts);
}

/* Content */

static uint64_t zero_pages(uint64_t offset, uint64_t length)
{
	uint64_t first = (offset + page() - 1) / page(), end = (offset + length) / page(), count = 0;

	for (uint64_t i = first; i < end; i++)
		count += i % 6 == 0;
	return count;
}

static void check_content(enum make make, enum input input, uint32_t threads, uint64_t flags, uint64_t offset, uint64_t length)
{
	struct gmem_info info;
	struct job job;
	uint64_t done;

	set_up(&job, make, threads);
	job.opts.flags = flags;
	assert_int_equal(fill(&job, input, offset, length, &done), 0);
	assert_int_equal(done, length);
	info = info_of(job.m.mem);
	assert_int_equal(info.populated + info.skipped, length);
	assert_int_equal(info.skipped, flags ? 0 : zero_pages(offset, length) * page());
	assert_reads_only(&job.m, offset, job.content + offset, length);
	tear_down(&job);
}

static void check_all(enum make make)
{
	for (size_t i = 0; i < (make == MEMFD ? COUNTS : FEW); i++)
		for (enum input input = 0; input < INPUTS; input++)
			for (uint64_t flags = 0; flags <= GMEM_POPULATE_KEEP_ZEROS; flags++) {
				check_content(make, input, counts[i], flags, 0, LENGTH);
				check_content(make, input, counts[i], flags, 1234, LENGTH - 4321);
			}
}

static void any_number_of_threads_fills_a_memfd(void **state)
{
	(void)state;
	check_all(MEMFD);
}

static void any_number_of_threads_fills_guest_memfds_of_other_kernels(void **state)
{
	(void)state;
	check_all(FAKE_GUEST_MEMFD);
	check_all(FAKE_WITH_WRITE);
}

static void any_number_of_threads_fills_a_guest_memfd(void **state)
{
	(void)state;
	check_all(REAL_GUEST_MEMFD);
}

static void any_number_of_threads_keeps_the_page_map(void **state)
{
	(void)state;
	check_all(LAZY_MEMFD);
	for (size_t i = 0; i < COUNTS; i++) {
		struct job job;
		uint64_t done;

		set_up(&job, LAZY_MEMFD, counts[i]);
		assert_int_equal(fill(&job, SOURCE, 0, LENGTH, &done), 0);
		for (uint64_t p = 0; p < PAGES; p++) {
			struct gmem_run run = { .size = sizeof(run) };

			assert_int_equal(gmem_query_run(job.m.mem, p * page(), &run), 0);
			assert_true(run.state & (p % 6 ? GMEM_RUN_FILLED : GMEM_RUN_DISCARDED));
		}
		tear_down(&job);
	}
}

static void too_many_threads_are_refused(void **state)
{
	static const uint32_t too_many[] = { 65, 100000, UINT32_MAX };
	static const char *const calls[] = { "gmem_populate", "gmem_populate_fd", "gmem_populate_source" };
	struct job job;
	uint64_t done;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		for (enum input input = 0; input < INPUTS; input++) {
			set_up(&job, MEMFD, too_many[i]);
			bad(calls[input], fill(&job, input, 0, LENGTH, &done), -EINVAL, "threads");
			assert_int_equal(done, 0);
			tear_down(&job);
		}
}

/* How often a thread is made */

#define PIPED (100 * page()) /* fits into a pipe */

static int piped(struct job *job)
{
	int ends[2], r;
	uint64_t done;

	inject_pause();
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, PIPED) >= 0);
	assert_int_equal(write(ends[1], job->content, PIPED), PIPED);
	inject_resume();
	r = gmem_populate_fd(job->m.mem, 0, PIPED, ends[0], 0, &done, &job->opts);
	inject_pause();
	close(ends[0]);
	close(ends[1]);
	inject_resume();
	return r;
}

static int from_buffer(struct job *job)
{
	uint64_t done;

	return fill(job, BUFFER, 0, LENGTH, &done);
}

static unsigned int tries_to_make_threads(int (*call)(struct job *job), uint32_t threads)
{
	unsigned int tries = 0;
	struct job job;

	set_up(&job, MEMFD, threads);
	for (unsigned long nth = 1;; nth++) {
		inject_arm(nth, EAGAIN);
		(void)call(&job);
		inject_disarm();
		if (!inject_fired())
			break;
		tries += strcmp(inject_where(), "pthread_create") == 0;
	}
	tear_down(&job);
	return tries;
}

static void threads_are_made_where_they_are_of_use(void **state)
{
	(void)state;
	assert_int_equal(tries_to_make_threads(from_buffer, 0), 0);
	assert_true(tries_to_make_threads(from_buffer, 5) >= 1);
	assert_int_equal(tries_to_make_threads(piped, 5), 0); /* what cannot seek is read by one */
}

static void a_pipe_is_read_in_order(void **state)
{
	struct job job;

	(void)state;
	set_up(&job, MEMFD, 7);
	assert_int_equal(piped(&job), 0);
	assert_reads_only(&job.m, 0, job.content, PIPED);
	tear_down(&job);
}

/* Failures. The source's reads are the chunks of the memory. */

struct failures {
	uint64_t at[2];
	int code[2];
};

static int fail_there(struct script *script, uint64_t offset, uint64_t length)
{
	const struct failures *failures = script->user;

	for (int i = 0; i < 2; i++)
		if (failures->code[i] && failures->at[i] >= offset && failures->at[i] < offset + length)
			return failures->code[i];
	return 0;
}

static void check_gone_on_with(struct job *job, uint64_t done)
{
	struct gmem_info before = info_of(job->m.mem);
	uint64_t more;

	job->script.before = NULL;
	assert_int_equal(fill(job, SOURCE, done, LENGTH - done, &more), 0);
	assert_int_equal(done + more, LENGTH);
	assert_true(before.populated + before.skipped >= done);
	assert_reads_only(&job->m, 0, job->content, LENGTH);
}

static void check_failures(enum make make, uint32_t threads, struct failures failures, uint64_t shall, int code,
			   const char *words)
{
	struct job job;
	uint64_t done;

	set_up(&job, make, threads);
	job.script.before = fail_there;
	job.script.user = &failures;
	bad("gmem_populate_source", fill(&job, SOURCE, 0, LENGTH, &done), code, words);
	assert_int_equal(done, shall);
	assert_reads(job.m.mem, 0, job.content, done);
	check_gone_on_with(&job, done);
	tear_down(&job);
}

static void what_is_done_has_no_gap(void **state)
{
	const uint64_t places[] = { 0, 1, CHUNK - 1, CHUNK, 100 * page() + 5, LENGTH - 1 };

	(void)state;
	for (size_t i = 0; i < FEW; i++)
		for (size_t j = 0; j < sizeof(places) / sizeof(places[0]); j++)
			for (unsigned int make = 0; make < WITHOUT_NEEDS; make++)
				check_failures(make, counts[i], (struct failures){ { places[j] }, { -EPERM } },
					       places[j] / CHUNK * CHUNK, -EPERM, "the source's read failed");
}

static void of_two_failures_the_nearer_is_told(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 60; i++) {
		uint64_t near = i % 10 * CHUNK + 7, far = near + (1 + i % 3) * CHUNK;
		struct failures failures = { { far, near }, { -ENODATA, i % 2 ? -EIO : 5 } };

		check_failures(MEMFD, counts[i % COUNTS], failures, near - 7, -EIO, i % 2 ? "read failed" : "answered 5");
	}
}

static void on_a_guest_memfd_what_is_done_has_no_gap(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNTS; i++)
		check_failures(REAL_GUEST_MEMFD, counts[i], (struct failures){ { 100 * page() }, { -EAGAIN } },
			       100 * page() / CHUNK * CHUNK, -EAGAIN, "read failed");
}

/* A file that ends early ends every thread's part. */
static void an_end_in_the_middle_is_found_by_all(void **state)
{
	(void)state;
	for (size_t i = 0; i < FEW; i++)
		for (unsigned int make = 0; make < WITHOUT_NEEDS; make++) {
			struct job job;
			uint64_t done, end = 77 * page() + 123;
			char words[50];

			set_up(&job, make, counts[i]);
			assert_int_equal(ftruncate(job.fd, (off_t)end), 0);
			snprintf(words, sizeof(words), "ended after %llu bytes", (unsigned long long)end);
			bad("gmem_populate_fd", fill(&job, INPUT_FILE, 0, LENGTH, &done), -ENODATA, words);
			assert_int_equal(done, end);
			assert_reads_only(&job.m, 0, job.content, done);
			tear_down(&job);
		}
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

static int watched(struct job *job, struct watch *w, uint64_t *done)
{
	int r;

	*w = (struct watch){ .caller = pthread_self(), .stop_at = w->stop_at };
	job->opts.progress = watch;
	job->opts.user = w;
	r = fill(job, SOURCE, 0, LENGTH, done);
	assert_int_equal(w->wrong, 0);
	return r;
}

static void the_caller_alone_is_told_and_less_never_follows_more(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNTS; i++) {
		struct watch w = { .stop_at = 0 };
		struct job job;
		uint64_t done;

		set_up(&job, MEMFD, counts[i]);
		assert_int_equal(watched(&job, &w, &done), 0);
		assert_int_equal(done, LENGTH);
		assert_int_equal(w.last, LENGTH);
		tear_down(&job);
	}
}

static void a_word_to_stop_ends_the_call(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 40; i++) {
		struct watch w = { .stop_at = 1 + i / COUNTS };
		struct job job;
		uint64_t done;
		int r;

		set_up(&job, MEMFD, counts[i % COUNTS]);
		r = watched(&job, &w, &done);
		if (w.calls < w.stop_at || done == LENGTH)
			assert_int_equal(r, 0); /* the others were quicker */
		else
			bad("gmem_populate_source", r, -ECANCELED, "the progress callback said stop");
		assert_true(w.last <= done && w.calls <= w.stop_at + (done == LENGTH)); /* once more at the end */
		assert_int_equal(info_of(job.m.mem).populated + info_of(job.m.mem).skipped, done); /* no gap at all */
		job.opts.progress = NULL;
		if (done < LENGTH)
			check_gone_on_with(&job, done);
		tear_down(&job);
	}
}

static const struct gt_test tests[] = {
	GT(any_number_of_threads_fills_a_memfd, GT_NEEDS_NOTHING),
	GT(any_number_of_threads_fills_guest_memfds_of_other_kernels, GT_NEEDS_NOTHING),
	GT(any_number_of_threads_fills_a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
	GT(any_number_of_threads_keeps_the_page_map, GT_NEEDS_NOTHING),
	GT(too_many_threads_are_refused, GT_NEEDS_NOTHING),
	GT(threads_are_made_where_they_are_of_use, GT_NEEDS_NOTHING),
	GT(a_pipe_is_read_in_order, GT_NEEDS_NOTHING),
	GT(what_is_done_has_no_gap, GT_NEEDS_NOTHING),
	GT(of_two_failures_the_nearer_is_told, GT_NEEDS_NOTHING),
	GT(on_a_guest_memfd_what_is_done_has_no_gap, GT_NEEDS_GUEST_MEMFD),
	GT(an_end_in_the_middle_is_found_by_all, GT_NEEDS_NOTHING),
	GT(the_caller_alone_is_told_and_less_never_follows_more, GT_NEEDS_NOTHING),
	GT(a_word_to_stop_ends_the_call, GT_NEEDS_NOTHING),
};

GT_MAIN("threads", tests)
