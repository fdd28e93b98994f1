/* SPDX-License-Identifier: MIT */
#include "guest_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"
#include "microvm.h"
#include "progress.h"
#include "say.h"
#include "sigbus.h"

#define HUGE_PAGE (UINT64_C(2) << 20)
#define ANY_OTHER_PAGE (UINT64_C(64) << 10) /* a multiple of every page size without huge pages */

uint64_t guest_memory_page_size(const struct options *options)
{
	return options->backing == GMEM_BACKING_HUGETLB ? HUGE_PAGE : ANY_OTHER_PAGE;
}

uint64_t guest_memory_need(const struct options *options)
{
	return GMEM_NEED_MAPPABLE | (options->lazy ? GMEM_NEED_LAZY : 0);
}

int guest_memory_create(struct microvm *m)
{
	const struct gmem_create_opts opts = {
		.size = sizeof(opts),
		.need = guest_memory_need(m->options),
		.backing = m->options->backing,
		.name = "microvm",
	};

	m->began = now_ns();
	return gmem_create(m->vm, m->layout.length, &m->mem, &opts) < 0 ? fail_gmem("create guest memory") : 0;
}

int guest_memory_populate(struct microvm *m)
{
	struct progress progress;
	const struct gmem_populate_opts opts = {
		.size = sizeof(opts),
		.progress = progress_tell,
		.user = &progress,
		.threads = m->options->threads,
	};
	uint64_t done;
	int r;

	progress_begin(&progress);
	r = gmem_populate_fd(m->mem, MICROVM_GPA, m->image.length, m->image.fd, 0, &done, &opts);
	m->populate_ns = now_ns() - progress.began;
	progress_end(&progress);
	if (r < 0)
		return fail("cannot populate guest memory, stopped after %llu bytes: %s", (unsigned long long)done,
			    gmem_last_error());
	m->info.size = sizeof(m->info);
	return gmem_query(m->mem, &m->info) < 0 ? fail_gmem("query guest memory") : 0;
}

int guest_memory_map(struct microvm *m)
{
	if (gmem_map(m->mem, 0, m->layout.length, &m->paging.address, NULL) < 0)
		return fail_gmem("map guest memory");
	m->info.size = sizeof(m->info);
	return gmem_query(m->mem, &m->info) < 0 ? fail_gmem("query guest memory") : 0;
}

static void flip(void *word)
{
	*(uint64_t *)word ^= 1;
}

int guest_memory_flip(struct microvm *m)
{
	uint64_t offset = m->options->flip_offset & ~UINT64_C(7);
	uint64_t page = offset & ~(m->info.page_size - 1);
	void *address = m->paging.address ? (char *)m->paging.address + page : NULL;

	if (!m->options->flip)
		return 0;
	if (!address && gmem_map(m->mem, page, m->info.page_size, &address, NULL) < 0)
		return fail_gmem("map the word to flip");
	if (sigbus_guard(flip, (char *)address + (offset - page)))
		return -1;
	fprintf(m->out, "Flipped bit 0 of the word at 0x%llx of guest memory (--flip).\n", (unsigned long long)offset);
	return 0;
}

static void write_program(const struct microvm *m, unsigned char *area)
{
#ifdef __x86_64__
	memcpy(area, guest_program, (size_t)(guest_program_end - guest_program));
#endif
	layout_page_tables(&m->layout, area);
}

struct copy {
	void *to;
	const void *from;
	size_t length;
};

static void do_copy(void *argument)
{
	const struct copy *copy = argument;

	memcpy(copy->to, copy->from, copy->length);
}

/* A pager has to bring in the pages that this is written to: a page is never put together of what is populated and what is
 * not. */
static int put_program(struct microvm *m, const unsigned char *area, size_t length)
{
	struct copy copy = { .from = area, .length = length };

	if (m->paging.address) {
		copy.to = (char *)m->paging.address + m->layout.image_end;
		return sigbus_guard(do_copy, &copy);
	}
	if (gmem_populate(m->mem, m->layout.image_end, length, area, NULL, NULL) < 0)
		return fail_gmem("put the guest program into memory");
	return 0;
}

int guest_memory_add_program(struct microvm *m)
{
	size_t length = (size_t)(m->layout.program_end - m->layout.image_end);
	unsigned char *area;
	int result;

	if (!length)
		return 0;
	area = calloc(1, length);
	if (!area)
		return fail("out of memory");
	write_program(m, area);
	result = put_program(m, area, length);
	free(area);
	return result;
}

int guest_memory_bind(struct microvm *m)
{
	int r = gmem_bind(m->mem, MICROVM_SLOT, MICROVM_GPA, 0, m->layout.length, NULL);

	return r < 0 ? fail_gmem("bind guest memory to a memslot") : 0;
}

/* Goes on where a call stopped for a reason that passes. */
static int prefault_all(struct microvm *m)
{
	const struct gmem_prefault_opts opts = { .size = sizeof(opts), .threads = m->options->threads };
	uint64_t at = 0, done;
	int r;

	do {
		r = gmem_prefault(m->mem, at, m->layout.length - at, &done, &opts);
		at += done;
	} while (at < m->layout.length && (r == -EINTR || r == -EAGAIN));
	return r;
}

int guest_memory_prefault(struct microvm *m)
{
	struct gmem_info info = { .size = sizeof(info) };
	uint64_t began = now_ns();

	if (m->options->no_prefault)
		return 0;
	if (prefault_all(m) < 0)
		return fail_gmem("prefault guest memory");
	m->prefault_ns = now_ns() - began;
	if (gmem_query(m->mem, &info) < 0)
		return fail_gmem("query guest memory");
	m->prefault_mechanism = info.prefault_mechanism;
	return 0;
}

static bool is_bound(const struct gmem *mem)
{
	struct gmem_info info = { .size = sizeof(info) };

	return gmem_query(mem, &info) == 0 && info.slots;
}

int guest_memory_destroy(struct microvm *m)
{
	int result = 0;

	if (m->mem && is_bound(m->mem) && gmem_unbind(m->mem, MICROVM_SLOT) < 0)
		result = fail_gmem("unbind guest memory");
	gmem_destroy(m->mem);
	m->mem = NULL;
	return result;
}
