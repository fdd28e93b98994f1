/* SPDX-License-Identifier: MIT */
/* What was found when it was asked for, and fails when it is used, as if it were not there: the next mechanism goes on where it
 * stopped, for this VM and from then on, and an explicit request is not replaced. On the kernel that can be told to fail. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "content.h"
#include "future.h"
#include "gt.h"
#include "world.h"

#define LENGTH (8 * MIB)
#define HALF (LENGTH / 2)
#define VCPU (GT_NEEDS_VCPU | GT_NEEDS_GUEST_MEMFD | GT_NEEDS_ROOT)

static struct world make(void)
{
	struct world w = world_start_with(GMEM_VM_RFC_IOCTLS);

	w.length = LENGTH;
	w.mem = world_memory(&w, GMEM_BACKING_GUEST_MEMFD, LENGTH);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	return w;
}

static void need(uint32_t bit)
{
	bool has = future_has(bit);

	if (has)
		future_refuse(0); /* whatever a test before this one left */
	if (!has)
		gt_skip("this kernel has it not");
}

static bool present(struct world *w, enum gmem_feature feature)
{
	return gmem_vm_probe(w->vm, feature, NULL) == GMEM_PRESENT;
}

static enum gmem_mechanism chosen(struct world *w, enum gmem_task task)
{
	struct gmem_step step = { .size = sizeof(step) };

	for (uint32_t i = 0; gmem_vm_explain(w->vm, task, GMEM_NEED_MAPPABLE, GMEM_BACKING_GUEST_MEMFD, i, &step) == 1; i++)
		if (step.chosen)
			return (enum gmem_mechanism)step.mechanism;
	return GMEM_MECH_NONE;
}

static int populate(struct world *w, uint64_t offset, uint64_t length, const unsigned char *content, enum gmem_mechanism forced)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = forced };
	uint64_t done = 7;
	int r = gmem_populate(w->mem, offset, length, content + offset, &done, &opts);

	assert_true(r ? done < length : done == length); /* zeros need nothing that could fail */
	return r;
}

static void write_gives_way_to_the_mapping(void **state)
{
	const unsigned char *content;
	struct world w;

	(void)state;
	need(FUTURE_WRITE);
	w = make();
	content = content_make(LENGTH, &w.seed);
	assert_true(present(&w, GMEM_FEATURE_GUEST_MEMFD_WRITE));
	assert_int_equal(populate(&w, 0, HALF, content, GMEM_MECH_NONE), 0);
	assert_int_equal(world_query(&w).populate_mechanism, GMEM_MECH_WRITE);
	future_refuse(FUTURE_REFUSES_WRITE);
	assert_int_equal(populate(&w, HALF, HALF, content, GMEM_MECH_WRITE), -EOPNOTSUPP); /* asked for by name */
	assert_int_equal(populate(&w, HALF, HALF, content, GMEM_MECH_NONE), 0);
	assert_int_equal(world_query(&w).populate_mechanism, GMEM_MECH_MAPPING);
	assert_int_equal(chosen(&w, GMEM_TASK_POPULATE), GMEM_MECH_MAPPING);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	future_refuse(0);
	assert_int_equal(populate(&w, 0, HALF, content, GMEM_MECH_NONE), 0); /* for this VM it stays so */
	assert_int_equal(world_query(&w).populate_mechanism, GMEM_MECH_MAPPING);
	world_end(&w);
}

/* In the middle of it, and with threads: nothing is left out, nothing done twice wrongly. */
static struct progress {
	uint64_t refuse_at;
	uint32_t bits;
	bool done;
} progress;

static int refuse_on_the_way(void *user, uint64_t done, uint64_t total)
{
	struct progress *p = user;

	(void)total;
	if (done >= p->refuse_at && !p->done) {
		future_refuse(p->bits);
		p->done = true;
	}
	return 0;
}

static void write_gives_way_on_the_way(void **state)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .progress = refuse_on_the_way, .user = &progress };
	const unsigned char *content;
	uint64_t done;

	(void)state;
	need(FUTURE_WRITE);
	for (uint32_t threads = 0; threads <= 2; threads += 2) {
		struct world w = make();

		content = content_make(LENGTH, &w.seed);
		progress = (struct progress){ .refuse_at = LENGTH / 4, .bits = FUTURE_REFUSES_WRITE };
		opts.threads = threads;
		assert_int_equal(gmem_populate(w.mem, 0, LENGTH, content, &done, &opts), 0);
		assert_int_equal(done, LENGTH);
		assert_true(progress.done);
		if (!threads) /* of several, the calling one may have had its last piece before */
			assert_int_equal(world_query(&w).populate_mechanism, GMEM_MECH_MAPPING);
		world_assert_guest_sees(&w, 0, content, LENGTH);
		future_refuse(0);
		world_end(&w);
	}
}

static int prefault(struct world *w, enum gmem_mechanism forced)
{
	struct gmem_prefault_opts opts = { .size = sizeof(opts), .mechanism = forced };
	uint64_t done = 7;
	int r = gmem_prefault(w->mem, 0, LENGTH, &done, &opts);

	assert_int_equal(done, r ? 0 : LENGTH);
	return r;
}

/* Memory with content, of a VM with a vCPU, where every way to prefault is there. */
struct prefaulted {
	struct world w;
	struct gmem_vcpu *vcpu;
	const unsigned char *content;
};

static struct prefaulted begin_prefault(void)
{
	struct prefaulted p;

	need(FUTURE_BESIDE);
	p.w = make();
	assert_int_equal(gmem_vcpu_open(p.w.vm, guest_vcpu(p.w.guest), &p.vcpu), 0);
	p.content = world_fill(&p.w);
	assert_true(present(&p.w, GMEM_FEATURE_PRE_FAULT));
	assert_true(present(&p.w, GMEM_FEATURE_MAP_MEMORY));
	assert_true(present(&p.w, GMEM_FEATURE_MAP_MEMORY_V1));
	return p;
}

static void prefaults_by(struct prefaulted *p, enum gmem_mechanism mechanism)
{
	assert_int_equal(prefault(&p->w, GMEM_MECH_NONE), 0);
	assert_int_equal(world_query(&p->w).prefault_mechanism, mechanism);
	world_assert_guest_sees(&p->w, 0, p->content, LENGTH);
}

static void end_prefault(struct prefaulted *p)
{
	future_refuse(0);
	gmem_vcpu_close(p->vcpu);
	world_end(&p->w);
}

/* By each mechanism of the chain in turn, the one before being refused. */
static void each_way_to_prefault_gives_way_to_the_next(void **state)
{
	static const struct {
		enum gmem_mechanism mechanism;
		uint32_t refused;
	} chain[] = {
		{ GMEM_MECH_PRE_FAULT, 0 },
		{ GMEM_MECH_MAP_MEMORY, FUTURE_REFUSES_PRE_FAULT },
		{ GMEM_MECH_MAP_MEMORY_V1, FUTURE_REFUSES_PRE_FAULT | FUTURE_REFUSES_MAP_V2 },
		{ GMEM_MECH_HOST_FAULT, FUTURE_REFUSES_PRE_FAULT | FUTURE_REFUSES_MAP_V2 | FUTURE_REFUSES_MAP_V1 },
	};
	struct prefaulted p;

	(void)state;
	p = begin_prefault();
	for (size_t i = 0; i < sizeof(chain) / sizeof(chain[0]); i++) {
		future_refuse(chain[i].refused);
		if (i)
			assert_int_equal(prefault(&p.w, chain[i - 1].mechanism), -EOPNOTSUPP);
		prefaults_by(&p, chain[i].mechanism);
		assert_int_equal(chosen(&p.w, GMEM_TASK_PREFAULT), chain[i].mechanism);
	}
	end_prefault(&p);
}

/* All at once: through the whole chain in one call. */
static void all_ways_to_prefault_at_once(void **state)
{
	struct prefaulted p;

	(void)state;
	p = begin_prefault();
	future_refuse(FUTURE_REFUSES_PRE_FAULT | FUTURE_REFUSES_MAP_V2 | FUTURE_REFUSES_MAP_V1);
	prefaults_by(&p, GMEM_MECH_HOST_FAULT);
	end_prefault(&p);
}

/* The pager writes to the file as long as it may, and through a mapping from then on. */
static void a_pager_goes_on_through_the_mapping(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = GMEM_BACKING_GUEST_MEMFD,
					 .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct gmem_uffd_register_opts fill = { .size = sizeof(fill), .strategy = GMEM_STRATEGY_FILL };
	const unsigned char *content;
	struct gmem_source *source;
	struct gmem_pager *pager;
	struct gmem_uffd *uffd;
	struct world w;

	(void)state;
	need(FUTURE_MINOR);
	need(FUTURE_WRITE);
	w = world_start();
	w.length = LENGTH;
	content = content_make(LENGTH, &w.seed);
	assert_int_equal(gmem_create(w.vm, LENGTH, &w.mem, &opts), 0);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	assert_int_equal(gmem_uffd_create(w.vm, &uffd, NULL), 0);
	assert_int_equal(gmem_uffd_register(uffd, w.mem, 0, LENGTH, &fill), 0);
	assert_int_equal(gmem_source_create_memory(content, LENGTH, &source), 0);
	assert_int_equal(gmem_pager_create(&pager, NULL), 0);
	assert_int_equal(gmem_pager_add(pager, uffd, source, NULL), 0);
	assert_int_equal(gmem_pager_start(pager), 0);
	world_assert_guest_sees(&w, 0, content, HALF);
	future_refuse(FUTURE_REFUSES_WRITE);
	world_assert_guest_sees(&w, HALF, content + HALF, HALF);
	future_refuse(0);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	gmem_pager_destroy(pager);
	gmem_source_destroy(source);
	gmem_uffd_destroy(uffd);
	world_end(&w);
}

static const struct gt_test tests[] = {
	GT(write_gives_way_to_the_mapping, VCPU),
	GT(write_gives_way_on_the_way, VCPU),
	GT(each_way_to_prefault_gives_way_to_the_next, VCPU),
	GT(all_ways_to_prefault_at_once, VCPU),
	GT(a_pager_goes_on_through_the_mapping, VCPU),
};

GT_MAIN("demotion", tests)
