/* SPDX-License-Identifier: MIT */
/* How memslots end: unbound, refused to be, or with their memory. A guest must never run on addresses that have become
 * something else, so what matters here is the order. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "gt.h"
#include "inject.h"
#include "raw.h"
#include "wrap.h" /* inject_describe() */

#define MIB (UINT64_C(1) << 20)
#define LENGTH (4 * MIB)
#define MOST_SLOTS 8

#define DELETE "KVM_SET_USER_MEMORY_REGION" /* the old call deletes every kind of memslot */

struct world {
	int fd;
	struct gmem_vm *vm;
};

static struct world enter(const char *preset)
{
	struct world world;

	fakekvm_enable(fakekvm_preset(preset));
	world.fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(world.fd, &world.vm, NULL), 0);
	return world;
}

static size_t slot_count(const struct world *world)
{
	struct fakekvm_slot first;

	return fakekvm_slots(world->fd, &first, 1);
}

static void leave(struct world *world)
{
	assert_int_equal(slot_count(world), 0);
	gmem_vm_close(world->vm);
	close(world->fd);
}

static struct gmem *make(const struct world *world, uint64_t need, uint32_t backing)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need, .backing = backing };
	struct gmem *mem;

	assert_int_equal(gmem_create(world->vm, LENGTH, &mem, &opts), 0);
	return mem;
}

static void *hva_of(const struct world *world, size_t index)
{
	struct fakekvm_slot slots[MOST_SLOTS];

	assert_true(fakekvm_slots(world->fd, slots, MOST_SLOTS) > index);
	return (void *)(uintptr_t)slots[index].hva;
}

static bool is_mapped(const void *address)
{
	unsigned char residency;

	return mincore((void *)(uintptr_t)address, RAW_PAGE, &residency) == 0;
}

static uint32_t bound(const struct gmem *mem)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(mem, &info), 0);
	return info.slots;
}

static struct {
	int errors;
	char text[512];
} heard;

static void hear(void *user, enum gmem_log_level level, const char *text)
{
	(void)user;
	assert_int_equal(level, GMEM_LOG_ERROR);
	heard.errors++;
	snprintf(heard.text, sizeof(heard.text), "%s", text);
}

static void listen(void)
{
	heard.errors = 0;
	gmem_set_log(GMEM_LOG_ERROR, hear, NULL);
}

/* Unbinding */

static void unbound_slots_are_gone(void **state)
{
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);
	void *hva;

	(void)state;
	assert_int_equal(gmem_map(mem, 0, LENGTH, &hva, NULL), 0);
	assert_int_equal(gmem_bind(mem, 1, 0, 0, LENGTH, NULL), 0);
	assert_ptr_equal(hva_of(&world, 0), hva);
	assert_int_equal(gmem_unmap(mem, 0, LENGTH), -EBUSY);
	assert_int_equal(gmem_unbind(mem, 2), -ENOENT);
	assert_int_equal(gmem_unbind(mem, 1), 0);
	assert_int_equal(slot_count(&world), 0);
	assert_int_equal(bound(mem), 0);
	assert_true(is_mapped(hva)); /* the mapping stays */
	assert_int_equal(gmem_unbind(mem, 1), -ENOENT);
	assert_int_equal(gmem_unmap(mem, 0, LENGTH), 0);
	assert_false(is_mapped(hva));
	assert_int_equal(gmem_bind(mem, 1, MIB, MIB, MIB, NULL), 0); /* somewhere else */
	assert_int_equal(gmem_unbind(mem, 1), 0);
	gmem_destroy(mem);
	leave(&world);
}

static void a_slot_that_cannot_be_deleted_stays(void **state)
{
	static const int errors[] = { ENOMEM, EINTR, EPERM, EIO };
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);
	void *hva;

	(void)state;
	assert_int_equal(gmem_map(mem, 0, LENGTH, &hva, NULL), 0);
	assert_int_equal(gmem_bind(mem, 1, 0, 0, LENGTH, NULL), 0);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fakekvm_script(DELETE, errors[i], 1, 0);
		assert_int_equal(gmem_unbind(mem, 1), -errors[i]);
		assert_non_null(strstr(gmem_last_error(), "gmem_unbind: "));
		assert_int_equal(slot_count(&world), 1);
		assert_int_equal(bound(mem), 1);
		assert_int_equal(gmem_unmap(mem, 0, LENGTH), -EBUSY);
		assert_int_equal(gmem_bind(mem, 1, 0, 0, LENGTH, NULL), 0); /* it is there: nothing to do */
	}
	assert_int_equal(gmem_unbind(mem, 1), 0);
	assert_int_equal(slot_count(&world), 0);
	gmem_destroy(mem);
	leave(&world);
}

/* By the program, behind the library's back. */
static void a_slot_that_is_deleted_already(void **state)
{
	struct raw_slot slot = { .slot = 1, .file = -1 };
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);

	(void)state;
	assert_int_equal(gmem_bind(mem, 1, 0, 0, LENGTH, NULL), 0);
	assert_int_equal(raw_set_slot(world.fd, &slot), 0);
	assert_int_equal(gmem_unbind(mem, 1), 0);
	assert_int_equal(bound(mem), 0);
	assert_int_equal(gmem_unbind(mem, 1), -ENOENT);
	assert_int_equal(gmem_bind(mem, 1, 0, 0, LENGTH, NULL), 0);
	assert_int_equal(gmem_unbind(mem, 1), 0);
	gmem_destroy(mem);
	leave(&world);
}

/* The end of the memory */

static void destroyed_while_bound(void **state)
{
	static const struct {
		const char *preset;
		uint64_t need;
		uint32_t backing;
	} rows[] = {
		{ "7.3", 0, 0 },
		{ "7.3", 0, GMEM_BACKING_MEMFD },
		{ "7.3", GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY, 0 },
		{ "sw-protected", GMEM_NEED_MAPPABLE | GMEM_NEED_PRIVATE, 0 },
		{ "future-upstream", GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world world = enter(rows[i].preset);
		struct gmem *mem = make(&world, rows[i].need, rows[i].backing);
		volatile unsigned char *hva;

		assert_int_equal(gmem_bind(mem, 0, 0, 0, 2 * MIB, NULL), 0);
		assert_int_equal(gmem_bind(mem, 1, 4 * MIB, 2 * MIB, 2 * MIB, NULL), 0);
		hva = hva_of(&world, 1);
		*hva = 42;
		assert_int_equal(slot_count(&world), 2);
		gmem_destroy(mem);
		assert_int_equal(slot_count(&world), 0);
		assert_false(is_mapped((void *)(uintptr_t)hva));
		leave(&world);
	}
}

/* Handles can be given up in any order: memory goes on working, and ends what it began. */
static void the_vm_is_closed_first(void **state)
{
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0), *other = make(&world, 0, 0);
	void *hva;

	(void)state;
	assert_int_equal(gmem_bind(mem, 0, 0, 0, LENGTH, NULL), 0);
	gmem_vm_close(world.vm);
	assert_int_equal(gmem_bind(other, 1, LENGTH, 0, LENGTH, NULL), 0);
	assert_int_equal(gmem_bind(other, 0, 2 * LENGTH, 0, LENGTH, NULL), -EEXIST);
	assert_int_equal(slot_count(&world), 2);
	hva = hva_of(&world, 1);
	gmem_destroy(mem);
	assert_int_equal(slot_count(&world), 1); /* one memory's end is not another's */
	assert_true(is_mapped(hva));
	assert_int_equal(bound(other), 1);
	assert_int_equal(gmem_unbind(other, 0), -ENOENT);
	assert_int_equal(gmem_unbind(other, 1), 0);
	assert_int_equal(gmem_bind(other, 0, 0, 0, LENGTH, NULL), 0); /* numbers and addresses are free again */
	gmem_destroy(other);
	assert_int_equal(slot_count(&world), 0);
	close(world.fd);
}

/* The nth call that destroying bound memory makes, in words; false past the last one. The injector only looks on. */
static bool nth_call_of_destroy(unsigned long nth, char *text, size_t room)
{
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);

	assert_int_equal(gmem_bind(mem, 0, 0, 0, 2 * MIB, NULL), 0);
	assert_int_equal(gmem_bind(mem, 1, 4 * MIB, 2 * MIB, 2 * MIB, NULL), 0);
	inject_arm(nth, INJECT_SHORT);
	gmem_destroy(mem);
	inject_disarm();
	snprintf(text, room, "%s", inject_describe());
	leave(&world);
	return inject_fired();
}

static void slots_go_before_their_mappings(void **state)
{
	char text[128], unmapping[64], deleting[64];
	unsigned int deleted = 0, unmapped = 0;

	(void)state;
	snprintf(unmapping, sizeof(unmapping), "munmap(%#lx)", (unsigned long)(2 * MIB));
	snprintf(deleting, sizeof(deleting), "ioctl(%#lx)", (unsigned long)KVMI_SET_USER_MEMORY_REGION);
	for (unsigned long nth = 1; nth_call_of_destroy(nth, text, sizeof(text)); nth++) {
		bool is_close = strncmp(text, "close", 5) == 0;

		deleted += strncmp(text, deleting, strlen(deleting)) == 0;
		unmapped += strncmp(text, unmapping, strlen(unmapping)) == 0;
		if (unmapped || is_close)
			assert_int_equal(deleted, 2); /* neither mapping nor file goes while there is a memslot */
	}
	assert_int_equal(deleted, 2);
	assert_int_equal(unmapped, 2);
}

/* A memslot that KVM will not delete: its mapping is left where it is, and nothing else. */
static void the_mapping_of_a_stubborn_slot_stays(void **state)
{
	static const int errors[] = { ENOMEM, EPERM, EINTR };

	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct world world = enter("7.3");
		struct gmem *mem = make(&world, 0, 0);
		unsigned char *stubborn, *other;

		assert_int_equal(gmem_bind(mem, 0, 0, 0, 2 * MIB, NULL), 0);
		assert_int_equal(gmem_bind(mem, 1, 4 * MIB, 2 * MIB, 2 * MIB, NULL), 0);
		fakekvm_script(DELETE, errors[i], 1, 0);
		listen();
		stubborn = hva_of(&world, 0);
		other = hva_of(&world, 1);
		gmem_destroy(mem);
		gmem_set_log(0, NULL, NULL);
		assert_int_equal(slot_count(&world), 1);
		if (hva_of(&world, 0) == other)
			other = stubborn; /* in which order they are deleted is the library's own */
		stubborn = hva_of(&world, 0);
		assert_int_equal(heard.errors, 1);
		assert_non_null(strstr(heard.text, "gmem_destroy: "));
		assert_true(is_mapped(stubborn));
		assert_false(is_mapped(other));
		munmap(stubborn, 2 * MIB);
		gmem_vm_close(world.vm);
		close(world.fd);
	}
}

/* Dead, or another process's: nobody runs on it. Deleted by the program itself: gone. */
static void a_vm_that_is_gone_holds_nothing(void **state)
{
	static const int errors[] = { EIO, EINVAL };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct world world = enter("7.3");
		struct gmem *mem = make(&world, 0, 0);
		void *hva;

		assert_int_equal(gmem_bind(mem, 0, 0, 0, LENGTH, NULL), 0);
		fakekvm_script(DELETE, errors[i], 0, 0);
		listen();
		hva = hva_of(&world, 0);
		gmem_destroy(mem);
		gmem_set_log(0, NULL, NULL);
		assert_int_equal(heard.errors, 0);
		assert_false(is_mapped(hva));
		gmem_vm_close(world.vm);
		close(world.fd);
	}
}

/* A copy of the handles in a child gives up the child's copy of the mappings, and not the parent's memslots. */
static int child_gives_up(void *arg)
{
	struct gmem *mem = ((struct gmem **)arg)[0];
	struct gmem_vm *vm = ((struct gmem_vm **)arg)[1];

	assert_int_equal(gmem_bind(mem, 1, LENGTH, 0, LENGTH, NULL), -ESTALE);
	assert_int_equal(gmem_unbind(mem, 0), -ESTALE);
	gmem_destroy(mem);
	gmem_vm_close(vm);
	return 0;
}

static void a_child_gives_up_its_copy(void **state)
{
	struct world world = enter("7.3");
	struct gmem *mem = make(&world, 0, 0);
	void *both[2] = { mem, world.vm };

	(void)state;
	assert_int_equal(gmem_bind(mem, 0, 0, 0, LENGTH, NULL), 0);
	assert_int_equal(gt_in_child(child_gives_up, both), 0);
	assert_int_equal(slot_count(&world), 1);
	assert_true(is_mapped(hva_of(&world, 0)));
	gmem_destroy(mem);
	leave(&world);
}

/* Without a VM addresses are only recorded, by the same rules. */
static void no_vm(void **state)
{
	struct world world = { .fd = -1 };
	struct gmem *mem;

	(void)state;
	fakekvm_enable(fakekvm_preset("none"));
	assert_int_equal(gmem_vm_open(-1, &world.vm, NULL), 0);
	mem = make(&world, 0, 0);
	assert_int_equal(gmem_bind(mem, 0, 0, 0, MIB, NULL), 0);
	assert_int_equal(gmem_bind(mem, 0, 0, 0, MIB, NULL), 0);
	assert_int_equal(gmem_bind(mem, 0, MIB, 0, MIB, NULL), -EEXIST);
	assert_int_equal(gmem_bind(mem, 1, 0, MIB, MIB, NULL), -EEXIST);
	assert_int_equal(gmem_bind(mem, 1, MIB, MIB, MIB, NULL), 0);
	assert_int_equal(bound(mem), 2);
	assert_int_equal(gmem_unbind(mem, 1), 0);
	assert_int_equal(gmem_unbind(mem, 1), -ENOENT);
	assert_int_equal(bound(mem), 1);
	gmem_destroy(mem); /* one is still bound */
	gmem_vm_close(world.vm);
}

static const struct gt_test tests[] = {
	GT(unbound_slots_are_gone, GT_NEEDS_NOTHING),
	GT(a_slot_that_cannot_be_deleted_stays, GT_NEEDS_NOTHING),
	GT(a_slot_that_is_deleted_already, GT_NEEDS_NOTHING),
	GT(destroyed_while_bound, GT_NEEDS_NOTHING),
	GT(the_vm_is_closed_first, GT_NEEDS_NOTHING),
	GT(slots_go_before_their_mappings, GT_NEEDS_NOTHING),
	GT(the_mapping_of_a_stubborn_slot_stays, GT_NEEDS_NOTHING),
	GT(a_vm_that_is_gone_holds_nothing, GT_NEEDS_NOTHING),
	GT(a_child_gives_up_its_copy, GT_NEEDS_NOTHING),
	GT(no_vm, GT_NEEDS_NOTHING),
};

GT_MAIN("the end of memslots on the stand-in kernel", tests)
