/* SPDX-License-Identifier: MIT */
/* A pager that knows the protocol by its page alone, to which the library's guard hands memory over. */
#include "gt.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channels.h"
#include "second_pager.h"
#include "station.h"

#define PAGES 72
#define PARTS 4
#define PART (PAGES / PARTS)
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define SPEC { .pages = PAGES, .backing = GMEM_BACKING_MEMFD, .parts = PARTS, .identity = "a VM ~ 1" }

/* --- who comes ---------------------------------------------------------------------------------------------------------- */

static int next_vm(const struct address *address)
{
	int socket = accept4(address->listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(socket >= 0);
	return socket;
}

static struct second_pager hire(const struct address *address, struct vm *vm)
{
	struct second_pager pager;

	vm_tell(vm, VM_ATTACH, 0, 0);
	pager = second_pager_make(next_vm(address), "a VM ~ 1");
	assert_int_equal(pager.length, PAGES * pager.page);
	second_say_of(pager.second, NOTE_READY, pager.endpoint);
	assert_int_equal(vm_answer(vm), 0);
	return pager;
}

/* --- what it does ------------------------------------------------------------------------------------------------------- */

static void serve_a_touch(const struct second_pager *pager, struct vm *vm, uint64_t page)
{
	assert_int_equal(second_pager_state(pager, page), 0);
	assert_int_equal(vm_do(vm, VM_TOUCH, page, 0), 0);
	assert_int_equal(second_pager_await_fault(pager), page);
	second_pager_fill(pager, page);
	assert_int_equal(vm_do(vm, VM_TOUCHED, 0, 0), 0);
}

static void fill_all(const struct second_pager *pager, uint64_t first, uint64_t count)
{
	for (uint64_t number = first; number < first + count; number++)
		if (second_pager_state(pager, number) == 0)
			second_pager_fill(pager, number);
}

/* Nothing of it ends anything; the pipe shows that the descriptor was closed there. */
static int say_what_may_be_said(const struct second_pager *pager)
{
	struct note beat = { .type = NOTE_HEARTBEAT, .part = { UINT64_C(1) << 40 } };
	struct note statistics = {
		.type = NOTE_STATISTICS,
		.part = { pager->endpoint },
		.items = 3,
		.item = { { 1, 0, 2 }, { 2, 0, 2 * pager->page }, { 99, 0, 5 } },
	};
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	second_say(pager->second, &beat, NULL);
	second_say_unknown(pager->second, 31, 65000, ends[1]);
	second_say(pager->second, &statistics, NULL);
	second_say_unknown(pager->second, 0x8000, 16, -1);
	close(ends[1]);
	return ends[0];
}

/* Those that it was not asked for, and the answer to a question, in which another one is said. */
static void hear_statistics(const struct second_pager *pager, struct vm *vm)
{
	struct note statistics = { .type = NOTE_STATISTICS, .part = { pager->endpoint }, .items = 1, .item = { { 6, 0, 7 } } };
	int fds[NOTE_FDS];
	struct note note;

	assert_int_equal(vm_do(vm, VM_RUN, 0, 0), GMEM_GUARD_STATISTICS);
	assert_int_equal(vm_do(vm, VM_COUNTED, COUNTED_FAULTS, 0), 2);
	assert_int_equal(vm_do(vm, VM_COUNTED, COUNTED_BYTES, 0), (int64_t)(2 * pager->page));
	assert_int_equal(vm_do(vm, VM_ASK, 0, 0), 0);
	second_expect(pager->second, NOTE_ASK_STATISTICS, 0, &note, fds);
	assert_int_equal(note.part[OF_ENDPOINT], pager->endpoint);
	assert_int_equal(note.part[OF_CODE], 0);
	second_say(pager->second, &statistics, NULL);
	assert_int_equal(vm_do(vm, VM_RUN, 0, 0), GMEM_GUARD_STATISTICS);
	assert_int_equal(vm_do(vm, VM_COUNTED, COUNTED_ERRORS, 0), 7);
	assert_int_equal(vm_do(vm, VM_COUNTED, COUNTED_FAULTS, 0), 2);
}

static void say_release(const struct second_pager *pager, uint64_t code, uint64_t pending)
{
	struct note note = { .type = NOTE_RELEASE, .part = { pager->endpoint, code, pending } };

	second_say(pager->second, &note, NULL);
}

/* --- until it goes ------------------------------------------------------------------------------------------------------ */

/* One pager serves half of the pages and lets go, the next one the rest: it learns from the page map which those are. */
static void serve(int type, uint32_t strategy, uint32_t later)
{
	struct vm_spec spec = SPEC;
	struct address address = address_make(type);
	struct second_pager pager;
	struct vm vm;
	char byte;
	int heard;

	spec.strategy = strategy;
	vm = vm_make(&address, &spec);
	pager = hire(&address, &vm);
	pager.second->later = later;
	serve_a_touch(&pager, &vm, 5);
	fill_all(&pager, 0, PART);
	heard = say_what_may_be_said(&pager);
	hear_statistics(&pager, &vm);
	say_release(&pager, 6, 0);
	assert_int_equal(vm_do(&vm, VM_RUN, 0, 0), GMEM_GUARD_RELEASED);
	assert_int_equal(read(heard, &byte, 1), 0);
	close(heard);
	second_pager_end(&pager);

	pager = hire(&address, &vm);
	assert_int_equal(second_pager_state(&pager, PART - 1), 1);
	serve_a_touch(&pager, &vm, PART);
	fill_all(&pager, PART, PART);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, 2 * PART), 0);
	assert_int_equal(vm_do(&vm, VM_STATE, 0, 0), GMEM_GUARD_ATTACHED);
	vm_end(&vm);
	second_pager_end(&pager);
	address_end(&address);
}

static void filled_over_a_stream(void **state)
{
	(void)state;
	serve(SOCK_STREAM, GMEM_STRATEGY_FILL, 0);
}

static void filled_over_packets(void **state)
{
	(void)state;
	serve(SOCK_SEQPACKET, GMEM_STRATEGY_FILL, 0);
}

static void copied_over_a_stream(void **state)
{
	(void)state;
	serve(SOCK_STREAM, GMEM_STRATEGY_COPY, 0);
}

static void of_a_later_version(void **state)
{
	(void)state;
	serve(SOCK_STREAM, GMEM_STRATEGY_FILL, 40);
	serve(SOCK_SEQPACKET, GMEM_STRATEGY_COPY, 3);
}

static void expect_removed(const struct second_pager *pager, uint64_t part)
{
	int fds[NOTE_FDS];
	struct note note;

	second_expect(pager->second, NOTE_REMOVE, 0, &note, fds);
	assert_int_equal(note.part[OF_ENDPOINT], pager->endpoint);
	assert_int_equal(note.items, 1);
	assert_int_equal(note.item[0][RANGE_MEMORY], pager->memory);
	assert_int_equal(note.item[0][RANGE_OFFSET], part * PART * pager->page);
	assert_int_equal(note.item[0][RANGE_LENGTH], PART * pager->page);
}

/* Ranges come and go, and then the VM lets go itself. */
static void ranges_at_run_time(void **state)
{
	struct vm_spec spec = SPEC;
	struct address address = address_make(SOCK_STREAM);
	struct vm vm = vm_make(&address, &spec);
	struct second_pager pager = hire(&address, &vm);
	int fds[NOTE_FDS];
	struct note note;

	(void)state;
	assert_int_equal(pager.regions.items, PARTS / 2);
	assert_int_equal(vm_do(&vm, VM_ADD, 3, 0), 0);
	second_pager_hear_regions(&pager);
	assert_int_equal(pager.regions.item[PARTS / 2][REGION_OFFSET], 3 * PART * pager.page);
	serve_a_touch(&pager, &vm, 3 * PART + 1);
	fill_all(&pager, PART, PART); /* what is empty is not taken away */
	assert_int_equal(vm_do(&vm, VM_REMOVE, 1, 0), 0);
	expect_removed(&pager, 1);
	assert_int_equal(vm_do(&vm, VM_LET_GO, 0, 0), 0);
	second_expect(pager.second, NOTE_DETACH, 0, &note, fds);
	assert_int_equal(note.part[OF_ENDPOINT], pager.endpoint);
	say_release(&pager, 0, 0);
	vm_end(&vm);
	second_expect_end(pager.second);
	second_pager_end(&pager);
	address_end(&address);
}

/* Nothing is lost of what there was room for, and the guard says the rest when the pager reads. */
static void does_not_read(int type)
{
	struct note statistics = { .type = NOTE_STATISTICS, .items = 1, .item = { { 1, 0, 1 } } }, note;
	struct vm_spec spec = SPEC;
	struct address address = address_make(type);
	struct vm vm = vm_make(&address, &spec);
	struct second_pager pager = hire(&address, &vm);
	unsigned int asked = 0;
	int fds[NOTE_FDS];
	int64_t r;

	while ((r = vm_do(&vm, VM_ASK, 0, 0)) == 0)
		asked++;
	assert_int_equal(r, -EAGAIN);
	vm_tell(&vm, VM_RUN, 0, 0);
	for (unsigned int i = 0; i < asked; i++)
		second_expect(pager.second, NOTE_ASK_STATISTICS, 0, &note, fds);
	statistics.part[OF_ENDPOINT] = pager.endpoint;
	second_say(pager.second, &statistics, NULL);
	assert_int_equal(vm_answer(&vm), GMEM_GUARD_STATISTICS);
	assert_int_equal(vm_do(&vm, VM_ASK, 0, 0), 0);
	second_expect(pager.second, NOTE_ASK_STATISTICS, 0, &note, fds);
	vm_end(&vm);
	second_pager_end(&pager);
	address_end(&address);
}

static void a_pager_that_does_not_read(void **state)
{
	(void)state;
	does_not_read(SOCK_STREAM);
	does_not_read(SOCK_SEQPACKET);
}

static void a_refusal(void **state)
{
	struct note no = { .type = NOTE_ERROR, .part = { 5, 0, 0 }, .text = "come back later" };
	struct vm_spec spec = SPEC;
	struct address address = address_make(SOCK_STREAM);
	struct vm vm = vm_make(&address, &spec);
	struct second_pager pager;

	(void)state;
	vm_tell(&vm, VM_ATTACH, 0, 0);
	pager = second_pager_make(next_vm(&address), "a VM ~ 1");
	second_say(pager.second, &no, NULL);
	assert_int_equal(vm_answer(&vm), -EPROTO);
	second_pager_end(&pager);
	pager = hire(&address, &vm);
	serve_a_touch(&pager, &vm, 0);
	second_pager_end(&pager);
	vm_end(&vm);
	address_end(&address);
}

static const struct gt_test tests[] = {
	GT(filled_over_a_stream, NEEDS),
	GT(filled_over_packets, NEEDS),
	GT(copied_over_a_stream, NEEDS),
	GT(of_a_later_version, NEEDS),
	GT(ranges_at_run_time, NEEDS),
	GT(a_pager_that_does_not_read, NEEDS),
	GT(a_refusal, NEEDS),
};

GT_MAIN("second_pager", tests)
