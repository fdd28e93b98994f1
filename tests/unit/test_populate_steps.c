/* SPDX-License-Identifier: MIT */
/* The steps of a populate call: how large, who is told, how it is stopped, what is marked, and what comes when a way fails. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "content.h"
#include "fakekvm.h"
#include "handles.h"
#include "inject.h"

#define PAGES 64

static struct gmem_vm *vm;
static struct gmem *mem;
static unsigned char *data; /* PAGES of content */

static void set_up_with(uint64_t need)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need, .backing = GMEM_BACKING_MEMFD };

	make_vmless(&vm, &mem, PAGES * page(), &opts);
	data = malloc(PAGES * page());
	assert_non_null(data);
	for (uint64_t i = 0; i < PAGES * page(); i++)
		data[i] = (unsigned char)(i % 251 + 1);
}

static void set_up(void)
{
	set_up_with(0);
}

static void tear_down(void)
{
	free(data);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static int populate(uint64_t offset, uint64_t length, enum gmem_mechanism mechanism, uint64_t *done)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .mechanism = mechanism };

	*done = 77;
	return gmem_populate(mem, offset, length, data, done, &opts);
}

/* Progress */

struct watch {
	uint64_t length, chunk; /* expected */
	uint64_t last;
	unsigned int calls, stop_at; /* the call that says stop, 0 = none */
	int wrong;
	int (*also)(void);
};

static int watch(void *user, uint64_t done, uint64_t length)
{
	struct watch *w = user;

	w->calls++;
	w->wrong += length != w->length || done <= w->last || done > length || done - w->last > w->chunk;
	w->last = done;
	if (w->also)
		w->wrong += w->also();
	return w->calls == w->stop_at ? -1 : 0;
}

static int watched(uint64_t offset, struct watch *w, uint64_t *done)
{
	struct gmem_populate_opts opts = { .size = sizeof(opts), .chunk = w->chunk, .progress = watch, .user = w };
	int r;

	*done = 77;
	r = gmem_populate(mem, offset, w->length, data, done, &opts);
	assert_int_equal(w->wrong, 0);
	assert_int_equal(*done, w->last);
	return r;
}

static void a_step_is_a_chunk_at_most(void **state)
{
	(void)state;
	for (uint64_t chunk = 1; chunk <= PAGES; chunk *= 2) {
		struct watch w = { .length = PAGES * page(), .chunk = chunk * page() };
		uint64_t done;

		set_up();
		assert_int_equal(watched(0, &w, &done), 0);
		assert_int_equal(w.calls, PAGES / chunk);
		assert_only(mem, PAGES * page(), 0, data, PAGES * page());
		tear_down();
	}
}

static void steps_at_odd_places_end_exactly(void **state)
{
	static const uint64_t offsets[] = { 1, 4095, 4097, 70000 }, lengths[] = { 1, 4095, 4096, 100001 };

	(void)state;
	for (size_t i = 0; i < 16; i++) {
		struct watch w = { .length = lengths[i % 4], .chunk = 4 * page() };
		uint64_t done;

		set_up();
		assert_int_equal(watched(offsets[i / 4], &w, &done), 0);
		assert_int_equal(done, lengths[i % 4]);
		assert_only(mem, PAGES * page(), offsets[i / 4], data, lengths[i % 4]);
		tear_down();
	}
}

static void stopping_keeps_what_is_done_and_goes_on_from_there(void **state)
{
	(void)state;
	for (unsigned int stop = 1; stop < 5; stop++) {
		struct watch w = { .length = 16 * page() + 5, .chunk = 4 * page(), .stop_at = stop }, on = w;
		uint64_t done, more;

		set_up();
		assert_int_equal(watched(1001, &w, &done), -ECANCELED);
		assert_int_equal(w.calls, stop);
		assert_non_null(strstr(gmem_last_error(), "gmem_populate: the progress callback said stop (ECANCELED"));
		assert_only(mem, PAGES * page(), 1001, data, done);
		on.length -= done;
		on.stop_at = 0;
		memmove(data, data + done, on.length); /* as a caller passes data + done */
		assert_int_equal(watched(1001 + done, &on, &more), 0);
		assert_int_equal(done + more, 16 * page() + 5);
		assert_int_equal(info_of(mem).populated, done + more);
		tear_down();
	}
}

static void stopping_when_all_is_done_is_too_late(void **state)
{
	struct watch w = { .length = 8 * page(), .chunk = 4 * page(), .stop_at = 2 };
	uint64_t done;

	(void)state;
	set_up();
	assert_int_equal(watched(0, &w, &done), 0);
	assert_int_equal(done, 8 * page());
	assert_only(mem, PAGES * page(), 0, data, 8 * page());
	tear_down();
}

static int use_library(void)
{
	struct gmem_info info = { .size = sizeof(info) };
	void *address;
	int wrong = gmem_query(mem, &info) != 0;

	wrong += gmem_map(mem, 0, page(), &address, NULL) != 0;
	wrong += gmem_populate(mem, 60 * page(), 1, "", NULL, NULL) != 0;
	wrong += gmem_unbind(mem, 7) != -ENOENT;
	return wrong;
}

static void the_callback_may_call_the_library(void **state)
{
	struct watch w = { .length = 16 * page(), .chunk = page(), .stop_at = 9, .also = use_library };
	uint64_t done;

	(void)state;
	set_up();
	assert_int_equal(watched(0, &w, &done), -ECANCELED);
	assert_int_equal(strncmp(gmem_last_error(), "gmem_populate: ", 15), 0);
	assert_int_equal(done, 9 * page());
	assert_only(mem, PAGES * page(), 0, data, 9 * page());
	tear_down();
}

/* The page map */

static void assert_page_states(const char *states)
{
	int fd = gmem_get_fd(mem, GMEM_FD_PAGE_MAP);
	uint64_t word = 0;

	for (uint64_t i = 0; states[i]; i++) {
		if (i % 32 == 0)
			assert_int_equal(pread(fd, &word, sizeof(word), (off_t)(i / 32 * 8)), sizeof(word));
		if ((word >> i % 32 * 2 & 3) != (uint64_t)(states[i] - '0'))
			fail_msg("page %llu is in state %llu: shall be %s", (unsigned long long)i,
				 (unsigned long long)(word >> i % 32 * 2 & 3), states);
	}
}

static void a_page_is_filled_with_its_last_byte(void **state)
{
	const uint64_t p = page();
	uint64_t done;

	(void)state;
	fakekvm_enable(fakekvm_preset("6.18")); /* has userfaultfd for everyone */
	set_up_with(GMEM_NEED_LAZY | GMEM_NEED_MAPPABLE);
	assert_page_states("0000000000000000000000000000000000000000");
	assert_int_equal(populate(0, 2 * p + p / 2, 0, &done), 0);
	assert_page_states("1100");
	assert_int_equal(populate(2 * p + p / 2, p / 2 - 1, 0, &done), 0);
	assert_page_states("1100");
	assert_int_equal(populate(3 * p - 1, 1, 0, &done), 0);
	assert_page_states("1110");
	assert_int_equal(populate(30 * p - 1, 4 * p + 2, GMEM_MECH_MAPPING, &done), 0);
	assert_page_states("1110000000000000000000000000011111000000");
	memset(data, 0, 8 * p);
	assert_int_equal(populate(36 * p, 4 * p, 0, &done), 0); /* left out: zeros for good */
	assert_page_states("1110000000000000000000000000011111002222");
	tear_down();
}

/* It is not absent any more: who takes it for zeros loses what came in. */
static void a_discarded_page_that_gets_a_few_bytes_is_filled(void **state)
{
	const uint64_t p = page();
	uint64_t done;

	(void)state;
	fakekvm_enable(fakekvm_preset("6.18"));
	set_up_with(GMEM_NEED_LAZY | GMEM_NEED_MAPPABLE);
	memset(data, 0, 4 * p);
	assert_int_equal(populate(0, 4 * p, 0, &done), 0);
	assert_page_states("22220");
	memset(data, 'd', 4 * p);
	assert_int_equal(populate(p + 10, 100, 0, &done), 0);
	assert_page_states("21220");
	assert_int_equal(populate(2 * p + 10, 100, GMEM_MECH_MAPPING, &done), 0);
	assert_page_states("21120");
	tear_down();
}

/* Another thread takes away what it can get. */

static int unmappers_errors;

static void *unmap_all(void *arg)
{
	const unsigned int *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
		int r = gmem_unmap(mem, 0, PAGES * page());

		unmappers_errors += r != 0 && r != -EBUSY;
	}
	return NULL;
}

static void a_mapping_in_use_is_not_taken_away(void **state)
{
	unsigned int stop = 0;
	pthread_t thread;
	uint64_t done;

	(void)state;
	set_up();
	unmappers_errors = 0;
	assert_int_equal(pthread_create(&thread, NULL, unmap_all, &stop), 0);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(populate(i, (PAGES - 1) * page(), GMEM_MECH_MAPPING, &done), 0);
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	assert_int_equal(pthread_join(thread, NULL) | unmappers_errors, 0);
	memmove(data + 99, data, (PAGES - 1) * page()); /* the last one lies over the others' beginnings */
	for (uint64_t i = 0; i < 99; i++)
		data[i] = 1;
	assert_only(mem, PAGES * page(), 0, data, 99 + (PAGES - 1) * page());
	tear_down();
}

/* When a way fails */

struct again {
	unsigned long nth;
	int error;
};

static int fail_once(void *arg)
{
	const struct again *again = arg;
	uint64_t done;
	int r;

	inject_arm(again->nth, again->error);
	r = populate(7, 40 * page(), GMEM_MECH_NONE, &done);
	inject_disarm();
	assert_true(inject_fired());
	if (r < 0)
		assert_only(mem, PAGES * page(), 7, data, done);
	return -r;
}

static void a_way_that_is_not_there_after_all_is_replaced(void **state)
{
	static const int absent[] = { ESPIPE, EOPNOTSUPP };

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		struct again again = { 1, absent[i] };

		set_up();
		assert_int_equal(fail_once(&again), 0);
		assert_string_equal(inject_where(), "pwrite");
		assert_only(mem, PAGES * page(), 7, data, 40 * page());
		assert_int_equal(info_of(mem).populate_mechanism, GMEM_MECH_MAPPING);
		tear_down();
	}
}

/* What was written before the failure stays, and the other way goes on behind it. */
static void a_way_is_replaced_in_the_middle(void **state)
{
	uint64_t done;

	(void)state;
	set_up();
	memset(data + 10 * page(), 0, 20 * page()); /* so that there is more than one write */
	inject_arm(3, ESPIPE);
	assert_int_equal(populate(0, 40 * page(), GMEM_MECH_NONE, &done), 0);
	inject_disarm();
	assert_true(inject_fired());
	assert_only(mem, PAGES * page(), 0, data, 40 * page());
	assert_int_equal(info_of(mem).populated + info_of(mem).skipped, 40 * page());
	tear_down();
}

static void success_by_another_way_leaves_the_sentence_alone(void **state)
{
	struct again again = { 1, ESPIPE };
	char before[400];

	(void)state;
	set_up();
	assert_int_equal(gmem_unbind(mem, 5), -ENOENT);
	strncpy(before, gmem_last_error(), sizeof(before) - 1);
	before[sizeof(before) - 1] = '\0';
	assert_int_equal(fail_once(&again), 0);
	assert_string_equal(gmem_last_error(), before);
	tear_down();
}

/* Hidden pages that are there already refuse write() on one kernel, and take a copy. */
static void success_over_hidden_pages_leaves_the_sentence_alone(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_HIDDEN | GMEM_NEED_MAPPABLE };
	int vm_fd = fakekvm_vm(fakekvm_preset("future-firecracker"));
	char before[400];
	uint64_t done;

	(void)state;
	set_up();
	gmem_destroy(mem);
	gmem_vm_close(vm);
	assert_int_equal(gmem_vm_open(vm_fd, &vm, NULL), 0);
	assert_int_equal(gmem_create(vm, PAGES * page(), &mem, &opts), 0);
	assert_int_equal(populate(0, 4 * page(), 0, &done), 0);
	assert_int_equal(gmem_unbind(mem, 5), -ENOENT);
	strncpy(before, gmem_last_error(), sizeof(before) - 1);
	before[sizeof(before) - 1] = '\0';
	assert_int_equal(populate(0, 8 * page(), 0, &done), 0);
	assert_string_equal(gmem_last_error(), before);
	tear_down();
	close(vm_fd);
}

static int force_what_fails(void *arg)
{
	uint64_t done;
	int r;

	(void)arg;
	set_up();
	inject_arm(1, ESPIPE);
	r = populate(7, 40 * page(), GMEM_MECH_WRITE, &done);
	inject_disarm();
	assert_true(inject_fired());
	assert_int_equal(done, 0);
	assert_int_equal(strncmp(gmem_last_error(), "gmem_populate: ", 15), 0);
	return -r;
}

static void a_forced_way_that_is_not_there_after_all_is_refused(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(force_what_fails, NULL), EOPNOTSUPP);
}

static const struct gt_test tests[] = {
	GT(a_step_is_a_chunk_at_most, GT_NEEDS_NOTHING),
	GT(steps_at_odd_places_end_exactly, GT_NEEDS_NOTHING),
	GT(stopping_keeps_what_is_done_and_goes_on_from_there, GT_NEEDS_NOTHING),
	GT(stopping_when_all_is_done_is_too_late, GT_NEEDS_NOTHING),
	GT(the_callback_may_call_the_library, GT_NEEDS_NOTHING),
	GT(a_page_is_filled_with_its_last_byte, GT_NEEDS_NOTHING),
	GT(a_discarded_page_that_gets_a_few_bytes_is_filled, GT_NEEDS_NOTHING),
	GT(a_mapping_in_use_is_not_taken_away, GT_NEEDS_NOTHING),
	GT(a_way_that_is_not_there_after_all_is_replaced, GT_NEEDS_NOTHING),
	GT(a_way_is_replaced_in_the_middle, GT_NEEDS_NOTHING),
	GT(success_by_another_way_leaves_the_sentence_alone, GT_NEEDS_NOTHING),
	GT(success_over_hidden_pages_leaves_the_sentence_alone, GT_NEEDS_NOTHING),
	GT(a_forced_way_that_is_not_there_after_all_is_refused, GT_NEEDS_NOTHING),
};

GT_MAIN("populate_steps", tests)
