/* SPDX-License-Identifier: MIT */
/* Files of every pattern into memory of every state, against a model of which pages exist and what they hold. */
#include "gt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/populate.h>

#include "content.h"
#include "handles.h"
#include "memories.h"
#include "random.h"

#define PAGES 150 /* more than one read through a buffer */
#define LENGTH (PAGES * page())
#define CALLS 8 /* on each memory */
#define MEMORIES 30

struct model {
	struct memory m;
	unsigned char *holds;
	bool exists[PAGES];
	uint64_t populated, skipped;
};

struct call {
	uint64_t offset, length, from;
	struct gmem_populate_opts opts;
	unsigned char *input; /* `size` bytes */
	uint64_t size;
	int fd;
};

static uint64_t below(uint64_t limit)
{
	return next_random() % limit;
}

/* Runs of pages that are content, zeros of the file's data, or holes. */
static void make_input(struct call *call)
{
	uint64_t longest = 1 + below(20);

	call->size = below(3) ? LENGTH : 1 + below(LENGTH);
	call->input = pages_of_content(PAGES, 0);
	call->fd = memfd_create("input", MFD_CLOEXEC);
	assert_true(call->fd >= 0);
	for (uint64_t i = 0, run; i < PAGES; i += run) {
		uint64_t kind = below(3), at = i * page();

		run = 1 + below(longest);
		run = run < PAGES - i ? run : PAGES - i;
		if (kind)
			memset(call->input + at, 0, run * page());
		if (kind < 2)
			assert_int_equal(pwrite(call->fd, call->input + at, run * page(), (off_t)at), run * page());
	}
	assert_int_equal(ftruncate(call->fd, (off_t)call->size), 0);
}

static struct call random_call(enum gmem_mechanism mechanism)
{
	static const uint32_t threads[] = { 0, 0, 1, 3 };
	uint64_t chunks[] = { page(), 3 * page(), 16 * page(), 0 };
	uint64_t whole = below(2) ? ~(page() - 1) : ~UINT64_C(0);
	struct call call = { .offset = below(LENGTH) & whole, .from = below(LENGTH) & (below(2) ? whole : ~(page() - 1)) };
	uint64_t most = LENGTH - (call.offset > call.from ? call.offset : call.from);

	call.length = below(3) ? 1 + below(most) : most;
	call.opts = (struct gmem_populate_opts){
		.size = sizeof(call.opts),
		.flags = below(5) ? 0 : GMEM_POPULATE_KEEP_ZEROS,
		.chunk = chunks[below(4)],
		.threads = threads[below(4)],
		.mechanism = mechanism,
	};
	make_input(&call);
	return call;
}

static bool is_zero(const unsigned char *data, uint64_t length)
{
	return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* Returns how much of the call's range the file has. */
static uint64_t apply(struct model *model, const struct call *call)
{
	uint64_t has = call->from < call->size ? call->size - call->from : 0, done, part;

	has = has < call->length ? has : call->length;
	for (done = 0; done < has; done += part) {
		uint64_t at = call->offset + done, number = at / page();
		const unsigned char *data = call->input + call->from + done;

		part = page() - at % page();
		part = part < has - done ? part : has - done;
		memcpy(model->holds + at, data, part);
		if (part == page() && !call->opts.flags && !model->exists[number] && is_zero(data, part)) {
			model->skipped += part;
			continue;
		}
		model->exists[number] = true;
		model->populated += part;
	}
	return has;
}

static void compare(const struct model *model, const struct call *call)
{
	struct gmem_info info = info_of(model->m.mem);
	bool wrong = info.populated != model->populated || info.skipped != model->skipped;

	for (uint64_t i = 0; i < PAGES; i++)
		wrong = wrong || (absent_bytes(model->m.mem, i * page(), page()) == 0) != model->exists[i];
	if (wrong)
		fail_msg("offset %#llx length %#llx from %#llx of %#llx, flags %llu chunk %#llx threads %u: populated %llu, not "
			 "%llu; skipped %llu, not %llu; or pages exist that shall not, or the other way round",
			 (unsigned long long)call->offset, (unsigned long long)call->length, (unsigned long long)call->from,
			 (unsigned long long)call->size, (unsigned long long)call->opts.flags,
			 (unsigned long long)call->opts.chunk, call->opts.threads, (unsigned long long)info.populated, (unsigned long long)model->populated,
			 (unsigned long long)info.skipped, (unsigned long long)model->skipped);
}

static void step(struct model *model, enum gmem_mechanism mechanism)
{
	struct call call = random_call(mechanism);
	uint64_t done = 77, has = apply(model, &call);
	int r = gmem_populate_fd(model->m.mem, call.offset, call.length, call.fd, call.from, &done, &call.opts);

	assert_int_equal(r, has < call.length ? -ENODATA : 0);
	assert_int_equal(done, has);
	compare(model, &call);
	close(call.fd);
	free(call.input);
}

static void agree(enum make make, enum gmem_mechanism mechanism)
{
	want_small_pages();
	sow();
	for (unsigned int i = 0; i < MEMORIES; i++) {
		struct model model = { .m = make_memory(make, LENGTH), .holds = buffer(LENGTH, 0) };

		for (unsigned int call = 0; call < CALLS; call++)
			step(&model, mechanism);
		assert_reads_only(&model.m, 0, model.holds, LENGTH);
		free(model.holds);
		end_memory(&model.m);
	}
}

static void a_memfd_through_its_mapping(void **state)
{
	(void)state;
	agree(MEMFD, GMEM_MECH_MAPPING);
}

static void a_memfd_by_any_way(void **state)
{
	(void)state;
	agree(MEMFD, 0);
}

static void a_guest_memfd_of_another_kernel(void **state)
{
	(void)state;
	agree(FAKE_GUEST_MEMFD, 0);
}

static void a_guest_memfd_that_can_be_written(void **state)
{
	(void)state;
	agree(FAKE_WITH_WRITE, 0);
}

static void a_guest_memfd(void **state)
{
	(void)state;
	agree(REAL_GUEST_MEMFD, 0);
}

static const struct gt_test tests[] = {
	GT(a_memfd_through_its_mapping, GT_NEEDS_NOTHING),
	GT(a_memfd_by_any_way, GT_NEEDS_NOTHING),
	GT(a_guest_memfd_of_another_kernel, GT_NEEDS_NOTHING),
	GT(a_guest_memfd_that_can_be_written, GT_NEEDS_NOTHING),
	GT(a_guest_memfd, GT_NEEDS_GUEST_MEMFD),
};

GT_MAIN("straight_model", tests)
