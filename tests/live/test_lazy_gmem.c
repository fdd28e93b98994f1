/* SPDX-License-Identifier: MIT */
/* Lazy memory on guest_memfd: made where missing faults can be served, and nowhere else; filled where minor ones can be as well,
 * copied to where not. On the kernel that has userfaultfd on guest_memfd in each of these measures. */
#include <errno.h>
#include <string.h>

#include "content.h"
#include "future.h"
#include "gt.h"
#include "world.h"

#define PAGES 1024u
#define LENGTH (PAGES * (uint64_t)RAW_PAGE)
#define NEEDS (GT_NEEDS_VCPU | GT_NEEDS_UFFD)

static int make(struct world *w, uint32_t backing)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY, .backing = backing };

	w->length = LENGTH;
	return gmem_create(w->vm, LENGTH, &w->mem, &opts);
}

static void made_where_missing_faults_are_told(void **state)
{
	bool missing = future_has(FUTURE_MISSING);
	struct world w = world_start();

	(void)state;
	assert_int_equal(make(&w, GMEM_BACKING_GUEST_MEMFD), missing ? 0 : -EOPNOTSUPP);
	if (!missing)
		assert_non_null(strstr(gmem_last_error(), future_has(FUTURE_BEFORE_618) ? "guest_memfd" : "uffd_guest_memfd_missing"));
	gmem_destroy(w.mem);
	w.mem = NULL;
	assert_int_equal(make(&w, GMEM_BACKING_AUTO), 0);
	assert_int_equal(world_query(&w).mechanism, missing ? GMEM_MECH_GUEST_MEMFD : GMEM_MECH_MEMFD);
	world_end(&w);
}

/* Served by a pager, read by the guest, in the way of the strategy. */
static void served(struct world *w, enum gmem_strategy strategy, const unsigned char *content)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .strategy = strategy };
	struct gmem_uffd_info info = { .size = sizeof(info) };
	struct gmem_source *source;
	struct gmem_pager *pager;
	struct gmem_uffd *uffd;

	assert_int_equal(gmem_uffd_create(w->vm, &uffd, NULL), 0);
	if (gmem_uffd_register(uffd, w->mem, 0, LENGTH, &opts))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(gmem_source_create_memory(content, LENGTH, &source), 0);
	assert_int_equal(gmem_pager_create(&pager, NULL), 0);
	assert_int_equal(gmem_pager_add(pager, uffd, source, NULL), 0);
	assert_int_equal(gmem_pager_start(pager), 0);
	world_assert_guest_sees(w, 0, content, LENGTH);
	assert_int_equal(gmem_uffd_query(uffd, &info), 0);
	assert_true(info.faults > 0);
	assert_true(info.filled > 0);
	gmem_pager_destroy(pager);
	gmem_source_destroy(source);
	gmem_uffd_destroy(uffd);
}

static void in_the_way_of(enum gmem_strategy strategy)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .strategy = strategy };
	bool can = strategy != GMEM_STRATEGY_FILL || future_has(FUTURE_MINOR);
	const unsigned char *content;
	struct gmem_uffd *uffd;
	struct world w;

	if (!future_has(FUTURE_MISSING))
		gt_skip("this kernel tells of no missing pages of guest_memfd");
	w = world_start();
	content = content_make(LENGTH, &w.seed);
	assert_int_equal(make(&w, GMEM_BACKING_GUEST_MEMFD), 0);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	if (can) {
		served(&w, strategy, content);
	} else {
		assert_int_equal(gmem_uffd_create(w.vm, &uffd, NULL), 0);
		assert_int_equal(gmem_uffd_register(uffd, w.mem, 0, LENGTH, &opts), -EOPNOTSUPP);
		gmem_uffd_destroy(uffd);
	}
	world_end(&w);
}

static void in_the_best_way(void **state)
{
	(void)state;
	in_the_way_of(GMEM_STRATEGY_AUTO);
}

static void filled(void **state)
{
	(void)state;
	in_the_way_of(GMEM_STRATEGY_FILL);
}

static void copied(void **state)
{
	(void)state;
	in_the_way_of(GMEM_STRATEGY_COPY);
}

static const struct gt_test tests[] = {
	GT(made_where_missing_faults_are_told, NEEDS),
	GT(in_the_best_way, NEEDS),
	GT(filled, NEEDS),
	GT(copied, NEEDS),
};

GT_MAIN("lazy_gmem", tests)
