/* SPDX-License-Identifier: MIT */
/* Endpoints come and go, in any order and across fork: nobody reads zeros for content that has not come. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "faults.h"
#include "handles.h"
#include "refusal.h"

#define PAGES 8

static struct lazy make_two(void)
{
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);

	alarm(100);
	watch_pages(&lazy, 0, 2, GMEM_STRATEGY_AUTO);
	watch_pages(&lazy, 4, 2, GMEM_STRATEGY_AUTO);
	return lazy;
}

/* --- what it says of itself ------------------------------------------------------------------------------------------- */

static void made_and_given_up(void **state)
{
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	struct gmem_uffd_info info = counted(lazy.uffd);

	(void)state;
	assert_int_equal(info.flags, 0);
	assert_int_equal(info.ranges, 0);
	assert_int_equal(info.remaining, 0);
	assert_true(gmem_uffd_get_fd(lazy.uffd) >= 3);
	assert_true(fcntl(gmem_uffd_get_fd(lazy.uffd), F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(gmem_uffd_get_fd(lazy.uffd), F_GETFL) & O_NONBLOCK);
	gmem_uffd_destroy(NULL);
	end_lazy(&lazy);
}

static void the_counters_follow(void **state)
{
	struct lazy lazy = make_two();
	struct gmem_uffd_info info = counted(lazy.uffd);
	unsigned char byte[65536] = { 1 };
	struct toucher t;

	(void)state;
	assert_int_equal(info.ranges, 2);
	assert_int_equal(info.length, 4 * lazy.page);
	assert_int_equal(info.remaining, 4 * lazy.page);
	touch_begin(&t, lazy.at + lazy.page, 5);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, lazy.page, lazy.page);
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, byte);
	must_resolve(&lazy, 1, 1, GMEM_RESOLVE_ZERO, NULL);
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, byte);
	assert_int_equal(touch_end(&t), 5);
	info = counted(lazy.uffd);
	assert_int_equal(info.faults, 1);
	assert_int_equal(info.missing, 1);
	assert_int_equal(info.minor, 0);
	assert_int_equal(info.write, 1);
	assert_int_equal(info.filled, 1);
	assert_int_equal(info.zeroed, 1);
	assert_int_equal(info.present, 1);
	assert_int_equal(info.duplicate, 1);
	assert_int_equal(info.bytes, lazy.page);
	assert_int_equal(info.remaining, 2 * lazy.page);
	assert_int_equal(info.pending, 0);
	end_lazy(&lazy);
}

/* A caller of an earlier library has room for less. */
static void a_short_info_is_filled_as_far_as_it_goes(void **state)
{
	struct lazy lazy = make_two();
	struct gmem_uffd_info info;

	(void)state;
	memset(&info, 0x5a, sizeof(info));
	info.size = 32;
	assert_int_equal(gmem_uffd_query(lazy.uffd, &info), 0);
	assert_int_equal(info.size, 32);
	assert_int_equal(info.length, 4 * lazy.page);
	assert_int_equal(info.remaining, UINT64_C(0x5a5a5a5a5a5a5a5a));
	end_lazy(&lazy);
}

/* --- mappings --------------------------------------------------------------------------------------------------------- */

static void watched_mappings_stay_as_they_are(void **state)
{
	struct gmem_map_opts opts = { .size = sizeof(opts), .flags = GMEM_MAP_READONLY };
	struct lazy lazy = make_two();
	void *address = NULL;

	(void)state;
	spoil_sentence();
	bad("gmem_map", gmem_map(lazy.mem, lazy.page, 2 * lazy.page, &address, &opts), -EBADFD, "gmem_uffd_register");
	assert_null(address);
	assert_int_equal(gmem_map(lazy.mem, 2 * lazy.page, 2 * lazy.page, &address, &opts), 0);
	assert_int_equal(gmem_map(lazy.mem, 0, lazy.length, &address, NULL), 0); /* is there already */
	assert_ptr_equal(address, lazy.at);
	bad("gmem_unmap", gmem_unmap(lazy.mem, 0, lazy.length), -EBUSY, "endpoint");
	must_resolve(&lazy, 0, 2, GMEM_RESOLVE_ZERO, NULL);
	must_resolve(&lazy, 4, 2, GMEM_RESOLVE_ZERO, NULL);
	assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, lazy.length), 0);
	assert_int_equal(gmem_map(lazy.mem, lazy.page, 2 * lazy.page, &address, &opts), 0);
	assert_int_equal(gmem_unmap(lazy.mem, 0, lazy.length), 0);
	end_lazy(&lazy);
}

/* What nobody has mapped is mapped first, and goes when nobody needs it. */
static void ranges_that_are_not_mapped(void **state)
{
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	void *address;

	(void)state;
	assert_int_equal(gmem_unmap(lazy.mem, 0, lazy.length), 0);
	assert_int_equal(gmem_map(lazy.mem, 2 * lazy.page, lazy.page, &address, NULL), 0);
	watch_pages(&lazy, 0, PAGES, GMEM_STRATEGY_AUTO);
	must_resolve(&lazy, 0, PAGES, GMEM_RESOLVE_ZERO, NULL);
	assert_int_equal(touch(address), 0);
	assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, lazy.length), 0);
	end_lazy(&lazy);
}

static void ending_it_leaves_filled_pages_and_zeros(void **state)
{
	struct lazy lazy = make_two();
	unsigned char *data = malloc(lazy.page);

	(void)state;
	memset(data, 7, lazy.page);
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, data);
	bad("gmem_uffd_unregister", gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, 2 * lazy.page), -EBUSY, "empty");
	assert_int_equal(gmem_discard(lazy.mem, lazy.page, lazy.page, NULL, NULL), 0);
	assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, 2 * lazy.page), 0);
	assert_bytes(lazy.at, 7, lazy.page);
	assert_bytes(lazy.at + lazy.page, 0, lazy.page);
	assert_int_equal(counted(lazy.uffd).ranges, 1);
	bad("gmem_uffd_unregister", gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, 2 * lazy.page), -ENOENT, "watched");
	watch_pages(&lazy, 0, 2, GMEM_STRATEGY_AUTO); /* once more: what is there stays */
	assert_int_equal(touch(lazy.at), 7);
	free(data);
	end_lazy(&lazy);
}

/* --- ends in any order ------------------------------------------------------------------------------------------------ */

static void a_blocked_thread_never_reads_zeros(void **state)
{
	struct lazy lazy = make_two();
	struct gmem_uffd *second;
	struct toucher t;

	(void)state;
	touch_begin(&t, lazy.at + 4 * lazy.page, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 4 * lazy.page, lazy.page);
	gmem_uffd_destroy(lazy.uffd);
	lazy.uffd = NULL;
	assert_int_equal(gmem_uffd_create(lazy.vm, &second, NULL), 0);
	bad("gmem_uffd_register", gmem_uffd_register(second, lazy.mem, 6 * lazy.page, lazy.page, NULL), -EBUSY, "another endpoint");
	gmem_uffd_destroy(second);
	assert_false(atomic_load(&t.done));
	gmem_destroy(lazy.mem);
	lazy.mem = NULL;
	assert_int_equal(touch_end(&t), -SIGSEGV);
	end_lazy(&lazy);
}

struct reader {
	pthread_t thread;
	unsigned char *at;
	int pipe, result;
};

static void *write_it(void *arg)
{
	struct reader *r = arg;

	r->result = write(r->pipe, r->at, 1) < 0 ? -errno : 0;
	return NULL;
}

/* The same of a system call that waits. */
static void a_blocked_system_call_never_reads_zeros(void **state)
{
	struct lazy lazy = make_two();
	struct reader r = { .at = lazy.at };
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	r.pipe = ends[1];
	assert_int_equal(pthread_create(&r.thread, NULL, write_it, &r), 0);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 0, lazy.page);
	gmem_uffd_destroy(lazy.uffd);
	gmem_destroy(lazy.mem);
	lazy.uffd = NULL;
	lazy.mem = NULL;
	pthread_join(r.thread, NULL);
	assert_int_equal(r.result, -EFAULT);
	close(ends[0]);
	close(ends[1]);
	end_lazy(&lazy);
}

static void the_vm_may_be_closed_first(void **state)
{
	struct lazy lazy = make_two();

	(void)state;
	gmem_vm_close(lazy.vm);
	lazy.vm = NULL;
	must_resolve(&lazy, 0, 2, GMEM_RESOLVE_ZERO, NULL);
	gmem_destroy(lazy.mem);
	lazy.mem = NULL;
	assert_int_equal(counted(lazy.uffd).ranges, 0);
	end_lazy(&lazy);
}

/* --- two threads ------------------------------------------------------------------------------------------------------ */

struct race {
	struct lazy *lazy;
	atomic_bool stop;
	atomic_ulong rounds;
	int wrong;
};

/* The region comes and goes meanwhile. */
static void *resolve_again_and_again(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->stop)) {
		int r = gmem_uffd_resolve(race->lazy->uffd, race->lazy->mem, 0, 2 * race->lazy->page, GMEM_RESOLVE_ZERO, NULL, NULL);
		struct gmem_uffd_info info = { .size = sizeof(info) };

		if (r && r != -ENOENT)
			race->wrong = r;
		if (gmem_uffd_query(race->lazy->uffd, &info))
			race->wrong = -EIO;
		atomic_fetch_add(&race->rounds, 1);
	}
	return NULL;
}

static void resolving_what_comes_and_goes(void **state)
{
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	struct race race = { .lazy = &lazy };
	pthread_t thread;

	(void)state;
	alarm(100);
	assert_int_equal(pthread_create(&thread, NULL, resolve_again_and_again, &race), 0);
	for (int i = 0; i < 2000; i++) {
		watch_pages(&lazy, 0, 2, GMEM_STRATEGY_AUTO);
		must_resolve(&lazy, 0, 2, GMEM_RESOLVE_ZERO, NULL);
		assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, lazy.length), 0);
	}
	atomic_store(&race.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(race.wrong, 0);
	assert_true(atomic_load(&race.rounds) > 0);
	end_lazy(&lazy);
}

static void *query_again_and_again(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->stop)) {
		struct gmem_uffd_info info = { .size = sizeof(info) };

		if (gmem_uffd_query(race->lazy->uffd, &info) || info.remaining > 64 * UINT64_C(65536) * PAGES)
			race->wrong = -EIO;
		atomic_fetch_add(&race->rounds, 1);
	}
	return NULL;
}

/* Counting what is empty does not look at memory that has gone. */
static void counting_while_memory_ends(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct lazy lazy = make_lazy(GMEM_BACKING_MEMFD, PAGES);
	struct race race = { .lazy = &lazy };
	pthread_t thread;

	(void)state;
	alarm(100);
	assert_int_equal(pthread_create(&thread, NULL, query_again_and_again, &race), 0);
	for (int i = 0; i < 1000; i++) {
		struct gmem *mem;

		assert_int_equal(gmem_create(lazy.vm, 64 * lazy.length, &mem, &opts), 0);
		assert_int_equal(gmem_uffd_register(lazy.uffd, mem, 0, 64 * lazy.length, NULL), 0);
		gmem_destroy(mem);
	}
	atomic_store(&race.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(race.wrong, 0);
	end_lazy(&lazy);
}

/* --- fork ------------------------------------------------------------------------------------------------------------- */

static int use_in_child(void *arg)
{
	struct lazy *lazy = arg;
	struct gmem_uffd_info info = { .size = sizeof(info) };
	struct gmem_fault fault;
	struct gmem_uffd *made = NULL;

	bad("gmem_uffd_create", gmem_uffd_create(lazy->vm, &made, NULL), -ESTALE, "fork");
	bad("gmem_uffd_import", gmem_uffd_import(lazy->vm, 3, &made, NULL), -ESTALE, "fork");
	assert_null(made);
	bad("gmem_uffd_register", gmem_uffd_register(lazy->uffd, lazy->mem, 0, lazy->page, NULL), -ESTALE, "fork");
	bad("gmem_uffd_unregister", gmem_uffd_unregister(lazy->uffd, lazy->mem, 0, lazy->page), -ESTALE, "fork");
	bad("gmem_uffd_read", gmem_uffd_read(lazy->uffd, &fault, 1), -ESTALE, "fork");
	bad("gmem_uffd_resolve", resolve_pages(lazy, 0, 1, GMEM_RESOLVE_ZERO, NULL), -ESTALE, "fork");
	bad("gmem_uffd_protect", gmem_uffd_protect(lazy->uffd, lazy->mem, 0, lazy->page, 1, NULL), -ESTALE, "fork");
	bad("gmem_uffd_get_fd", gmem_uffd_get_fd(lazy->uffd), -ESTALE, "fork");
	bad("gmem_uffd_query", gmem_uffd_query(lazy->uffd, &info), -ESTALE, "fork");
	assert_int_equal(touch(lazy->at), -SIGSEGV); /* watched: not mapped here */
	assert_int_equal(touch(lazy->at + 2 * lazy->page), 0); /* not watched */
	end_lazy(lazy);
	return 0;
}

static void fork_leaves_the_parent_alone(void **state)
{
	struct lazy lazy = make_two();
	unsigned char *data = malloc(lazy.page);
	struct toucher t;

	(void)state;
	memset(data, 7, lazy.page);
	assert_int_equal(gt_in_child(use_in_child, &lazy), 0);
	touch_begin(&t, lazy.at, READ);
	expect_event(lazy.uffd, GMEM_FAULT_PAGE, lazy.mem, 0, lazy.page);
	must_resolve(&lazy, 0, 1, GMEM_RESOLVE_DATA, data);
	assert_int_equal(touch_end(&t), 7);
	free(data);
	end_lazy(&lazy);
}

static int map_anew(void *arg)
{
	struct lazy *lazy = arg;
	unsigned char *other;

	assert_int_equal(touch(lazy->at), 7); /* inherited */
	other = mmap(lazy->at, lazy->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_ptr_equal(other, MAP_FAILED);
	return 0;
}

/* What is not watched any more is passed on again: the library unmaps it in the child as everywhere. */
static void fork_passes_on_what_was_watched(void **state)
{
	struct lazy lazy = make_two();
	unsigned char *data = malloc(2 * lazy.page);

	(void)state;
	memset(data, 7, 2 * lazy.page);
	must_resolve(&lazy, 0, 2, GMEM_RESOLVE_DATA, data);
	assert_int_equal(gmem_uffd_unregister(lazy.uffd, lazy.mem, 0, 2 * lazy.page), 0);
	assert_int_equal(gt_in_child(map_anew, &lazy), 0);
	free(data);
	end_lazy(&lazy);
}

static unsigned int userfaultfds(void)
{
	unsigned int count = 0;

	for (int i = 3; i < 200; i++) {
		char path[32], name[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		count += readlink(path, name, sizeof(name) - 1) > 0 && strstr(name, "userfaultfd");
	}
	return count;
}

/* The endpoint's fd goes with it in a child, also while memory is watched. */
static int give_up_in_child(void *arg)
{
	assert_int_equal(userfaultfds(), 1);
	end_lazy(arg);
	assert_int_equal(userfaultfds(), 0);
	return 0;
}

static void fork_and_give_up_closes_the_fd(void **state)
{
	struct lazy lazy = make_two();

	(void)state;
	assert_int_equal(gt_in_child(give_up_in_child, &lazy), 0);
	end_lazy(&lazy);
}

static const struct gt_test tests[] = {
	GT(made_and_given_up, GT_NEEDS_UFFD_MINOR),
	GT(the_counters_follow, GT_NEEDS_UFFD_MINOR),
	GT(a_short_info_is_filled_as_far_as_it_goes, GT_NEEDS_UFFD_MINOR),
	GT(watched_mappings_stay_as_they_are, GT_NEEDS_UFFD_MINOR),
	GT(ranges_that_are_not_mapped, GT_NEEDS_UFFD_MINOR),
	GT(ending_it_leaves_filled_pages_and_zeros, GT_NEEDS_UFFD_MINOR),
	GT(a_blocked_thread_never_reads_zeros, GT_NEEDS_UFFD_MINOR),
	GT(a_blocked_system_call_never_reads_zeros, GT_NEEDS_UFFD_MINOR),
	GT(the_vm_may_be_closed_first, GT_NEEDS_UFFD_MINOR),
	GT(resolving_what_comes_and_goes, GT_NEEDS_UFFD_MINOR),
	GT(counting_while_memory_ends, GT_NEEDS_UFFD_MINOR),
	GT(fork_leaves_the_parent_alone, GT_NEEDS_UFFD_MINOR),
	GT(fork_passes_on_what_was_watched, GT_NEEDS_UFFD_MINOR),
	GT(fork_and_give_up_closes_the_fd, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("fault", tests)
