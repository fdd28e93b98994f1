/* SPDX-License-Identifier: MIT */
/* What a VM asks its pager through the guard, and what the server answers. */
#include "gt.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channels.h"
#include "handles.h"
#include "pagers.h"
#include "refusal.h"
#include "station.h"

#define PAGES 64
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define NATIVE { .pages = PAGES, .backing = GMEM_BACKING_MEMFD }

/* --- statistics --------------------------------------------------------------------------------------------------------- */

static void statistics_over(int type)
{
	struct vm_spec spec = NATIVE;
	struct address address = address_make(type);
	struct station station = { .refuse = 0 };
	struct vm vm = vm_make(&address, &spec);
	int64_t bytes = (int64_t)page();

	assert_int_equal(vm_do(&vm, VM_ASK, 0, 0), -ENOTCONN);
	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_COUNTED, COUNTED_ANSWERS, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 16, 16), 0);
	assert_int_equal(vm_do(&vm, VM_ASK, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_RUN, 0, 0), GMEM_GUARD_STATISTICS);
	assert_int_equal(vm_do(&vm, VM_STATE, 0, 0), GMEM_GUARD_ATTACHED);
	assert_int_equal(vm_do(&vm, VM_COUNTED, COUNTED_ANSWERS, 0), 1);
	assert_true(vm_do(&vm, VM_COUNTED, COUNTED_FAULTS, 0) >= 1);
	assert_true(vm_do(&vm, VM_COUNTED, COUNTED_BYTES, 0) >= 16 * bytes);
	assert_int_equal(vm_do(&vm, VM_COUNTED, COUNTED_BYTES, 0) + vm_do(&vm, VM_COUNTED, COUNTED_REMAINING, 0), PAGES * bytes);
	assert_int_equal(vm_do(&vm, VM_COUNTED, COUNTED_ZEROED, 0), 0);
	assert_int_equal(vm_do(&vm, VM_COUNTED, COUNTED_POISONED, 0), 0);
	assert_int_equal(vm_do(&vm, VM_COUNTED, COUNTED_ERRORS, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	assert_int_equal(vm_do(&vm, VM_ASK, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_RUN, 0, 0), GMEM_GUARD_STATISTICS);
	assert_int_equal(vm_do(&vm, VM_COUNTED, COUNTED_ANSWERS, 0), 2);
	assert_int_equal(vm_do(&vm, VM_COUNTED, COUNTED_REMAINING, 0), 0);
	vm_end(&vm);
	station_close(&station);
	address_end(&address);
}

static void statistics_over_a_stream(void **state)
{
	(void)state;
	statistics_over(SOCK_STREAM);
}

static void statistics_over_packets(void **state)
{
	(void)state;
	statistics_over(SOCK_SEQPACKET);
}

/* --- to let go ---------------------------------------------------------------------------------------------------------- */

/* Of what has not come whole: it is told at once, and not when its time is over. */
static void let_go_in_the_middle(void **state)
{
	struct gmem_channel_open_opts patient = { .size = sizeof(patient), .timeout_ns = GMEM_FOREVER };
	struct gmem_server_create_opts opts = { .size = sizeof(opts), .channel = &patient };
	struct gmemi_wire detach = { .type = GMEMI_WIRE_DETACH, .end = { .endpoint = 9 } }, answer;
	struct address address = address_make(SOCK_STREAM);
	struct speaker owner = { .socket = address_connect(&address) };
	struct watched watched = watched_make(1);
	struct station station = { .refuse = 0 };
	unsigned char bytes[1024];

	(void)state;
	station_open(&station, &address, 1, &opts);
	say_hello(&owner);
	say_endpoint(&owner, watched.uffd, 0, 1, watched.length);
	say(&owner, &detach, NULL);
	assert_true(hear(owner.socket, bytes, sizeof(bytes), GMEMI_WIRE_ERROR, &answer) > 0);
	assert_int_equal(answer.error.code, GMEMI_WIRE_FAILED);
	assert_int_equal(recv(owner.socket, bytes, 1, 0), 0);
	WAIT_FOR(station_info(&station).broken == 1);
	assert_int_equal(station.asked, 0);
	close(owner.socket);
	watched_end(&watched);
	station_close(&station);
	address_end(&address);
}

/* Whoever says no more in the middle of a message, but listens. */
static void an_end_in_the_middle(void **state)
{
	struct address address = address_make(SOCK_STREAM);
	struct speaker owner = { .socket = address_connect(&address) };
	struct station station = { .refuse = 0 };
	struct gmemi_wire answer;
	unsigned char bytes[1024];

	(void)state;
	station_open(&station, &address, 1, NULL);
	say_hello(&owner);
	send_raw(owner.socket, "GMEM", 4, NULL, 0);
	assert_int_equal(shutdown(owner.socket, SHUT_WR), 0);
	assert_true(hear(owner.socket, bytes, sizeof(bytes), GMEMI_WIRE_ERROR, &answer) > 0);
	assert_int_equal(answer.error.code, GMEMI_WIRE_BROKEN);
	close(owner.socket);
	station_close(&station);
	address_end(&address);
}

/* --- arguments ---------------------------------------------------------------------------------------------------------- */

static void not_with_firecracker(void **state)
{
	struct vm_spec spec = { .pages = PAGES, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_COPY,
				.protocol = GMEM_PROTOCOL_FIRECRACKER };
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct vm vm = vm_make(&address, &spec);

	(void)state;
	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_ASK, 0, 0), -EOPNOTSUPP);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	vm_end(&vm);
	station_close(&station);
	address_end(&address);
}

static void arguments(void **state)
{
	(void)state;
	bad("gmem_guard_ask", gmem_guard_ask(NULL), -EINVAL, "NULL");
}

static const struct gt_test tests[] = {
	GT(statistics_over_a_stream, NEEDS),
	GT(statistics_over_packets, NEEDS),
	GT(let_go_in_the_middle, GT_NEEDS_UFFD),
	GT(an_end_in_the_middle, 0),
	GT(not_with_firecracker, NEEDS),
	GT(arguments, 0),
};

GT_MAIN("server_asked", tests)
