/* SPDX-License-Identifier: MIT */
/* Pagers and what is around them: callbacks that call them, processes that end and fork, descriptors that run out. */
#include "gt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "content.h"
#include "handles.h"
#include "served.h"

#define PAGES 256
#define LENGTH (PAGES * page())

static void set_up_with(enum way way, answer_fn *answer, gmem_pager_fn event)
{
	begin_served(way, PAGES, answer, event, 0);
}

static void set_up(enum way way)
{
	set_up_with(way, answers_later, take_event);
}

/* --- callbacks --- */

static atomic_uint calls, wrong;

static void expect(bool right)
{
	if (!right)
		atomic_fetch_add(&wrong, 1);
}

static void call_everything(void)
{
	struct gmem_pager_info info = { .size = sizeof(info) };

	expect(gmem_pager_stop(paging.pager, NULL) == -EDEADLK);
	expect(gmem_pager_start(paging.pager) == -EDEADLK);
	expect(gmem_pager_run(paging.pager, 0) == -EDEADLK);
	expect(gmem_pager_remove(paging.pager, paged.uffd, NULL) == -EDEADLK);
	expect(gmem_pager_finish(paging.pager, paged.uffd, 0) == -EDEADLK);
	gmem_pager_destroy(paging.pager);
	expect(gmem_pager_query(paging.pager, &info) == 0 && info.endpoints == 1);
	expect(gmem_pager_add(paging.pager, paged.uffd, feeder.source, NULL) == -EEXIST);
	expect(gmem_pager_prefetch(paging.pager, paged.uffd, paged.mem, 99 * page(), page()) == 0);
	atomic_fetch_add(&calls, 1);
}

static int calls_from_the_source(struct feeder *f, uint64_t offset, uint64_t length, void *buffer)
{
	(void)f;
	(void)length;
	(void)buffer;
	if (offset != 99 * page())
		call_everything();
	return offset == 5 * page() ? -ENODATA : FEEDER_GIVES;
}

static int calls_from_the_event(void *user, const struct gmem_pager_event *event)
{
	call_everything();
	(void)take_event(user, event);
	return GMEM_FAILURE_WAIT;
}

static void callbacks_call(enum way way)
{
	struct toucher toucher;

	atomic_store(&calls, 0);
	atomic_store(&wrong, 0);
	set_up_with(way, calls_from_the_source, calls_from_the_event);
	assert_int_equal(memcmp(paged.at, content, page()), 0);
	touch_page(&toucher, 5, content + 5 * page());
	WAIT_FOR(atomic_load(&events.failed) == 1);
	assert_int_equal(deliver(&feeder, 5 * page(), page()), 0);
	assert_int_equal(touched(&toucher), 0);
	assert_int_equal(memcmp(paged.at + 99 * page(), content + 99 * page(), page()), 0);
	assert_int_equal(atomic_load(&calls), 3);
	assert_int_equal(atomic_load(&wrong), 0);
	assert_adds_up(&paged);
	end_served();
}

IN_EACH_WAY(callbacks_call)

static void writes_to_protected_pages(enum way way)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_WRITE_PROTECT };
	void *at;

	if (gt_over_guest_memfd())
		gt_skip("guest_memfd cannot be write-protected");
	set_up_with(way, NULL, take_event);
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, GMEM_FOREVER), 0);
	assert_int_equal(gmem_uffd_register(paged.uffd, paged.mem, 0, LENGTH, &opts), 0);
	assert_int_equal(gmem_map(paged.mem, 0, LENGTH, &at, NULL), 0);
	paged.at = at;
	serve(&paging, &paged, feeder.source, 0, 0);
	assert_int_equal(memcmp(paged.at, content, LENGTH), 0); /* mapped */
	assert_int_equal(gmem_uffd_protect(paged.uffd, paged.mem, 0, LENGTH, 1, NULL), 0);
	paged.at[3 * page() + 1] = 9;
	assert_int_equal(events.protect, 1);
	assert_int_equal(events.offset, 3 * page());
	assert_int_equal(events.length, page());
	assert_int_equal(paged.at[3 * page() + 1], 9);
	assert_int_equal(uffd_info(&paged).protect, 1);
	end_served();
}

IN_EACH_WAY(writes_to_protected_pages)

/* --- processes and descriptors --- */

static int in_the_child(void *arg)
{
	struct gmem_pager_info info = { .size = sizeof(info) };

	(void)arg;
	assert_int_equal(gmem_pager_query(paging.pager, &info), -ESTALE);
	assert_int_equal(gmem_pager_start(paging.pager), -ESTALE);
	assert_int_equal(gmem_pager_stop(paging.pager, NULL), -ESTALE);
	assert_int_equal(gmem_pager_run(paging.pager, 0), -ESTALE);
	assert_int_equal(gmem_pager_get_fd(paging.pager), -ESTALE);
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, NULL), -ESTALE);
	assert_int_equal(gmem_pager_finish(paging.pager, paged.uffd, 0), -ESTALE);
	assert_int_equal(gmem_pager_add(paging.pager, paged.uffd, feeder.source, NULL), -ESTALE);
	assert_int_equal(gmem_pager_prefetch(paging.pager, paged.uffd, paged.mem, 0, page()), -ESTALE);
	gmem_pager_destroy(paging.pager);
	return 7;
}

static void a_fork_leaves_the_pager_alone(enum way way)
{
	set_up_with(way, NULL, take_event);
	assert_int_equal(memcmp(paged.at, content, page()), 0);
	assert_int_equal(gt_in_child(in_the_child, NULL), 7);
	assert_int_equal(memcmp(paged.at, content, LENGTH), 0);
	assert_adds_up(&paged);
	end_served();
}

IN_EACH_WAY(a_fork_leaves_the_pager_alone)

static void no_descriptor_is_left(void **state)
{
	struct rlimit before, limit;
	struct gmem_pager *pager = (void *)7;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	for (rlim_t room = 0; room < 3; room++) {
		int next = dup(0);

		close(next);
		limit = (struct rlimit){ (rlim_t)next + room, before.rlim_max };
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		assert_int_equal(gmem_pager_create(&pager, NULL), -EMFILE);
		assert_ptr_equal(pager, (void *)7);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	}
	set_up_with(OWN, NULL, take_event);
	limit = (struct rlimit){ 3, before.rlim_max };
	assert_int_equal(gmem_pager_remove(paging.pager, paged.uffd, NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	serve(&paging, &paged, feeder.source, 0, 0); /* which takes none */
	assert_int_equal(memcmp(paged.at, content, LENGTH), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	end_served();
}

/* The owner of memory that is served: tells its endpoint and address, then waits for a page for ever. */
struct owner {
	int pipe[2];
	uint64_t told[2];
};

static int own_memory(struct owner *owner)
{
	struct paged mine = page_memory(GMEM_BACKING_MEMFD, LENGTH, GMEM_STRATEGY_COPY);

	uint64_t told[2] = { (uint64_t)gmem_uffd_get_fd(mine.uffd), (uintptr_t)mine.at };

	if (write(owner->pipe[1], told, sizeof(told)) != sizeof(told))
		return 1;
	return ((volatile unsigned char *)mine.at)[0];
}

static void the_owner_is_killed(enum way way)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_BY_PEER, .gpa = UINT64_MAX };
	struct gmem_uffd *imported;
	struct owner owner;
	int pidfd, fd;
	pid_t child;

	want_small_pages();
	assert_int_equal(pipe(owner.pipe), 0);
	child = fork();
	if (child == 0)
		_exit(own_memory(&owner));
	assert_int_equal(read(owner.pipe[0], owner.told, sizeof(owner.told)), sizeof(owner.told));
	pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)owner.told[0], 0);
	assert_true(fd >= 0);
	set_up(way);
	assert_int_equal(gmem_uffd_import(paged.vm, fd, &imported, NULL), 0);
	opts.hva = owner.told[1];
	assert_int_equal(gmem_uffd_register(imported, NULL, 0, LENGTH, &opts), 0);
	assert_int_equal(gmem_pager_add(paging.pager, imported, feeder.source, NULL), 0);
	wait_asked(&feeder, 1);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(deliver(&feeder, 0, page()), 0);
	WAIT_FOR(atomic_load(&events.gone) == 1);
	WAIT_FOR(pager_info(&paging).endpoints == 1);
	assert_int_equal(gmem_pager_remove(paging.pager, imported, NULL), -ENOENT);
	assert_int_equal(deliver(&feeder, 0, LENGTH), 0);
	assert_int_equal(memcmp(paged.at, content, LENGTH), 0);
	assert_int_equal(atomic_load(&events.gone), 1);
	gmem_uffd_destroy(imported);
	end_served();
	close(fd);
	close(pidfd);
	close(owner.pipe[0]);
	close(owner.pipe[1]);
}

IN_EACH_WAY(the_owner_is_killed)

static const struct gt_test tests[] = {
	EACH_WAY(callbacks_call, NEEDS_PAGING),
	EACH_WAY(writes_to_protected_pages, NEEDS_PAGING),
	EACH_WAY(a_fork_leaves_the_pager_alone, NEEDS_PAGING),
	GT(no_descriptor_is_left, NEEDS_PAGING),
	EACH_WAY(the_owner_is_killed, NEEDS_PAGING),
};

GT_MAIN("pager_process", tests)
