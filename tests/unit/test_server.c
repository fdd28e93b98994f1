/* SPDX-License-Identifier: MIT */
/* VMs that come to a server, are served, and go. */
#include "gt.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channels.h"
#include "handles.h"
#include "pagers.h"
#include "refusal.h"
#include "station.h"

#define PAGES 64
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define NATIVE { .pages = PAGES, .backing = GMEM_BACKING_MEMFD, .identity = "a VM" }
#define FIRECRACKER                                                             \
	{                                                                       \
		.pages = PAGES, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_COPY, \
		.protocol = GMEM_PROTOCOL_FIRECRACKER                           \
	}

/* --- a server, and a VM that comes to it -------------------------------------------------------------------------------- */

struct scene {
	struct address address;
	struct station station;
	struct vm vm;
};

/* The server is not there yet: it has threads, and other VMs may be wanted. */
static void begin_with(struct scene *s, int type, const struct vm_spec *spec)
{
	*s = (struct scene){ .address = address_make(type) };
	s->vm = vm_make(&s->address, spec);
}

static void begin(struct scene *s, const struct vm_spec *spec)
{
	begin_with(s, SOCK_STREAM, spec);
}

static void open_it(struct scene *s)
{
	station_open(&s->station, &s->address, 1, NULL);
}

static void attach(struct scene *s)
{
	open_it(s);
	assert_int_equal(vm_do(&s->vm, VM_ATTACH, 0, 0), 0);
}

static void sees_all(struct vm *vm)
{
	assert_int_equal(vm_do(vm, VM_CHECK, 0, PAGES), 0);
}

static void end_server(struct scene *s)
{
	station_close(&s->station);
	address_end(&s->address);
}

/* The VM ends, and that it has is seen. */
static void end(struct scene *s)
{
	vm_end(&s->vm);
	assert_int_equal(station_await_left(&s->station, 1), -ESRCH);
	end_server(s);
}

/* --- served to the end -------------------------------------------------------------------------------------------------- */

static void serve_one(int type, const struct vm_spec *spec)
{
	struct scene s;

	begin_with(&s, type, spec);
	attach(&s);
	sees_all(&s.vm);
	vm_end(&s.vm);
	assert_int_equal(station_await_left(&s.station, 1), -ESRCH);
	station_await_quiet(&s.station);
	assert_int_equal(station_info(&s.station).admitted, 1);
	end_server(&s);
}

static void native_over_a_stream(void **state)
{
	struct vm_spec spec = NATIVE;

	(void)state;
	serve_one(SOCK_STREAM, &spec);
}

static void native_over_packets(void **state)
{
	struct vm_spec spec = NATIVE;

	(void)state;
	serve_one(SOCK_SEQPACKET, &spec);
}

static void firecracker_over_a_stream(void **state)
{
	struct vm_spec spec = FIRECRACKER;

	(void)state;
	serve_one(SOCK_STREAM, &spec);
}

static void firecracker_over_packets(void **state)
{
	struct vm_spec spec = FIRECRACKER;

	(void)state;
	serve_one(SOCK_SEQPACKET, &spec);
}

/* Its process lives on. */
static void a_vm_that_lets_go(void **state)
{
	struct vm_spec spec = NATIVE;
	struct scene s;

	(void)state;
	begin(&s, &spec);
	attach(&s);
	assert_int_equal(vm_do(&s.vm, VM_CHECK, 0, 1), 0);
	assert_int_equal(vm_do(&s.vm, VM_LET_GO, 0, 0), 0);
	assert_int_equal(station_await_left(&s.station, 1), 0);
	vm_end(&s.vm);
	end_server(&s);
}

/* The connection is not needed after the handshake; the end of the process is noticed without it. */
static void a_connection_that_is_closed(void **state)
{
	struct vm_spec spec = FIRECRACKER;
	struct scene s;

	(void)state;
	begin(&s, &spec);
	attach(&s);
	assert_int_equal(vm_do(&s.vm, VM_HANG_UP, 0, 0), 0);
	assert_int_equal(vm_do(&s.vm, VM_CHECK, 0, PAGES / 2), 0);
	assert_int_equal(station_info(&s.station).vms, 1);
	sees_all(&s.vm);
	vm_kill(&s.vm);
	assert_int_equal(station_await_left(&s.station, 1), -ESRCH);
	end_server(&s);
}

/* --- who is not served -------------------------------------------------------------------------------------------------- */

static int look_at_peer(struct station *station, const struct gmem_channel_info *peer)
{
	(void)station;
	return peer->uid == getuid() && peer->pid && strcmp(peer->identity, "a VM") == 0 ? -EACCES : -EINVAL;
}

static void a_vm_that_is_refused(void **state)
{
	struct vm_spec spec = NATIVE;
	struct scene s;

	(void)state;
	begin(&s, &spec);
	s.station.admit = look_at_peer;
	open_it(&s);
	assert_int_equal(vm_do(&s.vm, VM_ATTACH, 0, 0), -EPROTO);
	assert_int_equal(vm_do(&s.vm, VM_STATE, 0, 0), GMEM_GUARD_NONE);
	assert_int_equal(station_info(&s.station).refused, 1);
	station_admit_all(&s.station);
	assert_int_equal(vm_do(&s.vm, VM_ATTACH, 0, 0), 0); /* it may come again */
	sees_all(&s.vm);
	vm_end(&s.vm);
	assert_int_equal(station_await_left(&s.station, 1), -ESRCH);
	assert_int_equal(s.station.left, 1);
	end_server(&s);
}

/* It says why, also to who has not said all yet, and then closes what it has not read. */
static void refuse_in_the_middle(int type)
{
	struct gmem_channel_open_opts small = { .size = sizeof(small), .max_length = 4096 };
	struct gmem_server_create_opts opts = { .size = sizeof(opts), .channel = &small };
	struct vm_spec spec = NATIVE;
	struct address address = address_make(type);
	struct station station = { .refuse = 0 };
	struct vm vm = vm_make(&address, &spec);

	station_open(&station, &address, 1, &opts);
	for (int i = 0; i < 100; i++)
		assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), -EPROTO);
	vm_end(&vm);
	station_close(&station);
	address_end(&address);
}

static void refused_in_the_middle(void **state)
{
	(void)state;
	refuse_in_the_middle(SOCK_STREAM);
	refuse_in_the_middle(SOCK_SEQPACKET);
}

static void no_more_vms_than_allowed(void **state)
{
	struct gmem_server_create_opts few = { .size = sizeof(few), .max_vms = 1 };
	struct vm_spec spec = NATIVE;
	struct vm second;
	struct scene s;

	(void)state;
	begin(&s, &spec);
	second = vm_make(&s.address, &spec);
	station_open(&s.station, &s.address, 1, &few);
	assert_int_equal(vm_do(&s.vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&second, VM_ATTACH, 0, 0), -EPROTO);
	sees_all(&s.vm);
	vm_end(&s.vm);
	station_await_left(&s.station, 1);
	assert_int_equal(vm_do(&second, VM_ATTACH, 0, 0), 0);
	sees_all(&second);
	vm_end(&second);
	end_server(&s);
}

/* --- who stalls --------------------------------------------------------------------------------------------------------- */

/* One that says nothing, one that stops in the middle, and one whose program takes its time: VMs are served meanwhile. */
static void stalled_peers(void **state)
{
	struct vm_spec spec = NATIVE;
	int silent, half;
	struct scene s;

	(void)state;
	begin(&s, &spec);
	open_it(&s);
	silent = address_connect(&s.address);
	half = address_connect(&s.address);
	assert_true(silent >= 0 && half >= 0);
	send_raw(half, "[{\"base_", 8, NULL, 0);
	assert_int_equal(vm_do(&s.vm, VM_ATTACH, 0, 0), 0);
	sees_all(&s.vm);
	assert_int_equal(station_info(&s.station).broken, 0); /* they are there still */
	assert_int_equal(station_info(&s.station).handshakes, 2);
	close(silent);
	close(half);
	vm_end(&s.vm);
	end_server(&s);
}

/* There is room for one handshake at a time, and both are closed. */
static void peers_out_of_time(void **state)
{
	struct gmem_channel_open_opts hurry = { .size = sizeof(hurry), .timeout_ns = 20000000 };
	struct gmem_server_create_opts opts = { .size = sizeof(opts), .channel = &hurry, .max_handshakes = 1 };
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	int first = address_connect(&address), second = address_connect(&address);
	char byte;

	(void)state;
	assert_true(first >= 0 && second >= 0);
	station_open(&station, &address, 1, &opts);
	assert_int_equal(recv(first, &byte, 1, 0), 0);
	assert_int_equal(recv(second, &byte, 1, 0), 0);
	WAIT_FOR(station_info(&station).broken == 2);
	close(first);
	close(second);
	station_close(&station);
	address_end(&address);
}

/* Faults of others go on. */
static void a_program_that_takes_its_time(void **state)
{
	struct vm_spec quick = NATIVE, slow = NATIVE;
	struct vm other;
	struct scene s;

	(void)state;
	begin(&s, &quick);
	slow.identity = "slow";
	other = vm_make(&s.address, &slow);
	s.station.admit = station_let_slow_wait;
	attach(&s);
	vm_tell(&other, VM_ATTACH, 0, 0);
	station_await_holding(&s.station, 1);
	sees_all(&s.vm);
	station_open_gate(&s.station);
	assert_int_equal(vm_answer(&other), -EPROTO);
	vm_end(&s.vm);
	vm_end(&other);
	end_server(&s);
}

/* --- ranges that come and go -------------------------------------------------------------------------------------------- */

static void ranges_at_run_time(void **state)
{
	struct vm_spec spec = NATIVE;
	struct scene s;

	(void)state;
	spec.parts = 4;
	begin(&s, &spec);
	attach(&s);
	assert_int_equal(vm_do(&s.vm, VM_CHECK, 0, PAGES / 2), 0);
	assert_int_equal(vm_do(&s.vm, VM_ADD, 2, 0), 0);
	assert_int_equal(vm_do(&s.vm, VM_CHECK, 0, PAGES * 3 / 4), 0);
	assert_int_equal(vm_do(&s.vm, VM_REMOVE, 1, 0), 0);
	assert_int_equal(vm_do(&s.vm, VM_ADD, 3, 0), 0);
	assert_int_equal(vm_do(&s.vm, VM_ADD, 1, 0), 0);
	sees_all(&s.vm);
	end(&s);
}

static void not_with_firecracker(void **state)
{
	struct vm_spec spec = FIRECRACKER;
	struct scene s;

	(void)state;
	spec.parts = 2;
	begin(&s, &spec);
	attach(&s);
	assert_int_equal(vm_do(&s.vm, VM_ADD, 1, 0), -EOPNOTSUPP);
	assert_int_equal(vm_do(&s.vm, VM_CHECK, 0, PAGES / 2), 0);
	end(&s);
}

/* --- arguments, and the end --------------------------------------------------------------------------------------------- */

static int admit_none(void *user, const struct gmem_channel_info *peer, struct gmem_uffd *uffd, struct gmem_source **source,
		      struct gmem_pager_add_opts *opts)
{
	(void)user;
	(void)peer;
	(void)uffd;
	(void)source;
	(void)opts;
	return 0; /* without a source */
}

static void arguments(void **state)
{
	struct gmem_server_ops ops = { .size = sizeof(ops), .admit = admit_none }, none = { .size = sizeof(none) };
	struct gmem_channel_open_opts wild = { .size = sizeof(wild), .protocol = 77 };
	struct gmem_server_create_opts flags = { .size = sizeof(flags), .flags = 1 };
	struct gmem_server_create_opts speak = { .size = sizeof(speak), .channel = &wild };
	struct address address = address_make(SOCK_STREAM);
	int connected = address_connect(&address);
	struct gmem_server *server;
	struct gmem_pager *pager;

	(void)state;
	assert_int_equal(gmem_pager_create(&pager, NULL), 0);
#define CREATE(code, word, ...) bad("gmem_server_create", gmem_server_create(__VA_ARGS__), code, word)
	CREATE(-EINVAL, "NULL", NULL, address.listener, &ops, NULL, &server, NULL);
	CREATE(-EINVAL, "NULL", pager, address.listener, NULL, NULL, &server, NULL);
	CREATE(-EINVAL, "NULL", pager, address.listener, &ops, NULL, NULL, NULL);
	CREATE(-EINVAL, "admit", pager, address.listener, &none, NULL, &server, NULL);
	CREATE(-E2BIG, "flags", pager, address.listener, &ops, NULL, &server, &flags);
	CREATE(-EINVAL, "protocol", pager, address.listener, &ops, NULL, &server, &speak);
	CREATE(-EINVAL, "listening", pager, connected, &ops, NULL, &server, NULL);
	CREATE(-EBADF, "socket", pager, -1, &ops, NULL, &server, NULL);
#undef CREATE
	bad("gmem_server_query", gmem_server_query(NULL, NULL), -EINVAL, "NULL");
	bad("gmem_server_stop_accepting", gmem_server_stop_accepting(NULL), -EINVAL, "NULL");
	gmem_server_destroy(NULL);
	close(connected);
	gmem_pager_destroy(pager);
	address_end(&address);
}

static int destroy_in_child(void *arg)
{
	assert_int_equal(gmem_server_stop_accepting(arg), -ESTALE);
	gmem_server_destroy(arg);
	return 0;
}

/* A child's copy of the server is nothing to the server, or its VMs. */
static void a_server_in_a_child(void **state)
{
	struct vm_spec spec = NATIVE;
	struct scene s;

	(void)state;
	begin(&s, &spec);
	attach(&s);
	assert_int_equal(gt_in_child(destroy_in_child, s.station.server), 0);
	sees_all(&s.vm);
	end(&s);
}

/* A VM whose source does not answer is killed: it has left as soon as the source lets go, and others are served meanwhile. */
static void a_source_that_holds_up(void **state)
{
	struct vm_spec spec = NATIVE;
	struct vm other;
	struct scene s;

	(void)state;
	begin(&s, &spec);
	other = vm_make(&s.address, &spec);
	attach(&s);
	station_hold(&s.station, 1);
	vm_tell(&s.vm, VM_CHECK, 0, 1);
	station_await_holding(&s.station, 1);
	vm_kill(&s.vm);
	assert_int_equal(vm_do(&other, VM_ATTACH, 0, 0), 0);
	station_hold(&s.station, 0);
	assert_int_equal(station_await_left(&s.station, 1), -ESRCH);
	sees_all(&other);
	vm_end(&other);
	end_server(&s);
}

static const struct gt_test tests[] = {
	GT(native_over_a_stream, NEEDS),
	GT(native_over_packets, NEEDS),
	GT(firecracker_over_a_stream, NEEDS),
	GT(firecracker_over_packets, NEEDS),
	GT(a_vm_that_lets_go, NEEDS),
	GT(a_connection_that_is_closed, NEEDS),
	GT(a_vm_that_is_refused, NEEDS),
	GT(refused_in_the_middle, NEEDS),
	GT(no_more_vms_than_allowed, NEEDS),
	GT(stalled_peers, NEEDS),
	GT(peers_out_of_time, 0),
	GT(a_program_that_takes_its_time, NEEDS),
	GT(arguments, 0),
	GT(a_server_in_a_child, NEEDS),
	GT(a_source_that_holds_up, NEEDS),
	GT(ranges_at_run_time, NEEDS),
	GT(not_with_firecracker, NEEDS),
};

GT_MAIN("server", tests)
