/* SPDX-License-Identifier: MIT */
/* Several VMs and one pager, with everything at the same time that may be: each page is what the model says, or was allowed to
 * become, and nobody waits for ever. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../live/content.h"
#include "gt.h"
#include "stress.h"

#define VMS 3u
#define LENGTH (STRESS_LENGTH / 16) /* a round of an emulated machine takes minutes else */
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define LATE 512

/* Whoever gives up a page holds it alone; it is zeros before he lets go of it, and for ever. */
enum { CONTENT, GIVING_UP, ZEROS };

struct vm {
	struct arena arena;
	struct gmem_uffd *uffd;
	struct gmem_source *source;
	unsigned char *at;
	_Atomic unsigned char *model; /* of each page */
	pthread_mutex_t lock;	      /* of what is owed */
	struct range owed[LATE];
	unsigned int count;
	atomic_uint asked;
};

static struct vm vms[VMS];
static struct gmem_pager *pager;

/* Fails at times, answers late mostly, or at once. */
static int answer(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	unsigned int number = atomic_fetch_add(&((struct vm *)user)->asked, 1);
	struct vm *vm = user;
	bool owes = false;

	(void)flags;
	if (number % 7 == 3)
		return -EIO;
	if (number % 3) {
		pthread_mutex_lock(&vm->lock);
		owes = vm->count < LATE;
		if (owes)
			vm->owed[vm->count++] = (struct range){ offset, length };
		pthread_mutex_unlock(&vm->lock);
	}
	if (owes)
		return GMEM_ANSWER_LATER;
	memcpy(buffer, vm->arena.image + offset, length);
	return GMEM_ANSWER_DATA;
}

static bool pay(struct vm *vm, uint64_t *seed)
{
	struct range range = { 0, 0 };

	pthread_mutex_lock(&vm->lock);
	if (vm->count) {
		unsigned int i = (unsigned int)(content_random(seed) % vm->count);

		range = vm->owed[i];
		vm->owed[i] = vm->owed[--vm->count];
	}
	pthread_mutex_unlock(&vm->lock);
	if (!range.length)
		return false;
	if (content_random(seed) % 16 == 0) /* asked again, and paid then */
		(void)gmem_source_deliver(vm->source, range.offset, range.length, NULL, -EAGAIN);
	else
		(void)gmem_source_deliver(vm->source, range.offset, range.length, vm->arena.image + range.offset, GMEM_ANSWER_DATA);
	return true;
}

static void add(struct vm *vm, uint64_t *seed)
{
	struct gmem_pager_add_opts opts = { .size = sizeof(opts), .background = content_random(seed) % 2 ? 1 << 20 : 0,
					    .ahead = content_random(seed) % 2 ? 65536 : 0 };

	if (gmem_pager_add(pager, vm->uffd, vm->source, &opts) == 0)
		(void)gmem_uffd_resolve(vm->uffd, vm->arena.mem, 0, vm->arena.length, GMEM_RESOLVE_WAKE, NULL, NULL);
}

static void begin_vm(struct vm *vm, uint64_t *seed)
{
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = answer };
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .strategy = GMEM_STRATEGY_FILL };
	void *at;

	assert_int_equal(gmem_uffd_create(vm->arena.vm, &vm->uffd, NULL), 0);
	assert_int_equal(gmem_uffd_register(vm->uffd, vm->arena.mem, 0, vm->arena.length, &opts), 0);
	assert_int_equal(gmem_map(vm->arena.mem, 0, vm->arena.length, &at, NULL), 0);
	vm->at = at;
	vm->count = 0;
	for (uint64_t i = 0; i < vm->arena.length / vm->arena.page; i++)
		atomic_store(&vm->model[i], CONTENT);
	assert_int_equal(gmem_source_create(&ops, vm, &vm->source), 0);
	add(vm, seed);
}

/* --- who does it --- */

static void look(struct crew *crew, struct vm *vm, uint64_t number)
{
	const unsigned char *page = vm->at + number * vm->arena.page, *image = vm->arena.image + number * vm->arena.page;
	unsigned char before = atomic_load(&vm->model[number]);
	bool zeros = true, right = true;

	for (uint64_t i = 0; i < vm->arena.page; i += 8) {
		uint64_t is = *(const volatile uint64_t *)(page + i), shall;

		memcpy(&shall, image + i, 8);
		zeros = zeros && is == 0;
		right = right && is == shall;
	}
	if (before == ZEROS ? !zeros : atomic_load(&vm->model[number]) == CONTENT && !right)
		crew_failed(crew, "page 0x%llx is wrong: it was to be %s, and is %s", (unsigned long long)number,
			    before == ZEROS ? "zeros" : "content", zeros ? "zeros" : right ? "content" : "neither");
}

static void touch_pages(struct crew *crew, unsigned int number)
{
	struct vm *vm = &vms[number % VMS];
	uint64_t seed = stress_seed(&vm->arena, number), pages = vm->arena.length / vm->arena.page;

	for (uint64_t i = 0; i < 2 * pages && crew_goes_on(crew); i++)
		look(crew, vm, content_random(&seed) % 4 ? content_random(&seed) % pages : i % pages);
	atomic_fetch_add((atomic_uint *)crew->arg, 1);
}

static void give_up_pages(struct crew *crew, unsigned int number)
{
	struct vm *vm = &vms[number % VMS];
	uint64_t seed = stress_seed(&vm->arena, number), pages = vm->arena.length / vm->arena.page;

	for (uint64_t i = 0; i < pages / 8 && crew_goes_on(crew); i++) {
		uint64_t page = content_random(&seed) % pages;
		unsigned char expected = CONTENT;
		int r;

		if (!atomic_compare_exchange_strong(&vm->model[page], &expected, GIVING_UP))
			continue;
		if (content_random(&seed) % 2)
			r = gmem_discard(vm->arena.mem, page * vm->arena.page, vm->arena.page, NULL, NULL);
		else
			r = madvise(vm->at + page * vm->arena.page, vm->arena.page, MADV_REMOVE);
		if (r < 0)
			crew_failed(crew, "giving up a page: %d", r);
		atomic_store(&vm->model[page], ZEROS);
	}
	atomic_fetch_add((atomic_uint *)crew->arg, 1);
}

static void pay_all(struct crew *crew, unsigned int number)
{
	uint64_t seed = stress_seed(&vms[0].arena, number);
	bool paid = true;

	for (unsigned int i = 0; crew_goes_on(crew); i++) {
		paid = pay(&vms[i % VMS], &seed);
		if (!paid)
			sched_yield();
	}
}

/* Stops, starts, removes, adds, prefetches, asks. */
static void command(struct crew *crew, unsigned int number)
{
	uint64_t seed = stress_seed(&vms[0].arena, number);

	while (crew_goes_on(crew)) {
		struct vm *vm = &vms[content_random(&seed) % VMS];
		struct gmem_pager_info info = { .size = sizeof(info) };

		switch (content_random(&seed) % 5) {
		case 0:
			if (gmem_pager_stop(pager, NULL) < 0 || gmem_pager_start(pager) < 0)
				crew_failed(crew, "stopping: %s", gmem_last_error());
			break;
		case 1:
			if (gmem_pager_remove(pager, vm->uffd, NULL) == 0)
				add(vm, &seed);
			break;
		case 2:
			(void)gmem_pager_prefetch(pager, vm->uffd, vm->arena.mem, content_random(&seed) % 8 * vm->arena.page,
						  8 * vm->arena.page);
			break;
		case 3:
			if (gmem_pager_query(pager, &info) < 0 || info.endpoints > VMS)
				crew_failed(crew, "%llu endpoints", (unsigned long long)info.endpoints);
			break;
		default:
			sched_yield();
		}
	}
}

static void finish_all(struct crew *crew, unsigned int number)
{
	struct vm *vm = &vms[number];
	int r;

	do {
		r = gmem_pager_finish(pager, vm->uffd, GMEM_FOREVER);
		if (r == -ENOENT)
			add(vm, &vm->arena.seed);
	} while (r == -ENOENT || r == -ESHUTDOWN);
	if (r < 0)
		crew_failed(crew, "finishing: %s", gmem_last_error());
	atomic_fetch_add((atomic_uint *)crew->arg, 1);
}

/* --- rounds --- */

static void run_crew(unsigned int workers, crew_fn fns[], bool commands)
{
	atomic_uint ready;
	struct crew crew;

	atomic_init(&ready, 0);
	crew_begin(&crew, &ready);
	for (unsigned int i = 0; i < workers; i++)
		crew_start(&crew, fns[i / VMS], i % VMS + (i / VMS) * VMS);
	crew_start(&crew, pay_all, 20);
	if (commands)
		crew_start(&crew, command, 21);
	while (atomic_load(&ready) < workers && crew_goes_on(&crew))
		sched_yield();
	atomic_store(&crew.stop, true);
	crew_wait(&crew);
	crew_end(&crew);
}

static void assert_model(struct vm *vm)
{
	for (uint64_t i = 0; i < vm->arena.length / vm->arena.page; i++) {
		const unsigned char *page = vm->at + i * vm->arena.page;

		if (atomic_load(&vm->model[i]) == ZEROS)
			assert_true(stress_is_zero(page, vm->arena.page));
		else
			assert_memory_equal(page, vm->arena.image + i * vm->arena.page, vm->arena.page);
	}
}

static void round_of(uint32_t threads)
{
	/* Slow machines take their time: nothing is to be given up. */
	struct gmem_pager_create_opts opts = { .size = sizeof(opts), .threads = threads, .deadline_ns = GMEM_FOREVER };
	crew_fn work[] = { touch_pages, touch_pages, give_up_pages }, end[] = { finish_all };

	assert_int_equal(gmem_pager_create(&pager, &opts), 0);
	for (unsigned int i = 0; i < VMS; i++)
		begin_vm(&vms[i], &vms[i].arena.seed);
	assert_int_equal(gmem_pager_start(pager), 0);
	run_crew(3 * VMS, work, true);
	run_crew(VMS, end, false);
	for (unsigned int i = 0; i < VMS; i++) {
		struct gmem_uffd_info info = { .size = sizeof(info) };

		assert_model(&vms[i]);
		assert_int_equal(gmem_uffd_query(vms[i].uffd, &info), 0);
		assert_int_equal(info.pending, 0);
		assert_int_equal(info.faults, info.missing + info.minor);
		gmem_uffd_destroy(vms[i].uffd);
		gmem_source_destroy(vms[i].source);
	}
	gmem_pager_destroy(pager);
}

static void everything_at_once(uint32_t threads)
{
	struct stress_time time;

	for (unsigned int i = 0; i < VMS; i++) {
		vms[i].arena = arena_make(GMEM_BACKING_MEMFD, true, LENGTH);
		vms[i].model = calloc(LENGTH / vms[i].arena.page, 1);
		pthread_mutex_init(&vms[i].lock, NULL);
		assert_non_null(vms[i].model);
	}
	time = stress_begin();
	do {
		round_of(threads);
		for (unsigned int i = 0; i < VMS; i++)
			arena_renew(&vms[i].arena);
	} while (stress_goes_on(&time));
	for (unsigned int i = 0; i < VMS; i++) {
		free((void *)vms[i].model);
		pthread_mutex_destroy(&vms[i].lock);
		arena_end(&vms[i].arena);
	}
}

static void everything_with_one_thread(void **state)
{
	(void)state;
	everything_at_once(1);
}

static void everything_with_four_threads(void **state)
{
	(void)state;
	everything_at_once(4);
}

static const struct gt_test tests[] = {
	GT(everything_with_one_thread, NEEDS),
	GT(everything_with_four_threads, NEEDS),
};

GT_MAIN("stress_pager", tests)
