/* SPDX-License-Identifier: MIT */
/* Faults that a VM sends its pager, since its userfaultfd tells nobody of them. */
#include "gt.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channels.h"
#include "faults.h"
#include "handles.h"
#include "refusal.h"
#include "second_owner.h"
#include "station.h"

#define PAGES 64
#define MANY 600 /* more than 2 MiB */
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define NATIVE { .pages = PAGES, .backing = GMEM_BACKING_MEMFD }
#define UNDER_WAY 128 /* that the server takes of a VM */

struct scene {
	struct address address;
	struct station station;
	struct vm vm;
};

static void begin(struct scene *scene, int type, const struct vm_spec *spec)
{
	*scene = (struct scene){ .address = address_make(type) };
	scene->vm = vm_make(&scene->address, spec);
	station_open(&scene->station, &scene->address, 1, NULL);
	assert_int_equal(vm_do(&scene->vm, VM_ATTACH, 0, 0), 0);
}

static void end(struct scene *scene)
{
	vm_end(&scene->vm);
	station_close(&scene->station);
	address_end(&scene->address);
}

static int64_t forward(struct scene *scene, uint64_t first, uint64_t count)
{
	assert_int_equal(vm_do(&scene->vm, VM_FORWARD, first, count), 0);
	return vm_do(&scene->vm, VM_FORWARDED, first, 0);
}

static void assert_pages(struct scene *scene, uint64_t first, uint64_t count, unsigned int state)
{
	for (uint64_t i = first; i < first + count; i++)
		assert_int_equal(vm_do(&scene->vm, VM_PAGE, i, 0), state);
}

/* --- served ------------------------------------------------------------------------------------------------------------- */

static void bring(int type, uint32_t strategy)
{
	struct vm_spec spec = NATIVE;
	struct scene scene;

	spec.strategy = strategy;
	begin(&scene, type, &spec);
	assert_pages(&scene, 0, PAGES, EMPTY);
	assert_int_equal(forward(&scene, 5, 1), 0);
	assert_pages(&scene, 5, 1, FILLED);
	assert_pages(&scene, 20, PAGES - 20, EMPTY);
	assert_int_equal(vm_do(&scene.vm, VM_CHECK, 20, 1), 0);
	assert_int_equal(vm_do(&scene.vm, VM_DISCARD, 30, 2), 0);
	assert_pages(&scene, 30, 2, DISCARDED);
	assert_int_equal(forward(&scene, 0, PAGES), 0); /* some of it is there, some is to be zeros */
	assert_pages(&scene, 0, PAGES, FILLED);
	assert_int_equal(forward(&scene, 5, 1), 0);
	assert_int_equal(vm_do(&scene.vm, VM_CHECK, 0, PAGES), 0);
	end(&scene);
}

static void filled_over_a_stream(void **state)
{
	(void)state;
	bring(SOCK_STREAM, GMEM_STRATEGY_FILL);
}

static void copied_over_packets(void **state)
{
	(void)state;
	bring(SOCK_SEQPACKET, GMEM_STRATEGY_COPY);
}

/* Two regions that meet, and then one that nobody watches. */
static void across_regions(void **state)
{
	struct vm_spec spec = NATIVE;
	struct scene scene;

	(void)state;
	spec.parts = 4;
	begin(&scene, SOCK_STREAM, &spec);
	assert_int_equal(forward(&scene, 10, 12), 0);
	assert_pages(&scene, 10, 12, FILLED);
	assert_int_equal(forward(&scene, 30, 4), -ENOENT);
	assert_int_equal(forward(&scene, 40, 1), -ENOENT);
	assert_int_equal(vm_do(&scene.vm, VM_ADD, 2, 0), 0);
	assert_int_equal(forward(&scene, 32, 16), 0);
	assert_int_equal(vm_do(&scene.vm, VM_REMOVE, 2, 0), 0);
	assert_int_equal(forward(&scene, 41, 1), -ENOENT);
	end(&scene);
}

/* Whoever touches a page that was asked for by word has it too, and the other way round. */
static void touched_and_forwarded(void **state)
{
	struct vm_spec spec = NATIVE;
	struct scene scene;

	(void)state;
	begin(&scene, SOCK_STREAM, &spec);
	station_hold(&scene.station, 1);
	assert_int_equal(vm_do(&scene.vm, VM_FORWARD, 7, 1), 0);
	station_await_holding(&scene.station, 1);
	assert_int_equal(vm_do(&scene.vm, VM_TOUCH, 7, 0), 0);
	assert_int_equal(vm_do(&scene.vm, VM_FORWARD, 6, 2), 0);
	station_hold(&scene.station, 0);
	assert_int_equal(vm_do(&scene.vm, VM_TOUCHED, 0, 0), 0);
	assert_int_equal(vm_do(&scene.vm, VM_FORWARDED, 7, 0), 0);
	assert_int_equal(vm_do(&scene.vm, VM_FORWARDED, 6, 0), 0);
	end(&scene);
}

/* --- not served --------------------------------------------------------------------------------------------------------- */

static void content_that_cannot_be_had(void **state)
{
	struct vm_spec spec = NATIVE;
	struct scene scene;

	(void)state;
	begin(&scene, SOCK_STREAM, &spec);
	station_answer(&scene.station, -ENODATA);
	assert_int_equal(forward(&scene, 3, 2), -EIO);
	assert_int_equal(vm_do(&scene.vm, VM_TOUCH, 3, 0), 0);
	assert_int_equal(vm_do(&scene.vm, VM_TOUCHED, 0, 0), -1); /* as if it had been touched before */
	station_answer(&scene.station, 0);
	assert_int_equal(forward(&scene, 9, 1), 0);
	end(&scene);
}

static void too_much(void **state)
{
	struct vm_spec spec = { .pages = MANY, .backing = GMEM_BACKING_MEMFD };
	struct scene scene;

	(void)state;
	begin(&scene, SOCK_STREAM, &spec);
	assert_int_equal(forward(&scene, 0, MANY), -EAGAIN);
	station_hold(&scene.station, 1);
	for (uint64_t i = 0; i < UNDER_WAY; i++)
		assert_int_equal(vm_do(&scene.vm, VM_FORWARD, i, 1), 0);
	assert_int_equal(vm_do(&scene.vm, VM_FORWARD, UNDER_WAY, 1), -EAGAIN);
	station_hold(&scene.station, 0);
	for (uint64_t i = 0; i < UNDER_WAY; i++)
		assert_int_equal(vm_do(&scene.vm, VM_FORWARDED, i, 0), 0);
	assert_int_equal(forward(&scene, UNDER_WAY, 1), 0);
	end(&scene);
}

/* --- what the page of the protocol allows, and a guard does not say ------------------------------------------------------ */

static void say_fault(struct second_owner *owner, uint64_t cookie, uint64_t memory, uint64_t offset, uint64_t length)
{
	struct note note = { .type = NOTE_FAULT,
			     .part = { ENDPOINT, memory, cookie, offset, length, NO_ADDRESS, 0, 0, 0 } };

	second_say(owner->second, &note, NULL);
}

/* Returns the cookie. */
static uint64_t hear_done(struct second_owner *owner, uint64_t code)
{
	int fds[NOTE_FDS];
	struct note note;

	second_expect(owner->second, NOTE_FAULT_DONE, 0, &note, fds);
	assert_int_equal(note.part[DONE_CODE], code);
	return note.part[DONE_COOKIE];
}

struct second_scene {
	struct address address;
	struct station station;
	struct second_owner owner;
};

static void begin_second(struct second_scene *scene, uint32_t held)
{
	*scene = (struct second_scene){ .address = address_make(SOCK_STREAM) };
	station_open(&scene->station, &scene->address, 1, NULL);
	scene->owner = second_owner_make(address_connect(&scene->address), STRATEGY_FILL, 256);
	second_owner_say_all(&scene->owner);
	second_owner_hear_all(&scene->owner);
	station_hold(&scene->station, held);
}

static void end_second(struct second_scene *scene)
{
	second_owner_end(&scene->owner);
	assert_int_equal(station_await_left(&scene->station, 1), -ENOTCONN);
	station_close(&scene->station);
	address_end(&scene->address);
}

static void more_than_the_server_takes(void **state)
{
	struct second_scene scene;

	(void)state;
	begin_second(&scene, 1);
	for (uint64_t i = 0; i < UNDER_WAY + 3; i++)
		say_fault(&scene.owner, 1000 + i, MEMORY, i * scene.owner.page, scene.owner.page);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(hear_done(&scene.owner, 2), 1000 + UNDER_WAY + i);
	station_hold(&scene.station, 0);
	for (uint64_t i = 0; i < UNDER_WAY; i++)
		assert_true(hear_done(&scene.owner, 0) < 1000 + UNDER_WAY);
	say_fault(&scene.owner, 1, MEMORY, 255 * scene.owner.page, 1);
	assert_int_equal(hear_done(&scene.owner, 0), 1);
	assert_int_equal(second_state(&scene.owner, 255), 1);
	end_second(&scene);
}

/* Each is answered, and none is the end of the connection. */
static void nonsense(void **state)
{
	struct second_scene scene;
	uint64_t page, length;

	(void)state;
	begin_second(&scene, 0);
	page = scene.owner.page;
	length = scene.owner.pages * page;
	say_fault(&scene.owner, 1, MEMORY - 1, 0, page);
	say_fault(&scene.owner, 2, NONE, 0, page);
	say_fault(&scene.owner, 3, MEMORY, length, page);
	say_fault(&scene.owner, 4, MEMORY, length - page, 2 * page);
	say_fault(&scene.owner, 5, MEMORY, UINT64_MAX - 1, UINT64_C(1) << 62);
	say_fault(&scene.owner, 6, NONE, UINT64_MAX - 1, page);
	for (uint64_t i = 1; i <= 6; i++)
		(void)hear_done(&scene.owner, 6);
	say_fault(&scene.owner, 7, NONE, 0, UINT64_C(1) << 62);
	assert_int_equal(hear_done(&scene.owner, 2), 7);
	say_fault(&scene.owner, 8, MEMORY, length - 1, 1);
	assert_int_equal(hear_done(&scene.owner, 0), 8);
	end_second(&scene);
}

/* Those that are under way are answered before it is said that the endpoint is let go. */
static void let_go_with_faults(void **state)
{
	struct second_scene scene;
	int fds[NOTE_FDS];
	struct note note;

	(void)state;
	begin_second(&scene, 1);
	for (uint64_t i = 0; i < 8; i++)
		say_fault(&scene.owner, i, MEMORY, 16 * i * scene.owner.page, scene.owner.page);
	station_await_holding(&scene.station, 1);
	second_say_of(scene.owner.second, NOTE_DETACH, ENDPOINT);
	station_answer(&scene.station, -EIO);
	station_hold(&scene.station, 0);
	for (uint64_t i = 0; i < 8; i++)
		(void)hear_done(&scene.owner, 6);
	second_expect(scene.owner.second, NOTE_RELEASE, 0, &note, fds);
	assert_int_equal(station_await_left(&scene.station, 1), 0);
	second_owner_end(&scene.owner);
	station_close(&scene.station);
	address_end(&scene.address);
}

/* --- arguments ---------------------------------------------------------------------------------------------------------- */

static void not_with_firecracker(void **state)
{
	struct vm_spec spec = { .pages = PAGES, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_COPY,
				.protocol = GMEM_PROTOCOL_FIRECRACKER };
	struct scene scene;

	(void)state;
	begin(&scene, SOCK_STREAM, &spec);
	assert_int_equal(vm_do(&scene.vm, VM_FORWARD, 0, 1), -EOPNOTSUPP);
	assert_int_equal(vm_do(&scene.vm, VM_CHECK, 0, PAGES), 0);
	end(&scene);
}

static void ignore(void *user, uint64_t cookie, int result)
{
	(void)user;
	(void)cookie;
	(void)result;
}

static void arguments(void **state)
{
	struct gmem_guard_create_opts with = { .size = sizeof(with), .done = ignore };
	struct gmem_guard_forward_opts flags = { .size = sizeof(flags), .flags = 2 };
	struct gmem_guard_forward_opts reserved = { .size = sizeof(reserved), .reserved = 1 };
	struct lazy lazy = make_watched(GMEM_BACKING_MEMFD, 1, GMEM_STRATEGY_COPY);
	struct gmem_guard *guard;

	(void)state;
	assert_int_equal(gmem_guard_create(lazy.uffd, &guard, &with), 0);
#define FORWARD(code, word, ...) bad("gmem_guard_forward", gmem_guard_forward(__VA_ARGS__), code, word)
	FORWARD(-EINVAL, "NULL", NULL, lazy.mem, 0, 1, 0, NULL);
	FORWARD(-E2BIG, "flags", guard, lazy.mem, 0, 1, 0, &flags);
	FORWARD(-EINVAL, "reserved", guard, lazy.mem, 0, 1, 0, &reserved);
	FORWARD(-ENOTCONN, "attached", guard, lazy.mem, 0, 1, 0, NULL);
	gmem_guard_destroy(guard);
#undef FORWARD
	end_lazy(&lazy);
}

static const struct gt_test tests[] = {
	GT(filled_over_a_stream, NEEDS),
	GT(copied_over_packets, NEEDS),
	GT(across_regions, NEEDS),
	GT(touched_and_forwarded, NEEDS),
	GT(content_that_cannot_be_had, NEEDS),
	GT(too_much, NEEDS),
	GT(more_than_the_server_takes, NEEDS),
	GT(nonsense, NEEDS),
	GT(let_go_with_faults, NEEDS),
	GT(not_with_firecracker, NEEDS),
	GT(arguments, GT_NEEDS_UFFD),
};

GT_MAIN("server_faults", tests)
