/* SPDX-License-Identifier: MIT */
/* gmem_query_run() tells the truth: after any mix of allocating, touching, punching and filling it says of every page what the
 * kernel says when asked by hand, and what was done says. Where the kernel would lie it says that it does not know. */
#include <gmem.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "content.h"
#include "gt.h"
#include "guest.h"
#include "huge.h"
#include "pages.h"
#include "promise.h"

#define PAGES 1024u
#define ROUNDS 150
#define THERE (GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED)
#define NOT_TOLD 77 /* of a child: the kernel tells an ordinary user more than is known of any */

struct file {
	struct gmem_vm *vm;
	struct gmem *mem;
	int vm_fd, fd;
	uint64_t page, seed;
	unsigned char *at; /* a mapping of the test's own */
	enum page model[PAGES];
};

static struct file file_make(uint32_t backing)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = backing };
	struct file f = { .vm_fd = -1, .page = promise_page(), .seed = content_seed() };

	if (backing == GMEM_BACKING_GUEST_MEMFD)
		f.vm_fd = guest_vm();
	assert_int_equal(gmem_vm_open(f.vm_fd, &f.vm, NULL), 0);
	if (gmem_create(f.vm, PAGES * f.page, &f.mem, &opts))
		fail_msg("%s", gmem_last_error());
	f.fd = gmem_get_fd(f.mem, GMEM_FD_MEMORY);
	f.at = promise_map(f.fd, PAGES * f.page);
	return f;
}

static void file_end(struct file *f)
{
	munmap(f->at, PAGES * f->page);
	gmem_destroy(f->mem);
	gmem_vm_close(f->vm);
	if (f->vm_fd >= 0)
		close(f->vm_fd);
}

/* --- what can be done to pages --- */

struct range {
	uint64_t offset, length;
};

static void do_allocate(struct file *f, const struct range *r)
{
	assert_int_equal(fallocate(f->fd, FALLOC_FL_KEEP_SIZE, (off_t)r->offset, (off_t)r->length), 0);
}

static void do_punch(struct file *f, const struct range *r)
{
	assert_int_equal(fallocate(f->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)r->offset, (off_t)r->length), 0);
}

static void do_write(struct file *f, const struct range *r)
{
	memset(f->at + r->offset, 0x5a, r->length);
}

static void do_read(struct file *f, const struct range *r)
{
	volatile unsigned char *at = f->at + r->offset;

	for (uint64_t i = 0; i < r->length; i += f->page)
		(void)at[i];
}

static void do_discard(struct file *f, const struct range *r)
{
	assert_int_equal(gmem_discard(f->mem, r->offset, r->length, NULL, NULL), 0);
}

static void do_prefault(struct file *f, const struct range *r)
{
	assert_int_equal(gmem_prefault(f->mem, r->offset, r->length, NULL, NULL), 0);
}

static unsigned char content[PAGES * 4096];

static void do_populate(struct file *f, const struct range *r)
{
	memset(content, 0xa5, r->length);
	assert_int_equal(gmem_populate(f->mem, r->offset, r->length, content, NULL, NULL), 0);
}

/* Over pages that have content, zeros are content; nothing becomes of the others. */
static void do_populate_zeros(struct file *f, const struct range *r)
{
	memset(content, 0, r->length);
	assert_int_equal(gmem_populate(f->mem, r->offset, r->length, content, NULL, NULL), 0);
}

static const struct {
	void (*run)(struct file *f, const struct range *r);
	enum page becomes[3]; /* what was absent, allocated, initialised */
} deeds[] = {
	{ do_allocate, { PAGE_ALLOCATED, PAGE_ALLOCATED, PAGE_INITIALISED } },
	{ do_allocate, { PAGE_ALLOCATED, PAGE_ALLOCATED, PAGE_INITIALISED } },
	{ do_punch, { PAGE_ABSENT, PAGE_ABSENT, PAGE_ABSENT } },
	{ do_punch, { PAGE_ABSENT, PAGE_ABSENT, PAGE_ABSENT } },
	{ do_write, { PAGE_INITIALISED, PAGE_INITIALISED, PAGE_INITIALISED } },
	{ do_read, { PAGE_INITIALISED, PAGE_INITIALISED, PAGE_INITIALISED } },
	{ do_discard, { PAGE_ABSENT, PAGE_ABSENT, PAGE_ABSENT } },
	{ do_prefault, { PAGE_INITIALISED, PAGE_INITIALISED, PAGE_INITIALISED } },
	{ do_populate, { PAGE_INITIALISED, PAGE_INITIALISED, PAGE_INITIALISED } },
	{ do_populate_zeros, { PAGE_ABSENT, PAGE_ALLOCATED, PAGE_INITIALISED } },
};

static struct range some_range(struct file *f)
{
	uint64_t first = content_random(&f->seed) % PAGES, most = PAGES - first;
	uint64_t pages = 1 + content_random(&f->seed) % (content_random(&f->seed) % 8 ? 12 : 400);

	return (struct range){ first * f->page, (pages < most ? pages : most) * f->page };
}

/* tmpfs clears a page at the second time that it is to be allocated. */
static enum page becomes(const struct file *f, size_t deed, enum page was)
{
	if (deeds[deed].run == do_allocate && was == PAGE_ALLOCATED && f->vm_fd < 0)
		return PAGE_INITIALISED;
	return deeds[deed].becomes[was];
}

static void do_something(struct file *f)
{
	size_t deed = content_random(&f->seed) % (sizeof(deeds) / sizeof(deeds[0]));
	struct range r = some_range(f);

	deeds[deed].run(f, &r);
	for (uint64_t i = r.offset / f->page; i < (r.offset + r.length) / f->page; i++)
		f->model[i] = becomes(f, deed, f->model[i]);
}

/* --- what is said of them --- */

static enum page said(const struct gmem_run *run)
{
	switch (run->state) {
	case 0:
		return PAGE_ABSENT;
	case GMEM_RUN_ALLOCATED:
		return PAGE_ALLOCATED;
	case THERE:
		return PAGE_INITIALISED;
	default:
		fail_msg("state 0x%llx", (unsigned long long)run->state);
		return PAGE_ABSENT;
	}
}

static struct gmem_run run_at(struct file *f, uint64_t page)
{
	struct gmem_run run = { .size = sizeof(run) };

	assert_int_equal(gmem_query_run(f->mem, page * f->page, &run), 0);
	assert_true(run.length > 0 && run.length % f->page == 0 && page * f->page + run.length <= PAGES * f->page);
	return run;
}

static void assert_run(struct file *f, uint64_t page, const struct gmem_run *run)
{
	for (uint64_t i = page; i < page + run->length / f->page; i++)
		if (f->model[i] != said(run))
			fail_msg("page %u, of a run from %u on: %s instead of %s", (unsigned int)i, (unsigned int)page,
				 page_name(said(run)), page_name(f->model[i]));
}

static void assert_truth(struct file *f)
{
	enum page kernel[PAGES];
	struct gmem_run run;
	uint64_t middle = content_random(&f->seed) % PAGES;

	pages_ask(f->fd, PAGES, kernel);
	for (unsigned int i = 0; i < PAGES; i++)
		if (kernel[i] != f->model[i])
			fail_msg("page %u: %s by the kernel, %s by what was done", i, page_name(kernel[i]),
				 page_name(f->model[i]));
	for (uint64_t page = 0; page < PAGES; page += run.length / f->page) {
		run = run_at(f, page);
		assert_run(f, page, &run);
	}
	run = run_at(f, middle);
	assert_run(f, middle, &run);
}

/* Where the kernel gives more pages at a time than it is asked for, the model does not hold. */
static void skip_with_large_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
	char line[100] = "";

	if (!file)
		return;
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	if (line[0] && !strstr(line, "[never]") && !strstr(line, "[advise]"))
		gt_skip("transparent huge pages for memfds: %s", line);
}

static void any_mix(uint32_t backing)
{
	struct file f;

	if (backing == GMEM_BACKING_MEMFD)
		skip_with_large_pages();
	f = file_make(backing);
	for (int i = 0; i < ROUNDS; i++) {
		do_something(&f);
		assert_truth(&f);
	}
	file_end(&f);
}

static void memfd_after_any_mix(void **state)
{
	(void)state;
	any_mix(GMEM_BACKING_MEMFD);
}

static void guest_memfd_after_any_mix(void **state)
{
	(void)state;
	any_mix(GMEM_BACKING_GUEST_MEMFD);
}

/* --- where the kernel lies --- */

/* A user who may not write the file's inode hears from mincore() that every page is there. */
static bool mincore_lies(const struct file *f)
{
	unsigned char vector[PAGES];

	pages_resident(f->fd, PAGES, vector);
	for (unsigned int i = 0; i < PAGES; i++)
		if (!(vector[i] & 1))
			return false;
	return true;
}

static void assert_not_misled(const struct file *f, uint64_t page, const struct gmem_run *run)
{
	for (uint64_t i = page; i < page + run->length / f->page; i++) {
		if (f->model[i] == PAGE_ABSENT)
			assert_int_equal(run->state, 0);
		else
			assert_int_equal(run->state, GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED_UNKNOWN);
	}
}

static int ask_as_user(void *arg)
{
	struct file *parents = arg, f = *parents;
	struct gmem_run run;

	if (!mincore_lies(&f))
		return NOT_TOLD;
	assert_int_equal(gmem_vm_open(-1, &f.vm, NULL), 0);
	if (gmem_import(f.vm, f.fd, 0, &f.mem, NULL))
		fail_msg("%s", gmem_last_error());
	f.model[0] = PAGE_INITIALISED; /* tried */
	for (uint64_t page = 0; page < PAGES; page += run.length / f.page) {
		run = run_at(&f, page);
		assert_not_misled(&f, page, &run);
	}
	gmem_destroy(f.mem);
	gmem_vm_close(f.vm);
	return 0;
}

static void guest_memfd_of_another_user(void **state)
{
	struct file f = file_make(GMEM_BACKING_GUEST_MEMFD);
	int r;

	(void)state;
	pages_ask(f.fd, PAGES, f.model); /* skips where cachestat() is missing */
	for (int i = 0; i < ROUNDS; i++)
		do_something(&f);
	r = gt_as_user(GT_NOBODY, ask_as_user, &f);
	file_end(&f);
	if (r == NOT_TOLD)
		gt_skip("mincore() tells an ordinary user the truth about a guest_memfd of root's");
	assert_int_equal(r, 0);
}

/* --- huge pages --- */

static bool is_mapped_here(const unsigned char *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)at / promise_page() * 8)), sizeof(entry));
	close(fd);
	return entry >> 63;
}

static uint64_t state_of(struct gmem *mem, uint64_t page)
{
	struct gmem_run run = { .size = sizeof(run) };

	assert_int_equal(gmem_query_run(mem, page * HUGE_PAGE, &run), 0);
	return run.state;
}

/* None and all are known of the file; in between what is mapped in this process is known, and the rest is not. */
static void assert_huge(struct gmem *mem, const unsigned char *at, uint64_t pages, uint64_t touched)
{
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t unknown = GMEM_RUN_ALLOCATED_UNKNOWN | GMEM_RUN_INITIALISED_UNKNOWN;

		assert_int_equal(is_mapped_here(at + i * HUGE_PAGE), i < touched);
		if (touched == 0)
			assert_int_equal(state_of(mem, i), 0);
		else
			assert_int_equal(state_of(mem, i), i < touched ? THERE : unknown);
	}
}

static void huge_pages(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = GMEM_BACKING_HUGETLB };
	size_t length = huge_length(4 * HUGE_PAGE);
	struct gmem_vm *vm;
	struct gmem *mem;
	unsigned char *at;

	(void)state;
	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	assert_int_equal(gmem_create(vm, length, &mem, &opts), 0);
	assert_int_equal(gmem_map(mem, 0, length, (void **)&at, NULL), 0);
	for (uint64_t touched = 0; touched < length / HUGE_PAGE; touched++) {
		assert_huge(mem, at, length / HUGE_PAGE, touched);
		at[touched * HUGE_PAGE] = 1;
	}
	assert_huge(mem, at, length / HUGE_PAGE, length / HUGE_PAGE);
	assert_int_equal(gmem_discard(mem, 0, length, NULL, NULL), 0);
	assert_huge(mem, at, length / HUGE_PAGE, 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static const struct gt_test tests[] = {
	GT(memfd_after_any_mix, GT_NEEDS_NOTHING),
	GT(guest_memfd_after_any_mix, GT_NEEDS_GUEST_MEMFD),
	GT(guest_memfd_of_another_user, GT_NEEDS_GUEST_MEMFD | GT_NEEDS_ORDINARY_USER),
	GT(huge_pages, GT_NEEDS_HUGETLB_2M),
};

GT_MAIN("residency", tests)
