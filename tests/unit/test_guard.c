/* SPDX-License-Identifier: MIT */
/* A VM's hold on its memory, while pagers in other processes come, end, and let go. */
#include "gt.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channels.h"
#include "faults.h"
#include "handles.h"
#include "refusal.h"
#include "station.h"

#define PAGES 64
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define SPEC { .pages = PAGES, .backing = GMEM_BACKING_MEMFD }

/* --- pagers in other processes ------------------------------------------------------------------------------------------ */

struct place {
	struct address address;
	pid_t pid;
	int quit;
	bool told; /* to end */
};

enum habit { SERVES, HOLDS /* its source never answers */ };

/* As a process that only serves, until its orders end. */
static void be_pager(const struct address *address, int quit, enum habit habit)
{
	struct station *station = calloc(1, sizeof(*station));
	char byte;

	alarm(100);
	station_open(station, address, 2, NULL);
	station_hold(station, habit == HOLDS);
	if (read(quit, &byte, 1) < 0)
		_exit(2);
	station_hold(station, 0);
	station_close(station);
	_exit(0);
}

static struct place place_make(enum habit habit)
{
	struct place place = { .address = address_make(SOCK_STREAM) };
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	place.pid = fork();
	assert_true(place.pid >= 0);
	if (place.pid == 0) {
		close(ends[0]);
		be_pager(&place.address, ends[1], habit);
	}
	close(ends[1]);
	place.quit = ends[0];
	return place;
}

static void place_kill(struct place *place)
{
	int status;

	assert_int_equal(kill(place->pid, SIGKILL), 0);
	assert_int_equal(waitpid(place->pid, &status, 0), place->pid);
	place->pid = 0;
}

static void place_tell_to_end(struct place *place)
{
	if (!place->told)
		assert_int_equal(write(place->quit, "", 1), 1);
	place->told = true;
}

static void place_end(struct place *place)
{
	int status;

	if (place->pid) {
		place_tell_to_end(place);
		assert_int_equal(waitpid(place->pid, &status, 0), place->pid);
		assert_int_equal(status, 0);
	}
	close(place->quit);
	address_end(&place->address);
}

/* Two pagers, and a VM that goes from one to the other. */
struct succession {
	struct place first, second;
	struct owner *owner;
};

static struct succession begin(const struct vm_spec *spec, enum habit habit)
{
	struct succession s = { .first = place_make(habit), .second = place_make(SERVES) };

	s.owner = owner_make(spec);
	return s;
}

static int64_t by_first(struct succession *s, enum vm_order order, uint64_t a, uint64_t b)
{
	return owner_obey(s->owner, &s->first.address, order, a, b);
}

static int64_t by_second(struct succession *s, enum vm_order order, uint64_t a, uint64_t b)
{
	return owner_obey(s->owner, &s->second.address, order, a, b);
}

static void end(struct succession *s)
{
	owner_end(s->owner);
	place_end(&s->first);
	place_end(&s->second);
}

/* --- the VM is this process, or (to touch what may never come) another one ---------------------------------------------- */

/* A page that nobody serves is blocked, and the next pager brings it. */
static void pager_killed(void **state)
{
	struct vm_spec spec = SPEC;
	struct succession s = begin(&spec, HOLDS);

	(void)state;
	assert_int_equal(by_first(&s, VM_STATE, 0, 0), GMEM_GUARD_NONE);
	assert_int_equal(by_first(&s, VM_ATTACH, 0, 0), 0);
	assert_int_equal(by_first(&s, VM_STATE, 0, 0), GMEM_GUARD_ATTACHED);
	assert_int_equal(by_second(&s, VM_ATTACH, 0, 0), -EBUSY);
	assert_int_equal(by_first(&s, VM_TOUCH, 5, 0), 0);
	assert_int_equal(by_first(&s, VM_FORWARD, 9, 3), 0);
	assert_int_equal(by_first(&s, VM_FORWARD, 20, 1), 0);
	place_kill(&s.first);
	assert_int_equal(by_first(&s, VM_FORWARDED, 9, 0), -ENOTCONN);
	assert_int_equal(by_first(&s, VM_FORWARDED, 20, 0), -ENOTCONN);
	if (by_first(&s, VM_STATE, 0, 0) != GMEM_GUARD_DEAD) /* the end of the process may be seen later */
		assert_int_equal(by_first(&s, VM_RUN, 0, 0), GMEM_GUARD_DEAD);
	assert_int_equal(by_first(&s, VM_FORWARD, 20, 1), -ENOTCONN);
	assert_int_equal(by_first(&s, VM_IS_BLOCKED, 0, 0), 1);
	assert_int_equal(by_first(&s, VM_DISCARD, 7, 2), 0);
	assert_int_equal(by_second(&s, VM_ATTACH, 0, 0), 0);
	assert_int_equal(by_second(&s, VM_FORWARD, 9, 3), 0);
	assert_int_equal(by_second(&s, VM_FORWARDED, 9, 0), 0);
	assert_int_equal(by_second(&s, VM_TOUCHED, 0, 0), 0);
	assert_int_equal(by_second(&s, VM_CHECK, 0, PAGES), 0);
	end(&s);
}

/* One that ends as it should says that it lets go: it need not be dead. */
static void pager_released(void **state)
{
	struct vm_spec spec = SPEC;
	struct succession s = begin(&spec, SERVES);

	(void)state;
	assert_int_equal(by_first(&s, VM_ATTACH, 0, 0), 0);
	assert_int_equal(by_first(&s, VM_CHECK, 0, PAGES / 2), 0);
	place_tell_to_end(&s.first);
	assert_int_equal(by_first(&s, VM_RUN, 0, 0), GMEM_GUARD_RELEASED);
	assert_int_equal(by_second(&s, VM_ATTACH, 0, 0), 0);
	assert_int_equal(by_second(&s, VM_CHECK, 0, PAGES), 0);
	end(&s);
}

/* By that protocol there is no page map, so nobody may follow; but nothing becomes zeros. */
static void firecrackers_pager_killed(void **state)
{
	struct vm_spec spec = { .pages = PAGES, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_COPY,
				.protocol = GMEM_PROTOCOL_FIRECRACKER };
	struct succession s = begin(&spec, SERVES);

	(void)state;
	assert_int_equal(by_first(&s, VM_ATTACH, 0, 0), 0);
	assert_int_equal(by_first(&s, VM_CHECK, 0, PAGES / 2), 0);
	place_kill(&s.first);
	/* It has not said a word, and its socket is this process's: who knows who it was? */
	assert_int_equal(by_first(&s, VM_RUN, 0, 0), GMEM_GUARD_SILENT);
	assert_int_equal(by_second(&s, VM_ATTACH, 0, 0), -EBUSY);
	assert_int_equal(by_first(&s, VM_TOUCH, PAGES - 1, 0), 0);
	assert_int_equal(by_first(&s, VM_IS_BLOCKED, 0, 0), 1);
	assert_int_equal(by_first(&s, VM_POISON, 0, 0), 0);
	assert_int_equal(by_first(&s, VM_TOUCHED, 0, 0), -1);
	end(&s);
}

/* Whoever waits for a page waits on, whenever the pager is killed: the only other thing that a VM ever sees is its content. */
static void pagers_killed_at_any_time(void **state)
{
	struct vm_spec spec = SPEC;

	(void)state;
	for (int round = 0; round < 20; round++) {
		struct succession s = begin(&spec, SERVES);
		unsigned int turns = (unsigned int)(round * round * 10);

		assert_int_equal(by_first(&s, VM_ATTACH, 0, 0), 0);
		assert_int_equal(by_first(&s, VM_TOUCH, (uint64_t)round, 0), 0);
		for (unsigned int i = 0; i < turns; i++) /* not a wait for anything: some time or other */
			(void)by_first(&s, VM_STATE, 0, 0);
		place_kill(&s.first);
		assert_int_equal(by_first(&s, VM_RUN, 0, 0), GMEM_GUARD_DEAD);
		assert_int_equal(by_second(&s, VM_ATTACH, 0, 0), 0);
		assert_int_equal(by_second(&s, VM_TOUCHED, 0, 0), 0);
		assert_int_equal(by_second(&s, VM_CHECK, 0, PAGES), 0);
		end(&s);
	}
}

/* A guard that this process holds, and its channel, which is still to be closed. */
static struct gmem_channel *attach(const struct place *place, const struct lazy *lazy, struct gmem_guard **guard)
{
	int socket = address_connect(&place->address);
	struct gmem_channel *channel;

	assert_int_equal(gmem_guard_create(lazy->uffd, guard, NULL), 0);
	assert_int_equal(gmem_channel_open(socket, &channel, NULL), 0);
	close(socket);
	assert_int_equal(gmem_guard_attach(*guard, channel), 0);
	return channel;
}

/* The guard reads what nobody else does: giving pages up need not wait for a pager. */
static void giving_up_without_a_pager(void **state)
{
	struct place place = place_make(SERVES);
	struct gmem_guard_info info = { .size = sizeof(info) };
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, GMEM_STRATEGY_FILL);
	struct gmem_guard *guard;
	struct toucher toucher;

	(void)state;
	gmem_channel_close(attach(&place, &lazy, &guard)); /* the guard has its own claim */
	place_kill(&place);
	assert_int_equal(gmem_guard_run(guard, GMEM_FOREVER), 1);
	assert_int_equal(gmem_guard_query(guard, &info), 0);
	assert_int_equal(info.state, GMEM_GUARD_DEAD);
	assert_int_equal(info.deaths, 1);
	assert_int_equal(info.remaining, lazy.length);
	advise_begin(&toucher, lazy.at, lazy.page, MADV_REMOVE);
	while (!atomic_load(&toucher.done))
		assert_int_equal(gmem_guard_run(guard, 1000000), 0);
	assert_int_equal(touch_end(&toucher), 0);
	assert_map(lazy.mem, "DE");
	gmem_guard_destroy(guard);
	end_lazy(&lazy);
	place_end(&place);
}

/* --- a pager that is this process: it is never dead ---------------------------------------------------------------------- */

static void a_living_pager_that_hangs_up(void **state)
{
	struct gmem_guard_info info = { .size = sizeof(info) };
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, GMEM_STRATEGY_COPY);
	struct gmem_channel_open_opts speak = { .size = sizeof(speak), .protocol = GMEM_PROTOCOL_FIRECRACKER };
	struct line line = line_make(SOCK_STREAM, &speak), other = line_make(SOCK_STREAM, NULL);
	struct gmem_guard *guard;

	(void)state;
	assert_int_equal(gmem_guard_create(lazy.uffd, &guard, NULL), 0);
	assert_int_equal(gmem_guard_attach(guard, line.channel), 0);
	assert_int_equal(gmem_guard_run(guard, 0), 0);
	line_close_far(&line);
	assert_int_equal(gmem_guard_run(guard, GMEM_FOREVER), 1);
	assert_int_equal(gmem_guard_query(guard, &info), 0);
	assert_int_equal(info.state, GMEM_GUARD_SILENT);
	assert_int_equal(info.pager_pid, getpid());
	bad("gmem_guard_attach", gmem_guard_attach(guard, other.channel), -EBUSY, "may live");
	gmem_guard_destroy(guard);
	line_end(&line);
	line_end(&other);
	end_lazy(&lazy);
}

/* What it said is heard, though nothing can be said to it any more. */
static void refuse_and_leave(int type)
{
	struct gmemi_wire hello = { .type = GMEMI_WIRE_HELLO, .hello = { 1, 1, GMEMI_WIRE_PAGER, 0, 0 } };
	struct gmemi_wire error = { .type = GMEMI_WIRE_ERROR, .error = { .code = GMEMI_WIRE_BUSY }, .text = "no room", .text_length = 7 };
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, 1, GMEM_STRATEGY_COPY);
	struct line line = line_make(type, NULL);
	struct speaker speaker = { .socket = line.far };
	struct gmem_guard *guard;

	assert_int_equal(gmem_guard_create(lazy.uffd, &guard, NULL), 0);
	say(&speaker, &hello, NULL);
	say(&speaker, &error, NULL);
	line_close_far(&line);
	bad("gmem_guard_attach", gmem_guard_attach(guard, line.channel), -EPROTO, "no room");
	gmem_guard_destroy(guard);
	line_end(&line);
	end_lazy(&lazy);
}

static void a_pager_that_has_refused_and_left(void **state)
{
	(void)state;
	refuse_and_leave(SOCK_STREAM);
	refuse_and_leave(SOCK_SEQPACKET);
}

/* --- arguments ---------------------------------------------------------------------------------------------------------- */

static void arguments(void **state)
{
	struct gmem_guard_create_opts poison = { .size = sizeof(poison), .policy = GMEM_GUARD_POISON };
	struct gmem_guard_create_opts silence = { .size = sizeof(silence), .silence_ns = 1 };
	struct gmem_guard_create_opts wild = { .size = sizeof(wild), .policy = 9 };
	struct gmem_guard_create_opts flags = { .size = sizeof(flags), .flags = 1 };
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, 1, GMEM_STRATEGY_COPY);
	struct line line = line_make(SOCK_STREAM, NULL);
	struct gmem_guard *guard, *another;
	struct gmem_uffd *imported;

	(void)state;
	bad("gmem_guard_create", gmem_guard_create(NULL, &guard, NULL), -EINVAL, "NULL");
	bad("gmem_guard_create", gmem_guard_create(lazy.uffd, NULL, NULL), -EINVAL, "NULL");
	bad("gmem_guard_create", gmem_guard_create(lazy.uffd, &guard, &poison), -EOPNOTSUPP, "BLOCK");
	bad("gmem_guard_create", gmem_guard_create(lazy.uffd, &guard, &silence), -EOPNOTSUPP, "silence_ns");
	bad("gmem_guard_create", gmem_guard_create(lazy.uffd, &guard, &wild), -EINVAL, "policy");
	bad("gmem_guard_create", gmem_guard_create(lazy.uffd, &guard, &flags), -E2BIG, "flags");
	assert_int_equal(gmem_uffd_import(lazy.vm, gmem_uffd_get_fd(lazy.uffd), &imported, NULL), 0);
	bad("gmem_guard_create", gmem_guard_create(imported, &guard, NULL), -EBADFD, "another process");
	gmem_uffd_destroy(imported);
	assert_int_equal(gmem_guard_create(lazy.uffd, &guard, NULL), 0);
	bad("gmem_guard_create", gmem_guard_create(lazy.uffd, &another, NULL), -EBUSY, "guard");
	bad("gmem_guard_attach", gmem_guard_attach(NULL, line.channel), -EINVAL, "NULL");
	bad("gmem_guard_attach", gmem_guard_attach(guard, NULL), -EINVAL, "NULL");
	bad("gmem_guard_get_fd", gmem_guard_get_fd(NULL), -EINVAL, "NULL");
	bad("gmem_guard_run", gmem_guard_run(NULL, 0), -EINVAL, "NULL");
	bad("gmem_guard_query", gmem_guard_query(guard, NULL), -EINVAL, "info");
	assert_true(gmem_guard_get_fd(guard) >= 3);
	assert_int_equal(gmem_guard_run(guard, 0), 0);
	gmem_guard_destroy(guard);
	gmem_guard_destroy(NULL);
	line_end(&line);
	end_lazy(&lazy);
}

/* --- fork --------------------------------------------------------------------------------------------------------------- */

static int use_in_child(void *arg)
{
	struct gmem_guard_info info = { .size = sizeof(info) };
	struct gmem_guard *guard = arg;

	assert_int_equal(gmem_guard_query(guard, &info), -ESTALE);
	assert_int_equal(gmem_guard_run(guard, 0), -ESTALE);
	gmem_guard_destroy(guard);
	return 0;
}

/* What a child does with its copy, the parent's guard does not feel. */
static void a_guard_in_a_child(void **state)
{
	struct place place = place_make(SERVES);
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, PAGES, GMEM_STRATEGY_FILL);
	struct gmem_channel *channel;
	struct gmem_guard *guard;

	(void)state;
	channel = attach(&place, &lazy, &guard);
	assert_int_equal(gt_in_child(use_in_child, guard), 0);
	assert_int_equal(lazy.at[1], content_at(1));
	place_kill(&place);
	assert_int_equal(gmem_guard_run(guard, GMEM_FOREVER), 1);
	gmem_channel_close(channel);
	gmem_guard_destroy(guard);
	end_lazy(&lazy);
	place_end(&place);
}

static const struct gt_test tests[] = {
	GT(pager_killed, NEEDS),
	GT(pager_released, NEEDS),
	GT(firecrackers_pager_killed, NEEDS),
	GT(pagers_killed_at_any_time, NEEDS),
	GT(giving_up_without_a_pager, NEEDS),
	GT(a_living_pager_that_hangs_up, NEEDS),
	GT(a_guard_in_a_child, NEEDS),
	GT(a_pager_that_has_refused_and_left, GT_NEEDS_UFFD),
	GT(arguments, GT_NEEDS_UFFD),
};

GT_MAIN("guard", tests)
