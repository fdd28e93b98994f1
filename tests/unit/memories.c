/* SPDX-License-Identifier: MIT */
#include "memories.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fakekvm.h"
#include "gt.h"
#include "handles.h"
#include "raw.h"

static const struct {
	const char *preset; /* of the stand-in's VM */
	bool real;	    /* a VM of the kernel */
	struct gmem_create_opts opts;
} makes[] = {
	[MEMFD] = { .opts = { .backing = GMEM_BACKING_MEMFD } },
	[FAKE_GUEST_MEMFD] = { .preset = "7.3", .opts = { .backing = GMEM_BACKING_GUEST_MEMFD } },
	[FAKE_WITH_WRITE] = { .preset = "future-upstream", .opts = { .backing = GMEM_BACKING_GUEST_MEMFD } },
	[REAL_GUEST_MEMFD] = { .real = true, .opts = { .backing = GMEM_BACKING_GUEST_MEMFD } },
	[HUGETLB] = { .opts = { .backing = GMEM_BACKING_HUGETLB, .need = GMEM_NEED_MAPPABLE | GMEM_NEED_HUGE_2M } },
	[LAZY_MEMFD] = { .preset = "6.18",
			 .opts = { .backing = GMEM_BACKING_MEMFD, .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY } },
};

static int make_vm(enum make make)
{
	int fd = -1;

	if (makes[make].preset) {
		fakekvm_enable(fakekvm_preset(makes[make].preset));
		fd = fakekvm_vm(NULL);
	} else if (makes[make].real) {
		fd = raw_vm(0);
	}
	assert_true(fd >= 0 || (!makes[make].preset && !makes[make].real));
	return fd;
}

struct memory make_memory(enum make make, uint64_t length)
{
	struct memory memory = { .vm_fd = make_vm(make), .length = length };
	struct gmem_create_opts opts = makes[make].opts;

	opts.size = sizeof(opts);
	memory.vm = open_vm(memory.vm_fd);
	assert_int_equal(gmem_create(memory.vm, length, &memory.mem, &opts), 0);
	return memory;
}

void end_memory(struct memory *memory)
{
	gmem_destroy(memory->mem);
	gmem_vm_close(memory->vm);
	if (memory->vm_fd >= 0)
		close(memory->vm_fd);
	fakekvm_disable();
}

static struct gmem_run run_at(struct gmem *mem, uint64_t offset)
{
	struct gmem_run run = { .size = sizeof(run) };

	assert_int_equal(gmem_query_run(mem, offset, &run), 0);
	assert_true(run.length > 0);
	return run;
}

uint64_t absent_bytes(struct gmem *mem, uint64_t offset, uint64_t length)
{
	uint64_t end = offset + length, absent = 0;

	while (offset < end) {
		struct gmem_run run = run_at(mem, offset);

		run.length = run.length < end - offset ? run.length : end - offset;
		if (!(run.state & (GMEM_RUN_ALLOCATED | GMEM_RUN_INITIALISED | GMEM_RUN_INITIALISED_UNKNOWN)))
			absent += run.length;
		offset += run.length;
	}
	return absent;
}

/* Before 6.5 the kernel does not say what is allocated, only what has content. */
static uint64_t as_far_as_told(uint64_t state, uint64_t expected)
{
	if (expected & GMEM_RUN_ALLOCATED_UNKNOWN || !(state & GMEM_RUN_ALLOCATED_UNKNOWN))
		return state;
	return (state & ~GMEM_RUN_ALLOCATED_UNKNOWN) | (expected & GMEM_RUN_ALLOCATED);
}

void assert_state(struct gmem *mem, uint64_t offset, uint64_t length, uint64_t state)
{
	uint64_t end = offset + length;

	while (offset < end) {
		struct gmem_run run = run_at(mem, offset);

		if (as_far_as_told(run.state, state) != state)
			fail_msg("at %#llx the state is %#llx, not %#llx", (unsigned long long)offset,
				 (unsigned long long)run.state, (unsigned long long)state);
		offset += run.length;
	}
}

void assert_reads(struct gmem *mem, uint64_t offset, const unsigned char *content, uint64_t length)
{
	uint64_t start = offset - offset % page(), end = offset + length;
	const unsigned char *is;
	void *address;

	if (!length)
		return;
	end += (page() - end % page()) % page();
	assert_int_equal(gmem_map(mem, start, end - start, &address, NULL), 0);
	is = (const unsigned char *)address + (offset - start);
	if (memcmp(is, content, length) == 0)
		return;
	for (uint64_t i = 0; i < length; i++)
		if (is[i] != content[i])
			fail_msg("byte %#llx is %#x, not %#x", (unsigned long long)(offset + i), is[i], content[i]);
}

void assert_reads_only(const struct memory *memory, uint64_t offset, const unsigned char *content, uint64_t length)
{
	unsigned char *model = calloc(1, memory->length);

	assert_non_null(model);
	memcpy(model + offset, content, length);
	assert_reads(memory->mem, 0, model, memory->length);
	free(model);
}

#define PERIOD 251
#define LARGEST_PAGE 65536

unsigned char *pages_of_content(uint64_t pages, uint64_t of)
{
	static unsigned char pattern[LARGEST_PAGE + PERIOD];
	unsigned char *content = calloc(pages, page());

	assert_non_null(content);
	for (unsigned int i = 0; i < sizeof(pattern); i++)
		pattern[i] = (unsigned char)(i % PERIOD + 1);
	for (uint64_t number = 0; number < pages; number++)
		if (!of || number % of)
			memcpy(content + number * page(), pattern + number * 37 % PERIOD, page());
	return content;
}

int file_of(const unsigned char *content, uint64_t length)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, content, length, 0), length);
	return fd;
}
