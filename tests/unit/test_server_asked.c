/* SPDX-License-Identifier: MIT */
/* What a VM asks its pager through the guard, and what the server answers. */
#include "gt.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channels.h"
#include "handles.h"
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
	GT(not_with_firecracker, NEEDS),
	GT(arguments, 0),
};

GT_MAIN("server_asked", tests)
