/* SPDX-License-Identifier: MIT */
/* Endpoints with every system call and allocation failing in turn: nothing stays registered or held, nothing is said to be
 * there that is not, and what failed can be done again. Served pages are looked at through the file. */
#include "gt.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "content.h"
#include "faults.h"
#include "handles.h"
#include "inject.h"
#include "points.h"
#include "uapi/userfaultfd.h"
#include "wrap.h"

#define PAGES 6

struct subject {
	enum gmem_strategy strategy;
	enum gmem_resolve how;
	bool twice; /* mapped in two places */
};

static struct lazy lazy;
static unsigned char *data;

/* So that no failure of a probe is remembered for what comes after it. */
static void probe_first(struct gmem_vm *vm)
{
	static const enum gmem_feature features[] = { GMEM_FEATURE_UFFD_KERNEL_FAULTS, GMEM_FEATURE_UFFD_MINOR_MEMFD,
						      GMEM_FEATURE_UFFD_MISSING_MEMFD };

	for (size_t i = 0; i < 3; i++)
		assert_true(gmem_vm_probe(vm, features[i], NULL) >= 0);
}

static void set_up(const struct subject *subject, bool watched)
{
	struct gmem_map_opts opts = { .size = sizeof(opts), .flags = GMEM_MAP_READONLY };
	void *address;

	inject_pause();
	lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	probe_first(lazy.vm);
	if (subject->twice)
		assert_int_equal(gmem_map(lazy.mem, 0, lazy.length, &address, &opts), 0);
	if (watched)
		watch_pages(&lazy, 0, PAGES, subject->strategy);
	data = malloc(lazy.length);
	memset(data, 7, lazy.length);
	inject_resume();
}

static void tear_down(void)
{
	inject_pause();
	free(data);
	end_lazy(&lazy);
	inject_resume();
}

/* --- create ----------------------------------------------------------------------------------------------------------- */

static int create_one(void *arg)
{
	struct gmem_uffd *uffd = NULL;
	struct gmem_vm *vm;
	int r;

	(void)arg;
	inject_pause();
	vm = open_vm(-1);
	inject_resume();
	r = gmem_uffd_create(vm, &uffd, NULL);
	assert_true((r == 0) == (uffd != NULL));
	gmem_uffd_destroy(uffd);
	inject_pause();
	gmem_vm_close(vm);
	inject_resume();
	return r;
}

static int import_one(void *arg)
{
	struct gmem_uffd *uffd = NULL;
	struct lazy *from = arg;
	int r = gmem_uffd_import(from->vm, gmem_uffd_get_fd(from->uffd), &uffd, NULL);

	assert_true((r == 0) == (uffd != NULL));
	gmem_uffd_destroy(uffd);
	return r;
}

static void creating_and_importing(void **state)
{
	struct lazy from = make_lazy(GMEM_BACKING_MEMFD, 1);

	(void)state;
	each(create_one, NULL);
	each(import_one, &from);
	end_lazy(&from);
}

/* --- register --------------------------------------------------------------------------------------------------------- */

/* After a failure touching raises no event, the mappings can go, and another endpoint can have the memory. */
static void assert_unwatched(void)
{
	struct gmem_uffd_info info = counted(lazy.uffd);
	struct gmem_uffd *second;

	assert_int_equal(info.ranges + info.length + info.remaining, 0);
	assert_int_equal(touch(lazy.at), 0);
	assert_int_equal(gmem_uffd_create(lazy.vm, &second, NULL), 0);
	assert_int_equal(gmem_uffd_register(second, lazy.mem, 0, lazy.page, NULL), 0);
	assert_int_equal(gmem_uffd_resolve(second, lazy.mem, 0, lazy.page, GMEM_RESOLVE_ZERO, NULL, NULL), 0);
	assert_int_equal(gmem_uffd_unregister(second, lazy.mem, 0, lazy.page), 0);
	gmem_uffd_destroy(second);
	assert_int_equal(gmem_unmap(lazy.mem, 0, lazy.length), 0);
}

/* The unregistering of a roll-back can be what fails: its memory is then watched by nobody, which only its end shows. */
static int register_one(void *arg)
{
	const struct subject *subject = arg;
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .strategy = subject->strategy };
	int r;

	set_up(subject, false);
	r = gmem_uffd_register(lazy.uffd, lazy.mem, 0, lazy.length, &opts);
	inject_pause();
	if (r)
		assert_unwatched();
	else
		must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	inject_resume();
	tear_down();
	return r;
}

static int register_of_a_peer(void *arg)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_BY_PEER, .hva = 1 << 30 };
	struct lazy *from = arg;
	struct gmem_uffd *uffd;
	int r;

	inject_pause();
	assert_int_equal(gmem_uffd_import(from->vm, gmem_uffd_get_fd(from->uffd), &uffd, NULL), 0);
	inject_resume();
	r = gmem_uffd_register(uffd, NULL, 0, 64 * page(), &opts);
	inject_pause();
	assert_int_equal(counted(uffd).ranges, r == 0);
	if (r)
		assert_int_equal(gmem_uffd_register(uffd, NULL, 0, 64 * page(), &opts), 0);
	gmem_uffd_destroy(uffd);
	inject_resume();
	return r;
}

static void registering(void **state)
{
	struct lazy from = make_lazy(GMEM_BACKING_MEMFD, 1);
	struct subject subject = { .strategy = GMEM_STRATEGY_FILL };

	(void)state;
	want_small_pages();
	each(register_one, &subject);
	subject.twice = true;
	each(register_one, &subject);
	subject.strategy = GMEM_STRATEGY_COPY;
	each(register_one, &subject);
	each(register_of_a_peer, &from);
	end_lazy(&from);
}

static int unregister_one(void *arg)
{
	int r;

	set_up(arg, true);
	inject_pause();
	must_resolve(&lazy, 0, PAGES - 1, GMEM_RESOLVE_DATA, data);
	assert_int_equal(gmem_discard(lazy.mem, (PAGES - 1) * lazy.page, lazy.page, NULL, NULL), 0);
	inject_resume();
	r = gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, lazy.length);
	inject_pause();
	if (r)
		assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, lazy.length), 0);
	assert_int_equal(counted(lazy.uffd).ranges, 0);
	assert_bytes(lazy.at, 7, (PAGES - 1) * lazy.page);
	assert_int_equal(touch(lazy.at + (PAGES - 1) * lazy.page), 0);
	assert_int_equal(gmem_unmap(lazy.mem, 0, lazy.length), 0);
	inject_resume();
	tear_down();
	return r;
}

static void unregistering(void **state)
{
	struct subject subject = { .strategy = GMEM_STRATEGY_FILL, .twice = true };

	(void)state;
	each(unregister_one, &subject);
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */

/* A thread waits: whatever fails, it gets a signal or goes on waiting, and no zeros. Where the range can be shut in no way, it
 * stays watched for good, and the thread with it. */
static int destroy_with_a_waiter(void *arg)
{
	struct toucher t;

	set_up(arg, true);
	inject_pause();
	touch_begin(&t, lazy.at, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 0, lazy.page);
	gmem_uffd_destroy(lazy.uffd);
	lazy.uffd = NULL;
	inject_resume();
	gmem_destroy(lazy.mem);
	inject_pause();
	lazy.mem = NULL;
	assert_int_equal(touch_end(&t), -SIGSEGV);
	inject_resume();
	tear_down();
	return 0;
}

static void destroying_with_a_waiter(void **state)
{
	struct subject subject = { .strategy = GMEM_STRATEGY_FILL };

	(void)state;
	each(destroy_with_a_waiter, &subject);
}

/* --- read ------------------------------------------------------------------------------------------------------------- */

static int read_some(void *arg)
{
	struct gmem_fault faults[4];
	struct toucher t, remover;
	int r, got = 0;

	set_up(arg, true);
	inject_pause();
	touch_begin(&t, lazy.at, READ);
	advise_begin(&remover, lazy.at + 2 * lazy.page, 2 * lazy.page, MADV_REMOVE);
	inject_resume();
	do {
		r = gmem_uffd_read(lazy.uffd, faults, 4);
		got += r > 0 ? r : 0;
	} while (r >= 0 && got < 2);
	inject_pause();
	while (got < 2) { /* what failed is not lost */
		next_event(lazy.uffd);
		got++;
	}
	assert_map(lazy.mem, "EEDDEE");
	assert_int_equal(touch_end(&remover), 0);
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	assert_int_equal(touch_end(&t), 7);
	assert_bytes(lazy.at + 2 * lazy.page, 0, 2 * lazy.page);
	inject_resume();
	tear_down();
	return r < 0 ? r : 0;
}

static void reading(void **state)
{
	struct subject subject = { .strategy = GMEM_STRATEGY_FILL };

	(void)state;
	want_small_pages();
	/* how often it reads before both events are there is chance: a fixed number of failures */
	for (unsigned long nth = 1; nth <= 3; nth++) {
		inject_arm(nth, EIO);
		read_some(&subject);
		inject_disarm();
	}
	subject.strategy = GMEM_STRATEGY_COPY;
	for (unsigned long nth = 1; nth <= 3; nth++) {
		inject_arm(nth, EIO);
		read_some(&subject);
		inject_disarm();
	}
}

/* --- resolve ---------------------------------------------------------------------------------------------------------- */

/* Page 1 is given up, page 2 filled with 9, and page 3 waited for. */
static int resolve_all(void *arg)
{
	const struct subject *subject = arg;
	uint64_t done = UINT64_MAX;
	struct toucher t;
	int r, byte = subject->how == GMEM_RESOLVE_DATA ? 7 : 0;

	set_up(subject, true);
	inject_pause();
	memset(data, 9, lazy.page);
	must_resolve(&lazy, 2, 1, GMEM_RESOLVE_DATA, data);
	memset(data, 7, lazy.page);
	assert_int_equal(gmem_discard(lazy.mem, lazy.page, lazy.page, NULL, NULL), 0);
	touch_begin(&t, lazy.at + 3 * lazy.page, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 3 * lazy.page, lazy.page);
	inject_resume();
	r = gmem_uffd_resolve(lazy.uffd, lazy.mem, 0, lazy.length, subject->how, data, &done);
	inject_pause();
	assert_true(r == 0 ? done == lazy.length : done < lazy.length && done % lazy.page == 0);
	for (uint64_t i = 0; i < done / lazy.page; i++)
		assert_true(state_of(lazy.mem, i) == FILLED || r == 0);
	if (r)
		must_resolve(&lazy, 0, PAGES, subject->how, data);
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_WAKE, NULL); /* a WAKE that fails is told to nobody */
	assert_int_equal(touch_end(&t), byte);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_bytes(lazy.at + i * lazy.page, i == 1 ? 0 : i == 2 ? 9 : byte, lazy.page);
	inject_resume();
	tear_down();
	return r;
}

static void resolving(void **state)
{
	static const enum gmem_resolve ways[] = { GMEM_RESOLVE_DATA, GMEM_RESOLVE_ZERO };

	(void)state;
	want_small_pages();
	for (size_t i = 0; i < 2; i++) {
		struct subject fill = { .strategy = GMEM_STRATEGY_FILL, .how = ways[i], .twice = i };
		struct subject copy = { .strategy = GMEM_STRATEGY_COPY, .how = ways[i], .twice = i };

		each(resolve_all, &fill);
		each(resolve_all, &copy);
	}
}

static int poison_some(void *arg)
{
	uint64_t done = UINT64_MAX;
	int r;

	set_up(arg, true);
	r = gmem_uffd_resolve(lazy.uffd, lazy.mem, 0, lazy.length, GMEM_RESOLVE_POISON, NULL, &done);
	inject_pause();
	assert_map(lazy.mem, "EEEEEE");
	if (r)
		must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_POISON, NULL);
	assert_int_equal(touch(lazy.at), -SIGBUS);
	inject_resume();
	tear_down();
	return r;
}

static void poisoning(void **state)
{
	struct subject subject = { .strategy = GMEM_STRATEGY_FILL };

	(void)state;
	want_feature(GMEM_FEATURE_UFFD_POISON, "UFFDIO_POISON");
	each(poison_some, &subject);
}

static void set_up_protected(bool twice, bool on)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_WRITE_PROTECT };
	struct subject subject = { .twice = twice };

	set_up(&subject, false);
	inject_pause();
	assert_int_equal(gmem_uffd_register(lazy.uffd, lazy.mem, 0, lazy.length, &opts), 0);
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_DATA, data);
	if (on)
		assert_int_equal(gmem_uffd_protect(lazy.uffd, lazy.mem, 0, lazy.length, 1, NULL), 0);
	inject_resume();
}

/* What was not protected is in the end. */
static int protect_all(void *twice)
{
	uint64_t done = UINT64_MAX;
	struct toucher t;
	int r;

	set_up_protected(twice, false);
	r = gmem_uffd_protect(lazy.uffd, lazy.mem, 0, lazy.length, 1, &done);
	inject_pause();
	assert_true(r == 0 ? done == lazy.length : done < lazy.length);
	if (r)
		assert_int_equal(gmem_uffd_protect(lazy.uffd, lazy.mem, 0, lazy.length, 1, NULL), 0);
	touch_begin(&t, lazy.at + 3 * lazy.page, 5);
	expect_event(lazy.uffd, GMEM_FAULT_PROTECTED, lazy.mem, 3 * lazy.page, lazy.page);
	assert_int_equal(gmem_uffd_protect(lazy.uffd, lazy.mem, 0, lazy.length, 0, NULL), 0);
	assert_int_equal(touch_end(&t), 5);
	inject_resume();
	tear_down();
	return r;
}

/* Whoever waits to write gets there in the end. */
static int let_in(void *twice)
{
	uint64_t done = UINT64_MAX;
	struct toucher t;
	int r;

	set_up_protected(twice, true);
	inject_pause();
	touch_begin(&t, lazy.at + 3 * lazy.page, 5);
	expect_event(lazy.uffd, GMEM_FAULT_PROTECTED, lazy.mem, 3 * lazy.page, lazy.page);
	inject_resume();
	r = gmem_uffd_protect(lazy.uffd, lazy.mem, 0, lazy.length, 0, &done);
	inject_pause();
	assert_true(r == 0 ? done == lazy.length : done < lazy.length);
	if (r)
		assert_int_equal(gmem_uffd_protect(lazy.uffd, lazy.mem, 0, lazy.length, 0, NULL), 0);
	assert_int_equal(touch_end(&t), 5);
	inject_resume();
	tear_down();
	return r;
}

static void protecting(void **state)
{
	static char twice;

	(void)state;
	want_feature(GMEM_FEATURE_UFFD_WP_MEMFD, "write-protection of shared memory");
	each(protect_all, NULL);
	each(protect_all, &twice);
	each(let_in, NULL);
	each(let_in, &twice);
}

static int query_it(void *arg)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };
	int r, ended;

	set_up(arg, true);
	r = gmem_uffd_query(lazy.uffd, &info);
	ended = gmem_uffd_get_fd(lazy.uffd) < 0;
	inject_pause();
	assert_int_equal(r, 0);
	assert_int_equal(info.remaining, lazy.length);
	inject_resume();
	tear_down();
	return ended;
}

/* It asks nobody, so nothing can fail. */
static void querying(void **state)
{
	struct subject subject = { .strategy = GMEM_STRATEGY_FILL };

	(void)state;
	inject_arm(1, EIO);
	assert_int_equal(query_it(&subject), 0);
	assert_int_equal(inject_disarm(), 0);
}

static const struct gt_test tests[] = {
	GT(creating_and_importing, GT_NEEDS_UFFD_MINOR),
	GT(registering, GT_NEEDS_UFFD_MINOR),
	GT(unregistering, GT_NEEDS_UFFD_MINOR),
	GT(destroying_with_a_waiter, GT_NEEDS_UFFD_MINOR),
	GT(reading, GT_NEEDS_UFFD_MINOR),
	GT(resolving, GT_NEEDS_UFFD_MINOR),
	GT(poisoning, GT_NEEDS_UFFD_MINOR),
	GT(protecting, GT_NEEDS_UFFD_MINOR),
	GT(querying, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("inject_fault", tests)
