/* SPDX-License-Identifier: MIT */
/* Memory out of the host's direct map: made where the kernel can, refused elsewhere; filled in every way that there is, and the
 * guest finds the content. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "content.h"
#include "future.h"
#include "gt.h"
#include "world.h"

#define LENGTH (4 * MIB)
#define NEEDS (GT_NEEDS_VCPU)

static int make(struct world *w)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_HIDDEN };

	*w = world_start();
	w->length = LENGTH;
	return gmem_create(w->vm, LENGTH, &w->mem, &opts);
}

static void made_where_the_kernel_can(void **state)
{
	struct world w;
	int r;

	(void)state;
	r = future_flag_hidden() && !future_has(FUTURE_BEFORE_618) ? 0 : -EOPNOTSUPP;
	assert_int_equal(make(&w), r);
	if (r)
		assert_non_null(strstr(gmem_last_error(), "no_direct_map"));
	world_end(&w);
}

static void begin(struct world *w)
{
	if (!future_flag_hidden())
		gt_skip("this kernel keeps guest_memfd in the direct map");
	assert_int_equal(make(w), 0);
	world_bind(w, 0, 0, 0, LENGTH, 0);
}

/* Half by pieces of whole pages from a buffer, half from a file. */
static void filled(enum gmem_mechanism mechanism)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = mechanism };
	const unsigned char *content;
	struct world w;
	uint64_t done;
	int file;

	begin(&w);
	content = content_make(LENGTH, &w.seed);
	file = content_file(content, LENGTH, &w.seed);
	if (gmem_populate(w.mem, 0, LENGTH / 2, content, &done, &opts))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, LENGTH / 2);
	if (gmem_populate_fd(w.mem, LENGTH / 2, LENGTH / 2, file, LENGTH / 2, &done, &opts))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, LENGTH / 2);
	assert_int_equal(world_query(&w).populate_mechanism, mechanism);
	close(file);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_end(&w);
}

static void filled_through_a_mapping(void **state)
{
	(void)state;
	filled(GMEM_MECH_MAPPING);
}

static void filled_by_write(void **state)
{
	(void)state;
	if (!future_has(FUTURE_WRITE) || !future_flag_hidden())
		gt_skip("this kernel has no write() on memory outside the direct map");
	filled(GMEM_MECH_WRITE);
}

/* A second time, of pages that are there: one branch of the kernel says EEXIST then. And of part of a page. */
static void filled_again(void **state)
{
	const unsigned char *content;
	unsigned char word[] = "part of a page";
	struct world w;
	uint64_t got = 0;

	(void)state;
	begin(&w);
	content = world_fill(&w);
	assert_int_equal(gmem_populate(w.mem, 0, LENGTH, content, NULL, NULL), 0);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	assert_int_equal(gmem_populate(w.mem, 8, 8, word, NULL, NULL), 0);
	assert_true(guest_load(w.guest, 8, &got));
	assert_memory_equal(&got, word, 8);
	world_assert_guest_sees(&w, 4096, content + 4096, LENGTH - 4096);
	world_end(&w);
}

static void prefaulted_and_given_up(void **state)
{
	struct world w;
	uint64_t word = 7, done;

	(void)state;
	begin(&w);
	if (gmem_prefault(w.mem, 0, LENGTH, &done, NULL))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, LENGTH);
	assert_true(guest_store(w.guest, LENGTH / 2, 5));
	assert_int_equal(gmem_discard(w.mem, 0, LENGTH, NULL, NULL), 0);
	assert_true(guest_load(w.guest, LENGTH / 2, &word));
	assert_int_equal(word, 0);
	world_end(&w);
}

static const struct gt_test tests[] = {
	GT(made_where_the_kernel_can, NEEDS),
	GT(filled_through_a_mapping, NEEDS),
	GT(filled_by_write, NEEDS),
	GT(filled_again, NEEDS),
	GT(prefaulted_and_given_up, NEEDS),
};

GT_MAIN("hidden", tests)
