/* SPDX-License-Identifier: MIT */
/* A server that accepts no more: VMs that it has are served on, and who comes too late is another's, or refused. */
#include "gt.h"

#include <errno.h>
#include <sys/socket.h>

#include "station.h"

#define PAGES 64
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define NATIVE { .pages = PAGES, .backing = GMEM_BACKING_MEMFD, .identity = "a VM" }

/* A handshake that has begun goes on; who is not accepted yet waits for the next server on that socket. */
static void no_more_are_accepted(void **state)
{
	struct gmem_server_create_opts one = { .size = sizeof(one), .max_handshakes = 1 };
	struct vm_spec spec = NATIVE;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .admit = station_let_slow_wait }, next = { .refuse = 0 };
	struct vm served, slow, late;

	(void)state;
	served = vm_make(&address, &spec);
	late = vm_make(&address, &spec);
	spec.identity = "slow";
	slow = vm_make(&address, &spec);
	station_open(&station, &address, 1, &one);
	assert_int_equal(vm_do(&served, VM_ATTACH, 0, 0), 0);
	vm_tell(&slow, VM_ATTACH, 0, 0);
	station_await_holding(&station, 1);
	vm_tell(&late, VM_ATTACH, 0, 0);
	assert_int_equal(gmem_server_stop_accepting(station.server), 0);
	assert_int_equal(gmem_server_stop_accepting(station.server), 0);
	station_open_gate(&station);
	assert_int_equal(vm_answer(&slow), -EPROTO); /* by `admit` */
	assert_int_equal(vm_do(&served, VM_CHECK, 0, PAGES), 0);
	station_open(&next, &address, 1, NULL);
	assert_int_equal(vm_answer(&late), 0);
	assert_int_equal(vm_do(&late, VM_CHECK, 0, PAGES), 0);
	assert_int_equal(station_info(&station).admitted, 1);
	assert_int_equal(station_info(&next).admitted, 1);
	vm_end(&served);
	vm_end(&slow);
	vm_end(&late);
	station_close(&station);
	station_close(&next);
	address_end(&address);
}

static void refused_when_all_have_closed_it(void **state)
{
	struct vm_spec spec = NATIVE;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct vm vm = vm_make(&address, &spec), late = vm_make(&address, &spec);

	(void)state;
	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(gmem_server_stop_accepting(station.server), 0);
	address_end(&address);
	assert_int_equal(vm_do(&late, VM_ATTACH, 0, 0), -ECONNREFUSED);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	vm_end(&vm);
	vm_end(&late);
	station_close(&station);
}

static const struct gt_test tests[] = {
	GT(no_more_are_accepted, NEEDS),
	GT(refused_when_all_have_closed_it, NEEDS),
};

GT_MAIN("server_stop", tests)
