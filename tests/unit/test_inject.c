/* SPDX-License-Identifier: MIT */
/* Every public call with every system call and allocation of it failing in turn: here those of a program without a VM, in
 * test_inject_kvm.c those that speak to KVM, in test_inject_fill.c the populate calls. No failure may leak, lie about what was
 * done, or be taken for good when it was not. */
#include "gt.h"

#include <errno.h>
#include <sys/mman.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"
#include "inject.h"
#include "points.h"
#include "wrap.h"

#define PAGES 40
#define MOST_FEATURES 64

static struct gmem_vm *vm;
static struct gmem *mem;

/* Uncounted. */
static void set_up(void)
{
	inject_pause();
	make_vmless(&vm, &mem, PAGES * page(), NULL);
	inject_resume();
}

static void tear_down(void)
{
	inject_pause();
	gmem_destroy(mem);
	gmem_vm_close(vm);
	inject_resume();
}

/* Handles */

static int open_a_vm(void *arg)
{
	struct gmem_vm *opened = NULL;
	int r = gmem_vm_open(-1, &opened, NULL);

	(void)arg;
	assert_int_equal(r == 0, opened != NULL);
	gmem_vm_close(opened);
	return r;
}

static void opening_and_closing_a_vm(void **state)
{
	(void)state;
	each(open_a_vm, NULL);
}

struct creation {
	uint64_t need;
	uint32_t backing;
	int without_failure; /* what it shall return */
};

static int create_memory(void *arg)
{
	const struct creation *creation = arg;
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = creation->need, .backing = creation->backing };
	struct gmem *made = NULL;
	int r;

	inject_pause();
	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	inject_resume();
	r = gmem_create(vm, PAGES * page(), &made, &opts);
	assert_int_equal(r == 0, made != NULL);
	gmem_destroy(made);
	inject_pause();
	if (was_transient()) {
		made = NULL;
		assert_int_equal(gmem_create(vm, PAGES * page(), &made, &opts), creation->without_failure);
		gmem_destroy(made);
	}
	gmem_vm_close(vm);
	inject_resume();
	return r == creation->without_failure ? 0 : r;
}

static void creating_and_destroying_a_memfd(void **state)
{
	struct creation any = { 0, GMEM_BACKING_AUTO, 0 }, named = { 0, GMEM_BACKING_MEMFD, 0 };

	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	each(create_memory, &any);
	each(create_memory, &named);
}

static void creating_and_destroying_lazy_memory(void **state)
{
	struct creation lazy = { GMEM_NEED_LAZY | GMEM_NEED_MAPPABLE, GMEM_BACKING_AUTO, 0 };

	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	each(create_memory, &lazy);
}

static void creating_what_cannot_be(void **state)
{
	struct creation private = { GMEM_NEED_PRIVATE, GMEM_BACKING_AUTO, -EOPNOTSUPP };

	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	each(create_memory, &private);
}

/* Probes */

static int known_states[MOST_FEATURES];

static void learn_states(void)
{
	inject_pause();
	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	for (int f = 1; gmem_feature_name((enum gmem_feature)f); f++)
		known_states[f] = gmem_vm_probe(vm, (enum gmem_feature)f, NULL);
	gmem_vm_close(vm);
	inject_resume();
}

static int probe_one(void *arg)
{
	enum gmem_feature feature = *(enum gmem_feature *)arg;
	struct gmem_probe probe = { .size = sizeof(probe) };
	int state, again;

	inject_pause();
	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	inject_resume();
	state = gmem_vm_probe(vm, feature, &probe);
	inject_pause();
	assert_true(state >= GMEM_UNDETERMINED && state <= GMEM_PRESENT);
	assert_non_null(probe.facility);
	again = gmem_vm_probe(vm, feature, NULL);
	if (was_transient() && again != known_states[feature])
		fail_msg("%s is %d for good, not %d, after %s", gmem_feature_name(feature), again, known_states[feature],
			 inject_describe());
	gmem_vm_close(vm);
	inject_resume();
	return state == known_states[feature] ? 0 : -EIO;
}

static bool makes_calls(enum gmem_feature feature)
{
	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	inject_arm(0, 0);
	gmem_vm_probe(vm, feature, NULL);
	return inject_disarm() > 0;
}

static void probe_every_feature(void)
{
	learn_states();
	for (enum gmem_feature feature = 1; gmem_feature_name(feature); feature++) {
		bool calls = makes_calls(feature);

		gmem_vm_close(vm);
		if (calls)
			each(probe_one, &feature);
	}
}

static void probing_every_feature(void **state)
{
	(void)state;
	probe_every_feature();
	assert_int_equal(known_states[GMEM_FEATURE_MEMFD], GMEM_PRESENT);
}

static void probing_every_feature_of_a_future_kernel(void **state)
{
	(void)state;
	fakekvm_enable(fakekvm_preset("future-upstream"));
	probe_every_feature();
	assert_int_equal(known_states[GMEM_FEATURE_UFFD], GMEM_PRESENT);
}

static int explain_one(void *arg)
{
	enum gmem_task task = *(enum gmem_task *)arg;
	int r;

	inject_pause();
	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	inject_resume();
	r = explain_rows(vm, task);
	inject_pause();
	gmem_vm_close(vm);
	inject_resume();
	return r;
}

static void explaining_every_task(void **state)
{
	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	for (enum gmem_task task = 1; gmem_task_name(task); task++)
		each(explain_one, &task);
}

/* Mappings and memslots */

static int map_memory(void *arg)
{
	unsigned char *space = *(unsigned char **)arg;
	struct gmem_map_opts opts = { .size = sizeof(opts), .address = space };
	void *address = NULL;
	int r;

	set_up();
	r = gmem_map(mem, 0, PAGES * page(), &address, &opts);
	assert_int_equal(r == 0, address != NULL);
	if (r == 0)
		*(unsigned char *)address = 1;
	tear_down();
	return r;
}

static int unmap_memory(void *arg)
{
	unsigned char *space = *(unsigned char **)arg;
	struct gmem_map_opts opts = { .size = sizeof(opts), .address = space };
	void *address;
	int r;

	set_up();
	inject_pause();
	assert_int_equal(gmem_map(mem, 0, 2 * page(), &address, &opts), 0);
	assert_int_equal(gmem_map(mem, 2 * page(), page(), &address, NULL), 0);
	inject_resume();
	r = gmem_unmap(mem, 0, PAGES * page());
	inject_pause();
	assert_int_equal(gmem_unmap(mem, 0, PAGES * page()), 0); /* a second call does what was left */
	inject_resume();
	tear_down();
	return r;
}

static void with_and_without_a_place(int (*body)(void *arg))
{
	void *space = NULL;

	each(body, &space);
	space = mmap(NULL, PAGES * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(space, MAP_FAILED);
	each(body, &space);
	munmap(space, PAGES * page());
}

static void mapping(void **state)
{
	(void)state;
	with_and_without_a_place(map_memory);
}

static void unmapping(void **state)
{
	(void)state;
	with_and_without_a_place(unmap_memory);
}

static int bind_memory(void *arg)
{
	int r;

	(void)arg;
	set_up();
	r = gmem_bind(mem, 1, 0, 0, 4 * page(), NULL);
	inject_pause();
	assert_int_equal(gmem_unbind(mem, 1), r == 0 ? 0 : -ENOENT);
	assert_int_equal(gmem_unmap(mem, 0, PAGES * page()), 0);
	inject_resume();
	tear_down();
	return r;
}

static void binding(void **state)
{
	(void)state;
	each(bind_memory, NULL);
}

/* The whole life of memory that was mapped, placed and bound ends under failures. */
static int give_up(void *arg)
{
	struct gmem_map_opts opts = { .size = sizeof(opts), .address = *(void **)arg };
	void *address;

	set_up();
	inject_pause();
	assert_int_equal(gmem_map(mem, 0, 2 * page(), &address, &opts), 0);
	assert_int_equal(gmem_bind(mem, 1, 0, page(), 4 * page(), NULL), 0);
	inject_resume();
	gmem_destroy(mem);
	gmem_vm_close(vm);
	inject_pause();
	/* What could not be given back as it was lies in the caller's range, and goes with it. */
	assert_ptr_equal(mmap(opts.address, PAGES * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
			      -1, 0),
			 opts.address);
	inject_resume();
	return 0;
}

static void giving_up_what_is_bound_and_placed(void **state)
{
	void *space = mmap(NULL, PAGES * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)state;
	assert_ptr_not_equal(space, MAP_FAILED);
	each(give_up, &space);
	munmap(space, PAGES * page());
}

/* What makes no call cannot fail. */
static void looking_makes_no_call(void **state)
{
	struct gmem_info info = { .size = sizeof(info) };

	(void)state;
	set_up();
	inject_arm(0, 0);
	assert_int_equal(gmem_query(mem, &info), 0);
	assert_true(gmem_get_fd(mem, GMEM_FD_MEMORY) >= 3);
	assert_int_equal(gmem_unbind(mem, 1), -ENOENT);
	assert_int_equal(inject_disarm(), 0);
	tear_down();
}

static const struct gt_test tests[] = {
	GT(opening_and_closing_a_vm, GT_NEEDS_NOTHING),
	GT(creating_and_destroying_a_memfd, GT_NEEDS_NOTHING),
	GT(creating_and_destroying_lazy_memory, GT_NEEDS_NOTHING),
	GT(creating_what_cannot_be, GT_NEEDS_NOTHING),
	GT(probing_every_feature, GT_NEEDS_NOTHING),
	GT(probing_every_feature_of_a_future_kernel, GT_NEEDS_NOTHING),
	GT(explaining_every_task, GT_NEEDS_NOTHING),
	GT(mapping, GT_NEEDS_NOTHING),
	GT(unmapping, GT_NEEDS_NOTHING),
	GT(binding, GT_NEEDS_NOTHING),
	GT(giving_up_what_is_bound_and_placed, GT_NEEDS_NOTHING),
	GT(looking_makes_no_call, GT_NEEDS_NOTHING),
};

GT_MAIN("inject", tests)
