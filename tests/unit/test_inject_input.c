/* SPDX-License-Identifier: MIT */
/* Sources, splice(), threads and prefault with every system call and allocation failing in turn: what is said to be done is
 * done, and what a passing failure stopped is gone on with. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/populate.h>

#include "fakekvm.h"
#include "handles.h"
#include "inject.h"
#include "machines.h"
#include "memories.h"
#include "points.h"
#include "sources.h"
#include "wrap.h"

#define PAGES 40
#define LENGTH (PAGES * page())
#define FROM 33 /* odd */

enum input { INPUT_SOURCE, INPUT_FILE, INPUT_PIPE, INPUT_BUFFER };

/* Into what, from where, how. */
struct filling {
	enum make make;
	enum input input;
	struct gmem_populate_opts opts;
	unsigned char *content;
	struct memory m;
	struct script script;
	struct gmem_source *source;
	int fd;
};

static int pipe_of(const struct filling *f)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, (int)LENGTH) >= (int)LENGTH);
	assert_int_equal(write(ends[1], f->content + FROM, LENGTH - FROM), LENGTH - FROM);
	close(ends[1]);
	return ends[0];
}

static void set_up(struct filling *f)
{
	inject_pause();
	f->m = make_memory(f->make, LENGTH);
	f->content = pages_of_content(PAGES, 4);
	f->script = (struct script){ .data = f->content, .length = LENGTH, .tells_extents = true };
	f->source = make_source(&f->script);
	f->fd = f->input == INPUT_PIPE ? pipe_of(f) : file_of(f->content, LENGTH);
	inject_resume();
}

static void tear_down(struct filling *f)
{
	end_source(f->source, &f->script);
	close(f->fd);
	free(f->content);
	end_memory(&f->m);
}

static int fill(struct filling *f, uint64_t from, uint64_t *done)
{
	uint64_t at = FROM + from, length = LENGTH - at;

	*done = UINT64_MAX;
	if (f->input == INPUT_SOURCE)
		return gmem_populate_source(f->m.mem, at, length, f->source, at, done, &f->opts);
	if (f->input == INPUT_BUFFER)
		return gmem_populate(f->m.mem, at, length, f->content + at, done, &f->opts);
	return gmem_populate_fd(f->m.mem, at, length, f->fd, at, done, &f->opts);
}

/* What no kernel would make up: that there is no data where there is some, or that a file cannot seek. */
static bool was_a_lie(void)
{
	return strcmp(inject_where(), "lseek") == 0 &&
	       (strstr(inject_describe(), strerror(ENXIO)) || strstr(inject_describe(), strerror(ESPIPE)));
}

/* A pipe may have lost what a read took and a write could not store: a step. */
static void go_on(struct filling *f, uint64_t done)
{
	uint64_t more;

	assert_int_equal(fill(f, done, &more), 0);
	assert_int_equal(FROM + done + more, LENGTH);
	assert_reads_only(&f->m, FROM, f->content + FROM, LENGTH - FROM);
}

static void check(struct filling *f, int r, uint64_t done)
{
	uint64_t all = LENGTH - FROM;

	assert_true(r == 0 ? done == all : done <= all);
	if (was_a_lie())
		return;
	assert_reads(f->m.mem, FROM, f->content + FROM, done);
	assert_true(info_of(f->m.mem).populated + info_of(f->m.mem).skipped >= done);
	if (r == 0)
		assert_reads_only(&f->m, FROM, f->content + FROM, all);
	else if (was_transient() && f->input != INPUT_PIPE)
		go_on(f, done);
}

static int fill_memory(void *arg)
{
	struct filling f = *(struct filling *)arg;
	uint64_t done;
	int r;

	set_up(&f);
	r = fill(&f, 0, &done);
	inject_pause();
	check(&f, r, done);
	tear_down(&f);
	inject_resume();
	return r;
}

static void fill_each(enum make make, enum input input, uint64_t flags, uint32_t threads)
{
	struct filling f = {
		.make = make,
		.input = input,
		.opts = { .size = sizeof(f.opts), .flags = flags, .chunk = 8 * page(), .threads = threads },
	};

	each(fill_memory, &f);
}

static void populating_from_a_source(void **state)
{
	(void)state;
	for (unsigned int make = 0; make < WITHOUT_NEEDS; make++)
		fill_each(make, INPUT_SOURCE, 0, 0);
	fill_each(MEMFD, INPUT_SOURCE, GMEM_POPULATE_KEEP_ZEROS, 0);
	fill_each(LAZY_MEMFD, INPUT_SOURCE, 0, 0);
}

static void splicing(void **state)
{
	(void)state;
	fill_each(MEMFD, INPUT_FILE, GMEM_POPULATE_KEEP_ZEROS, 0);
	fill_each(MEMFD, INPUT_PIPE, GMEM_POPULATE_KEEP_ZEROS, 0);
}

/* Which call is the n-th differs from run to run. */
static void populating_with_threads(void **state)
{
	(void)state;
	for (unsigned int make = 0; make < WITHOUT_NEEDS; make++)
		for (enum input input = INPUT_SOURCE; input <= INPUT_BUFFER; input++)
			if (input != INPUT_PIPE)
				fill_each(make, input, input == INPUT_FILE ? GMEM_POPULATE_KEEP_ZEROS : 0, 3);
}

static int make_source_only(void *arg)
{
	struct gmem_source_ops ops = *(struct gmem_source_ops *)arg;
	struct gmem_source *source;
	int r = gmem_source_create(&ops, NULL, &source);

	if (r == 0)
		gmem_source_destroy(source);
	assert_true(r == 0 || r == -ENOMEM);
	return r;
}

static int no_content(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	(void)user;
	(void)offset;
	(void)length;
	(void)buffer;
	(void)flags;
	return -ENODATA;
}

static void making_a_source(void **state)
{
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = no_content };

	(void)state;
	each(make_source_only, &ops);
}

/* Prefault */

struct prefaulting {
	unsigned int ways, vcpus; /* 0 vCPUs: the host alone */
	uint32_t threads;
};

#define MANY 1100 /* pages: three pieces */
#define BOUND 700

static void check_prefaulted(struct machine *v, unsigned int vcpus, int r, uint64_t done)
{
	uint64_t bound = vcpus ? BOUND * page() : 0, more;

	assert_true(r == 0 ? done == MANY * page() : done < MANY * page());
	if (done > bound)
		assert_int_equal(absent_bytes(v->m.mem, bound, done - bound), 0);
	if (vcpus && prefaulted_by(v) != GMEM_MECH_HOST_FAULT && r == 0)
		assert_true(fakekvm_prefaulted(v->m.vm_fd) == bound);
	if (r == 0)
		return;
	assert_int_equal(prefault(v, done, MANY * page() - done, &more), 0);
	assert_int_equal(done + more, MANY * page());
}

static int prefault_memory(void *arg)
{
	const struct prefaulting *how = arg;
	struct machine v;
	uint64_t done;
	int r;

	inject_pause();
	v = make_machine(how->ways, how->vcpus, MANY * page());
	gmem_vm_probe(v.m.vm, GMEM_FEATURE_MADV_POPULATE, NULL);
	if (how->vcpus)
		bind_machine(&v, 0, 5000, 0, BOUND);
	inject_resume();
	r = prefault_with(v.m.mem, 0, MANY * page(), &done, 0, how->threads);
	inject_pause();
	check_prefaulted(&v, how->vcpus, r, done);
	end_machine(&v);
	inject_resume();
	return r;
}

static void prefaulting_by_the_host(void **state)
{
	struct prefaulting how = { EVERY_WAY, 0, 0 };

	(void)state;
	each(prefault_memory, &how);
	how.threads = 2;
	each(prefault_memory, &how);
}

static void prefaulting_by_vcpus(void **state)
{
	struct prefaulting how[] = { { EVERY_WAY, 1, 0 }, { WAY_PRE_FAULT, 1, 0 }, { WAY_MAP_MEMORY, 1, 0 },
				     { WAY_MAP_MEMORY_V1, 1, 0 }, { EVERY_WAY, 3, 2 } };

	(void)state;
	for (size_t i = 0; i < sizeof(how) / sizeof(how[0]); i++)
		each(prefault_memory, &how[i]);
}

static const struct gt_test tests[] = {
	GT(making_a_source, GT_NEEDS_NOTHING),
	GT(populating_from_a_source, GT_NEEDS_NOTHING),
	GT(splicing, GT_NEEDS_NOTHING),
	GT(populating_with_threads, GT_NEEDS_NOTHING),
	GT(prefaulting_by_the_host, GT_NEEDS_NOTHING),
	GT(prefaulting_by_vcpus, GT_NEEDS_NOTHING),
};

GT_MAIN("inject_input", tests)
