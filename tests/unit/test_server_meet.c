/* SPDX-License-Identifier: MIT */
/* Who may connect to a server at all, which is asked before anybody has said anything. */
#include "gt.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channels.h"
#include "handles.h"
#include "refusal.h"
#include "station.h"

#define PAGES 16
#define STRANGERS 100
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define NATIVE { .pages = PAGES, .backing = GMEM_BACKING_MEMFD }

static atomic_int verdict; /* of `meet` */

static int judge(struct station *station, const struct gmem_channel_info *peer)
{
	(void)station;
	(void)peer;
	return atomic_load(&verdict);
}

static int look_at_peer(struct station *station, const struct gmem_channel_info *peer)
{
	(void)station;
	if (peer->pid != (uint32_t)getpid() || peer->uid != getuid() || peer->gid != getgid())
		return -EIO;
	return peer->endpoints || *peer->identity || peer->protocol != GMEM_PROTOCOL_AUTO ? -EIO : -EACCES;
}

struct stranger {
	int socket;
};

static struct stranger come(const struct address *address)
{
	struct stranger stranger = { .socket = address_connect(address) };

	assert_true(stranger.socket >= 0);
	return stranger;
}

static void leave(struct stranger *stranger)
{
	close(stranger->socket);
}

/* It hears ERROR, with this code, and the end. */
static void is_turned_away(const struct stranger *stranger, uint32_t code)
{
	unsigned char bytes[1024];
	struct gmemi_wire wire;

	assert_true(hear(stranger->socket, bytes, sizeof(bytes), GMEMI_WIRE_ERROR, &wire) > 0);
	assert_int_equal(wire.error.code, code);
	assert_int_equal(wire.number, 1);
	assert_non_null(memmem(wire.text, wire.text_length, "may not", 7));
	assert_int_equal(recv(stranger->socket, bytes, 1, 0), 0);
}

static void await_handshakes(const struct station *station, uint64_t count)
{
	while (station_info(station).handshakes != count)
		sched_yield();
}

/* All places but one are taken, and stay so; strangers stay connected. */
static void no_place_for_strangers(int type)
{
	struct gmem_channel_open_opts patient = { .size = sizeof(patient), .timeout_ns = GMEM_FOREVER };
	struct gmem_server_create_opts two = { .size = sizeof(two), .channel = &patient, .max_handshakes = 2 };
	struct stranger strangers[STRANGERS], silent;
	struct address address = address_make(type);
	struct station station = { .meet = judge };
	struct vm_spec spec = NATIVE;
	struct vm vm = vm_make(&address, &spec);

	atomic_store(&verdict, 0);
	station_open(&station, &address, 1, &two);
	silent = come(&address);
	await_handshakes(&station, 1);
	atomic_store(&verdict, -EACCES);
	for (int i = 0; i < STRANGERS; i++)
		strangers[i] = come(&address);
	for (int i = 0; i < STRANGERS; i++)
		is_turned_away(&strangers[i], GMEMI_WIRE_DENIED);
	assert_int_equal(station_info(&station).handshakes, 1);
	assert_int_equal(station_info(&station).refused, STRANGERS);
	atomic_store(&verdict, 0);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	vm_end(&vm);
	assert_int_equal(station_await_left(&station, 1), -ESRCH);
	assert_int_equal(station_info(&station).broken, 0);
	for (int i = 0; i < STRANGERS; i++)
		leave(&strangers[i]);
	leave(&silent);
	station_close(&station);
	address_end(&address);
}

static void strangers_take_no_place(void **state)
{
	(void)state;
	no_place_for_strangers(SOCK_STREAM);
	no_place_for_strangers(SOCK_SEQPACKET);
}

/* What a VM that is turned away is told, whatever it has sent meanwhile. */
static void a_vm_is_told(void **state)
{
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .meet = judge };
	struct vm_spec spec = NATIVE;
	struct vm vm = vm_make(&address, &spec);

	(void)state;
	atomic_store(&verdict, -EACCES);
	station_open(&station, &address, 1, NULL);
	for (int i = 0; i < 50; i++)
		assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), -EPROTO);
	assert_int_equal(vm_do(&vm, VM_STATE, 0, 0), GMEM_GUARD_NONE);
	assert_int_equal(station_info(&station).refused, 50);
	assert_int_equal(station.asked, 0); /* `admit` */
	atomic_store(&verdict, 0);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	vm_end(&vm);
	assert_int_equal(station_await_left(&station, 1), -ESRCH);
	station_close(&station);
	address_end(&address);
}

static void who_it_is(void **state)
{
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .meet = look_at_peer };
	struct stranger stranger;

	(void)state;
	station_open(&station, &address, 1, NULL);
	stranger = come(&address);
	is_turned_away(&stranger, GMEMI_WIRE_DENIED);
	leave(&stranger);
	station_close(&station);
	address_end(&address);
}

static void codes(void **state)
{
	static const struct {
		int verdict;
		uint32_t code;
	} all[] = {
		{ -EPERM, GMEMI_WIRE_DENIED },
		{ -EBUSY, GMEMI_WIRE_BUSY },
		{ -EIO, GMEMI_WIRE_FAILED },
		{ 1, GMEMI_WIRE_FAILED },
	};
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .meet = judge };

	(void)state;
	station_open(&station, &address, 1, NULL);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct stranger stranger;

		atomic_store(&verdict, all[i].verdict);
		stranger = come(&address);
		is_turned_away(&stranger, all[i].code);
		leave(&stranger);
	}
	station_close(&station);
	address_end(&address);
}

/* Its VMs do not read. */
static void nothing_is_said_to_firecracker(void **state)
{
	struct gmem_channel_open_opts speak = { .size = sizeof(speak), .protocol = GMEM_PROTOCOL_FIRECRACKER };
	struct gmem_server_create_opts opts = { .size = sizeof(opts), .channel = &speak };
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .meet = judge };
	struct stranger stranger;
	char byte;

	(void)state;
	atomic_store(&verdict, -EACCES);
	station_open(&station, &address, 1, &opts);
	stranger = come(&address);
	assert_int_equal(recv(stranger.socket, &byte, 1, 0), 0);
	assert_int_equal(station_info(&station).refused, 1);
	leave(&stranger);
	station_close(&station);
	address_end(&address);
}

static const struct gt_test tests[] = {
	GT(strangers_take_no_place, NEEDS),
	GT(a_vm_is_told, NEEDS),
	GT(who_it_is, 0),
	GT(codes, 0),
	GT(nothing_is_said_to_firecracker, 0),
};

GT_MAIN("server_meet", tests)
