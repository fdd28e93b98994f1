/* SPDX-License-Identifier: MIT */
/* splice() that is stopped in the middle, does a part, or turns out not to be there. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <gmem/populate.h>
#include <gmem/vm.h>

#include "handles.h"
#include "inject.h"
#include "memories.h"
#include "points.h"
#include "refusal.h"

#define PAGES 60
#define LENGTH (PAGES * page())
#define FROM 77 /* odd */

/* One way to fill one memory; the injector is paused but in the call. */
struct job {
	struct memory m;
	unsigned char *content;
	int fd;
	bool piped;
	uint32_t forced;
	int r;
	uint64_t done;
	char before[400]; /* the sentence */
};

static void set_up(struct job *job, bool piped)
{
	int ends[2];

	*job = (struct job){ .m = make_memory(MEMFD, LENGTH), .content = pages_of_content(PAGES, 4), .piped = piped };
	if (!piped) {
		job->fd = file_of(job->content, LENGTH);
		return;
	}
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, (int)LENGTH) >= (int)LENGTH);
	assert_int_equal(write(ends[1], job->content + FROM, LENGTH - FROM), LENGTH - FROM);
	close(ends[1]);
	job->fd = ends[0];
}

static void tear_down(struct job *job)
{
	close(job->fd);
	free(job->content);
	end_memory(&job->m);
}

/* Byte FROM + n of the memory is byte FROM + n of the content. */
static int fill(struct job *job, uint64_t from)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts),
					   .flags = GMEM_POPULATE_KEEP_ZEROS,
					   .chunk = 32 * page(),
					   .mechanism = job->forced };

	job->done = UINT64_MAX;
	return gmem_populate_fd(job->m.mem, FROM + from, LENGTH - FROM - from, job->fd, FROM + from, &job->done, &opts);
}

static void fill_new(void *arg)
{
	bool piped = *(bool *)arg;
	struct job job;

	inject_pause();
	set_up(&job, piped);
	inject_resume();
	(void)fill(&job, 0);
	inject_pause();
	tear_down(&job);
	inject_resume();
}

/* The k-th splice() fails with this error. */
static void fill_failing(struct job *job, bool piped, unsigned int k, int error)
{
	unsigned long nth = point_of(fill_new, &piped, "splice", k);

	assert_true(nth > 0);
	set_up(job, piped);
	snprintf(job->before, sizeof(job->before), "%s", gmem_last_error());
	inject_arm(nth, error);
	job->r = fill(job, 0);
	inject_disarm();
	assert_true(inject_fired());
	assert_string_equal(inject_where(), "splice");
}

static void check_so_far(const struct job *job)
{
	assert_int_equal(info_of(job->m.mem).populated, job->done);
	assert_int_equal(info_of(job->m.mem).skipped, 0);
	assert_reads(job->m.mem, FROM, job->content + FROM, job->done);
}

static void check_all_there(const struct job *job)
{
	assert_int_equal(info_of(job->m.mem).populated, LENGTH - FROM);
	assert_reads_only(&job->m, FROM, job->content + FROM, LENGTH - FROM);
}

static enum gmem_mechanism used(const struct job *job)
{
	return (enum gmem_mechanism)info_of(job->m.mem).populate_mechanism;
}

/* Turns out absent */

static unsigned int warnings;

static void hear(void *user, enum gmem_log_level level, const char *line)
{
	(void)user;
	warnings += level == GMEM_LOG_WARNING && strstr(line, "splice is out of use for this VM") != NULL;
}

static bool is_demoted(struct gmem_vm *vm)
{
	for (uint32_t row = 0;; row++) {
		struct gmem_step step = { .size = sizeof(step) };

		if (gmem_vm_explain(vm, GMEM_TASK_POPULATE, 0, GMEM_BACKING_MEMFD, row, &step) != 1)
			return false;
		if (step.mechanism == GMEM_MECH_SPLICE && strstr(step.why, "demoted"))
			return true;
	}
}

static void check_demoted(bool piped, unsigned int k, int error)
{
	struct job job;

	warnings = 0;
	gmem_set_log(GMEM_LOG_WARNING, hear, NULL);
	fill_failing(&job, piped, k, error);
	gmem_set_log(0, NULL, NULL);
	assert_int_equal(job.r, 0);
	assert_int_equal(job.done, LENGTH - FROM);
	assert_int_equal(warnings, 1);
	assert_string_equal(gmem_last_error(), job.before);
	check_all_there(&job);
	assert_int_equal(used(&job), GMEM_MECH_WRITE);
	assert_true(is_demoted(job.m.vm));
	if (!piped) { /* remembered */
		assert_int_equal(fill(&job, 0), 0);
		assert_int_equal(used(&job), GMEM_MECH_WRITE);
		job.forced = GMEM_MECH_SPLICE;
		bad("gmem_populate_fd", fill(&job, 0), -EOPNOTSUPP, "demoted");
	}
	tear_down(&job);
}

/* From a file every second call puts in. */
static void absent_after_all_it_is_replaced_where_it_stopped(void **state)
{
	(void)state;
	for (unsigned int k = 1; k <= 3; k++) {
		check_demoted(false, 2 * k, EINVAL);
		check_demoted(false, 2 * k - 1, ENOSYS); /* a filter */
		check_demoted(false, 2 * k, ENOSYS);
	}
	check_demoted(true, 1, EINVAL);
	check_demoted(true, 2, EINVAL);
	check_demoted(true, 2, ENOSYS);
}

/* That is the file's fault, and the next may be another. */
static void check_file_that_cannot_be_spliced(unsigned int k)
{
	struct job job;

	fill_failing(&job, false, 2 * k - 1, EINVAL);
	assert_int_equal(job.r, 0);
	assert_string_equal(gmem_last_error(), job.before);
	check_all_there(&job);
	assert_int_equal(used(&job), GMEM_MECH_WRITE);
	assert_false(is_demoted(job.m.vm));
	assert_int_equal(fill(&job, 0), 0);
	assert_int_equal(used(&job), GMEM_MECH_SPLICE);
	tear_down(&job);
}

static void a_file_that_cannot_be_spliced_is_read(void **state)
{
	(void)state;
	for (unsigned int k = 1; k <= 3; k++)
		check_file_that_cannot_be_spliced(k);
}

static void a_forced_splice_of_it_fails(void **state)
{
	bool piped = false;
	unsigned long first = point_of(fill_new, &piped, "splice", 1);
	struct job job;

	(void)state;
	set_up(&job, false);
	job.forced = GMEM_MECH_SPLICE;
	inject_arm(first, EINVAL);
	bad("gmem_populate_fd", fill(&job, 0), -EINVAL, "splice() from the input");
	inject_disarm();
	assert_int_equal(job.done, 0);
	assert_int_equal(fill(&job, 0), 0);
	tear_down(&job);
}

/* Files of /proc have no size, and many cannot be spliced: with another way that is not there after all, too. */
static void check_file_of_proc(int fd, const unsigned char *is, uint64_t size, bool no_write)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = GMEM_POPULATE_KEEP_ZEROS };
	unsigned long nth = 0;
	struct job job;
	int r;

	set_up(&job, false);
	do {
		if (no_write)
			inject_arm(++nth, ESPIPE);
		r = gmem_populate_fd(job.m.mem, FROM, LENGTH - FROM, fd, 0, &job.done, &opts);
		inject_disarm();
	} while (no_write && strcmp(inject_where(), "pwrite") != 0);
	assert_int_equal(r, -ENODATA);
	assert_int_equal(job.done, size);
	assert_int_equal(used(&job), no_write ? GMEM_MECH_MAPPING : GMEM_MECH_WRITE);
	assert_false(is_demoted(job.m.vm));
	assert_reads(job.m.mem, FROM, is, job.done);
	tear_down(&job);
}

static void files_of_proc_are_taken(void **state)
{
	static unsigned char is[1 << 17];
	int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
	ssize_t size;

	(void)state;
	if (fd < 0)
		gt_skip("no /proc/self/environ: %s", strerror(errno));
	size = read(fd, is, sizeof(is));
	assert_true(size > 0 && (uint64_t)size < LENGTH - FROM);
	check_file_of_proc(fd, is, (uint64_t)size, false);
	check_file_of_proc(fd, is, (uint64_t)size, true);
	close(fd);
}

/* In the middle of a step: what has come is in, and the next way finds the end. */
static void absent_in_the_middle_of_a_pipe(void **state)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .flags = GMEM_POPULATE_KEEP_ZEROS };
	bool piped = true;
	unsigned long first = point_of(fill_new, &piped, "splice", 1);
	struct job job;
	int ends[2];

	(void)state;
	set_up(&job, false);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(write(ends[1], job.content + FROM, 5000), 5000);
	close(ends[1]);
	inject_arm(first + 1, EINVAL); /* nothing else comes between two of them */
	assert_int_equal(gmem_populate_fd(job.m.mem, FROM, LENGTH - FROM, ends[0], 0, &job.done, &opts), -ENODATA);
	inject_disarm();
	assert_string_equal(inject_where(), "splice");
	assert_int_equal(job.done, 5000);
	assert_int_equal(used(&job), GMEM_MECH_WRITE);
	check_so_far(&job);
	close(ends[0]);
	tear_down(&job);
}

static void without_fds_for_a_pipe_it_is_done_without(void **state)
{
	static const int errors[] = { EMFILE, ENFILE };
	bool piped = false;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		unsigned long nth = point_of(fill_new, &piped, "pipe2", 1);
		struct job job;

		set_up(&job, false);
		inject_arm(nth, errors[i]);
		assert_int_equal(fill(&job, 0), 0);
		inject_disarm();
		assert_string_equal(inject_where(), "pipe2");
		check_all_there(&job);
		assert_int_equal(used(&job), GMEM_MECH_WRITE);
		assert_false(is_demoted(job.m.vm));
		job.forced = GMEM_MECH_SPLICE;
		inject_arm(nth, errors[i]);
		bad("gmem_populate_fd", fill(&job, 0), -errors[i], "making a pipe");
		inject_disarm();
		tear_down(&job);
	}
}

/* The pipe's ends are nobody's standard files, and no child's; one that could only be made in part is not closed twice. */

#define NOT_CLOSED 3

static int opened;
static bool closed, astray;

static int look_at_fds(void *user, uint64_t done, uint64_t length)
{
	(void)user;
	(void)done;
	(void)length;
	astray = astray || (closed && (fcntl(0, F_GETFD) != -1 || fcntl(1, F_GETFD) != -1));
	for (int fd = 3; fd < 30; fd++) {
		int flags = fcntl(fd, F_GETFD);

		astray = astray || (flags != -1 && !(flags & FD_CLOEXEC) && lseek(fd, 0, SEEK_CUR) == -1 && errno == ESPIPE);
	}
	if (opened < 0)
		opened = fcntl(2, F_DUPFD_CLOEXEC, 3);
	return 0;
}

static int fill_and_look_at_fds(void *arg)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts),
					   .flags = GMEM_POPULATE_KEEP_ZEROS,
					   .chunk = page(),
					   .progress = look_at_fds };
	unsigned int how = *(unsigned int *)arg, failing = how % NOT_CLOSED; /* which of moving the two ends up, 0 = none */
	bool piped = false;
	unsigned long nth = point_of(fill_new, &piped, "pipe2", 1);
	struct job job;
	int r;

	set_up(&job, false);
	closed = how < NOT_CLOSED;
	if (closed) {
		close(0);
		close(1);
	}
	opened = -1;
	if (failing) /* moving is duplicating and closing */
		inject_arm(nth + 2 * failing - 1, EMFILE);
	r = gmem_populate_fd(job.m.mem, FROM, LENGTH - FROM, job.fd, FROM, NULL, &opts);
	inject_disarm();
	if (r || astray || (failing && strcmp(inject_where(), "fcntl") != 0) || fcntl(opened, F_GETFD) == -1)
		return 1;
	check_all_there(&job);
	return used(&job) == (failing ? GMEM_MECH_WRITE : GMEM_MECH_SPLICE) ? 0 : 2;
}

static void the_pipe_disturbs_no_other_fds(void **state)
{
	(void)state;
	for (unsigned int how = 0; how <= NOT_CLOSED; how++)
		assert_int_equal(gt_in_child(fill_and_look_at_fds, &how), 0);
}

/* Stops and parts */

static unsigned int splices(bool piped)
{
	unsigned int count = 0;

	while (point_of(fill_new, &piped, "splice", count + 1))
		count++;
	return count;
}

static void doing_half_is_gone_on_with(void **state)
{
	(void)state;
	for (int piped = 0; piped < 2; piped++)
		for (unsigned int k = splices(piped); k; k--) {
			struct job job;

			fill_failing(&job, piped, k, INJECT_SHORT);
			assert_int_equal(job.r, 0);
			assert_int_equal(used(&job), GMEM_MECH_SPLICE);
			check_all_there(&job);
			tear_down(&job);
		}
}

/* An input may keep somebody waiting: then the caller decides. What was taken from a file is stored all the same. */
static void a_signal_stops_the_wait_for_input_only(void **state)
{
	(void)state;
	for (int piped = 0; piped < 2; piped++)
		for (unsigned int k = splices(piped); k; k--) {
			struct job job;
			uint64_t done;

			fill_failing(&job, piped, k, EINTR);
			assert_int_equal(job.r, piped || k % 2 ? -EINTR : 0); /* of a file every other one is the memory's */
			check_so_far(&job);
			done = job.done;
			if (job.r) {
				assert_int_equal(fill(&job, done), 0);
				done += job.done;
			} else {
				assert_string_equal(gmem_last_error(), job.before);
			}
			assert_int_equal(done, LENGTH - FROM);
			assert_int_equal(used(&job), GMEM_MECH_SPLICE);
			check_all_there(&job);
			tear_down(&job);
		}
}

static void other_failures_end_the_call_and_are_gone_on_from(void **state)
{
	static const int errors[] = { EIO, ENOSPC, ENOMEM, EAGAIN, EPERM };

	(void)state;
	for (int piped = 0; piped < 2; piped++)
		for (unsigned int k = 1; k <= (piped ? 2 : 6); k++) {
			int error = errors[k % 5];
			struct job job;
			uint64_t done;

			fill_failing(&job, piped, k, error);
			bad("gmem_populate_fd", job.r, -error,
			    piped || k % 2 == 0 ? "splice() to the memory" : "splice() from the input");
			assert_true(job.done < LENGTH - FROM && (k < 3 || piped || job.done > 0));
			check_so_far(&job);
			done = job.done;
			assert_int_equal(fill(&job, done), 0);
			assert_int_equal(done + job.done, LENGTH - FROM);
			assert_int_equal(used(&job), GMEM_MECH_SPLICE);
			check_all_there(&job);
			tear_down(&job);
		}
}

/* Without a word to the process: SIGXFSZ would end it. */
static int fill_beyond_the_limit(void *arg)
{
	struct rlimit limit = { .rlim_cur = 20 * page(), .rlim_max = RLIM_INFINITY };
	struct job job;

	set_up(&job, *(bool *)arg);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = 20 * page();
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	bad("gmem_populate_fd", fill(&job, 0), -EFBIG, "RLIMIT_FSIZE");
	assert_true(job.done <= 20 * page() - FROM);
	check_so_far(&job);
	tear_down(&job);
	return 0;
}

static void the_limit_of_file_sizes_is_no_signal(void **state)
{
	(void)state;
	for (int piped = 0; piped < 2; piped++) {
		bool yes = piped;

		assert_int_equal(gt_in_child(fill_beyond_the_limit, &yes), 0);
	}
}

static const struct gt_test tests[] = {
	GT(absent_after_all_it_is_replaced_where_it_stopped, GT_NEEDS_NOTHING),
	GT(a_file_that_cannot_be_spliced_is_read, GT_NEEDS_NOTHING),
	GT(a_forced_splice_of_it_fails, GT_NEEDS_NOTHING),
	GT(files_of_proc_are_taken, GT_NEEDS_NOTHING),
	GT(absent_in_the_middle_of_a_pipe, GT_NEEDS_NOTHING),
	GT(the_pipe_disturbs_no_other_fds, GT_NEEDS_NOTHING),
	GT(without_fds_for_a_pipe_it_is_done_without, GT_NEEDS_NOTHING),
	GT(doing_half_is_gone_on_with, GT_NEEDS_NOTHING),
	GT(a_signal_stops_the_wait_for_input_only, GT_NEEDS_NOTHING),
	GT(other_failures_end_the_call_and_are_gone_on_from, GT_NEEDS_NOTHING),
	GT(the_limit_of_file_sizes_is_no_signal, GT_NEEDS_NOTHING),
};

GT_MAIN("splice_stop", tests)
