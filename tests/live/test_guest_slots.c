/* SPDX-License-Identifier: MIT */
/* Memslots as a running guest sees them: several on one file, read-only, dirty log, unbound and bound again. */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "content.h"
#include "gt.h"
#include "world.h"

#define LENGTH (16 * MIB)
#define HALF (LENGTH / 2)
#define PAGE 4096u
#define FAR UINT64_C(0x20000000) /* beyond a gap of guest addresses */

#define BOTH(test)                                   \
	static void guest_memfd_##test(void **state) \
	{                                            \
		(void)state;                         \
		test(GMEM_BACKING_GUEST_MEMFD);      \
	}                                            \
	static void memfd_##test(void **state)       \
	{                                            \
		(void)state;                         \
		test(GMEM_BACKING_MEMFD);            \
	}

#ifdef __x86_64__
/* What KVM writes for the guest (clocks, stolen time, emulated instructions) goes through the slot's userspace_addr, whatever
 * backs the slot: here the wall clock, where Linux guests have it written (arch/x86/kvm/x86.c, kvm_write_wall_clock()). */
static void kvm_itself_reaches_the_memory(uint32_t backing)
{
	const uint64_t gpa = 7 * PAGE;
	struct world w = world_make(backing, LENGTH);
	struct { /* struct kvm_msrs, with one entry */
		uint32_t count, zero;
		struct kvm_msr_entry wall_clock;
	} msrs = { .count = 1, .wall_clock = { .index = 0x4b564d00, .data = gpa } };
	uint32_t clock[3]; /* version, seconds, nanoseconds */
	void *address;

	world_bind(&w, 1, 0, HALF, HALF, 0);
	assert_int_equal(ioctl(guest_vcpu(w.guest), KVM_SET_MSRS, &msrs), 1);
	assert_int_equal(gmem_map(w.mem, HALF + gpa, PAGE, &address, NULL), 0);
	memcpy(clock, address, sizeof(clock));
	assert_int_equal(clock[0], 2);
	assert_int_not_equal(clock[1], 0);
	world_end(&w);
}
BOTH(kvm_itself_reaches_the_memory)
#endif

/* The second half of the file lies at the lower guest addresses. */
static void two_slots_with_a_gap(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	const unsigned char *content = world_fill(&w);

	world_bind(&w, 1, 0, HALF, HALF, 0);
	world_bind(&w, 2, FAR, 0, HALF, 0);
	assert_int_equal(world_query(&w).slots, 2);
	world_assert_guest_sees(&w, 0, content + HALF, HALF);
	world_assert_guest_sees(&w, FAR, content, HALF);
	world_assert_nothing_at(&w, HALF);
	world_assert_nothing_at(&w, FAR - PAGE);
	world_assert_nothing_at(&w, FAR + HALF);
	world_end(&w);
}
BOTH(two_slots_with_a_gap)

static void slot_inside_the_file(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	const unsigned char *content = world_fill(&w);

	world_bind(&w, 3, 3 * PAGE, 5 * PAGE, PAGE, 0);
	world_assert_guest_sees(&w, 3 * PAGE, content + 5 * PAGE, PAGE);
	world_assert_nothing_at(&w, 2 * PAGE);
	world_assert_nothing_at(&w, 4 * PAGE);
	world_end(&w);
}
BOTH(slot_inside_the_file)

static void unbound_and_bound_again(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	unsigned char *content = world_fill(&w);

	world_bind(&w, 1, 0, 0, LENGTH, 0);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	assert_int_equal(gmem_unbind(w.mem, 1), 0);
	assert_int_equal(world_query(&w).slots, 0);
	world_assert_nothing_at(&w, 0);
	world_bind(&w, 2, FAR, 0, LENGTH, 0);
	world_assert_guest_sees(&w, FAR, content, LENGTH);
	assert_int_equal(gmem_unbind(w.mem, 1), -ENOENT);
	assert_true(guest_store(w.guest, FAR + 8, 0x5a5a));
	assert_int_equal(gmem_unbind(w.mem, 2), 0);
	world_bind(&w, 2, 0, 0, LENGTH, 0);
	memcpy(content + 8, &(uint64_t){ 0x5a5a }, 8);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_end(&w);
}
BOTH(unbound_and_bound_again)

/* What the guest writes is in the file, and what the host writes the guest reads. */
static void both_sides_see_writes(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	uint64_t *host, word = 0;

	assert_int_equal(gmem_map(w.mem, 0, LENGTH, (void **)&host, NULL), 0);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	assert_true(guest_store(w.guest, 77 * PAGE + 16, 0x1234567890abcdef));
	assert_int_equal(host[(77 * PAGE + 16) / 8], 0x1234567890abcdef);
	host[3] = 0xfeed;
	assert_true(guest_load(w.guest, 24, &word));
	assert_int_equal(word, 0xfeed);
	world_end(&w);
}
BOTH(both_sides_see_writes)

static void refusals(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	int r;

	world_bind(&w, 1, 0, 0, HALF, 0);
	assert_int_equal(gmem_bind(w.mem, 1, FAR, 0, HALF, NULL), -EEXIST);
	assert_int_equal(gmem_bind(w.mem, 2, HALF - PAGE, HALF, HALF, NULL), -EEXIST);
	assert_int_equal(gmem_bind(w.mem, 2, GUEST_HOME, HALF, HALF, NULL), -EEXIST); /* of a slot that libgmem did not make */
	assert_int_equal(gmem_bind(w.mem, 0xffff, FAR, HALF, HALF, NULL), -EINVAL);
	assert_int_equal(gmem_bind(w.mem, 1, 0, 0, HALF, NULL), 0); /* the same again is no change */
	r = gmem_bind(w.mem, 2, FAR, 0, HALF, NULL);                /* the file range a second time */
	if (backing == GMEM_BACKING_MEMFD)
		assert_int_equal(r, 0);
	else
		assert_int_equal(r, -EEXIST);
	assert_int_equal(world_query(&w).slots, backing == GMEM_BACKING_MEMFD ? 2 : 1);
	world_end(&w);
}
BOTH(refusals)

static void read_only(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	const unsigned char *content = world_fill(&w);

	if (ioctl(w.vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_READONLY_MEM) <= 0) {
		world_end(&w);
		gt_skip("KVM has no read-only memslots here");
	}
	world_bind(&w, 1, 0, 0, LENGTH, GMEM_BIND_READONLY);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	assert_false(guest_store(w.guest, 9 * PAGE, 0xbad));
	assert_false(guest_store(w.guest, LENGTH - 8, 0xbad));
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_end(&w);
}
BOTH(read_only)

/* Where the VMM wants it: the guest runs on that very mapping, and the address range goes back as it came. */
static void placed_mapping_serves_the_guest(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	unsigned char *reserved = mmap(NULL, 3 * LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct gmem_map_opts opts = { .size = sizeof(opts), .address = reserved + LENGTH };
	uint64_t *at, word;

	assert_int_equal(gmem_map(w.mem, 0, LENGTH, (void **)&at, &opts), 0);
	assert_ptr_equal(at, opts.address);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	at[2 * PAGE / 8] = 0xabcd;
	assert_true(guest_load(w.guest, 2 * PAGE, &word));
	assert_int_equal(word, 0xabcd);
	assert_true(guest_store(w.guest, 3 * PAGE, 0xef));
	assert_int_equal(at[3 * PAGE / 8], 0xef);
	assert_int_equal(gmem_unmap(w.mem, 0, LENGTH), -EBUSY);
	assert_int_equal(gmem_unbind(w.mem, 0), 0);
	assert_int_equal(gmem_unmap(w.mem, 0, LENGTH), 0);
	assert_int_equal(mprotect(reserved, 3 * LENGTH, PROT_NONE), 0); /* all of it is still there */
	munmap(reserved, 3 * LENGTH);
	world_end(&w);
}
BOTH(placed_mapping_serves_the_guest)

/* One page at two guest addresses: through plain memslots; on a guest_memfd one of the two may be bound to the file. */
static void plain_slots_are_aliases(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	const unsigned char *content = world_fill(&w);
	uint64_t word;

	world_bind(&w, 1, 0, 0, LENGTH, 0);
	world_bind(&w, 2, FAR, HALF, HALF, GMEM_BIND_PLAIN);
	world_bind(&w, 3, 2 * FAR, HALF, HALF, GMEM_BIND_PLAIN);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_assert_guest_sees(&w, FAR, content + HALF, HALF);
	assert_true(guest_store(w.guest, 2 * FAR + 8, 0x1d));
	assert_true(guest_load(w.guest, FAR + 8, &word));
	assert_int_equal(word, 0x1d);
	assert_true(guest_load(w.guest, HALF + 8, &word));
	assert_int_equal(word, 0x1d);
	world_end(&w);
}
BOTH(plain_slots_are_aliases)

/* The same slot number and guest addresses again, in the other address space (that of system management). */
static void memfd_in_two_address_spaces(void **state)
{
	struct world w = world_make(GMEM_BACKING_MEMFD, LENGTH);
	const uint32_t other = 1u << 16;

	(void)state;
	if (ioctl(w.vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE) < 2) {
		world_end(&w);
		gt_skip("this VM has one address space");
	}
	world_bind(&w, 1, 0, 0, LENGTH, 0);
	world_bind(&w, other | 1, 0, 0, LENGTH, 0);
	assert_int_equal(world_query(&w).slots, 2);
	assert_int_equal(gmem_bind(w.mem, other | 2, 0, 0, LENGTH, NULL), -EEXIST);
	assert_int_equal(gmem_unbind(w.mem, other | 1), 0);
	assert_int_equal(gmem_unbind(w.mem, other | 1), -ENOENT);
	assert_true(guest_store(w.guest, 0, 1));
	world_end(&w);
}

/* --- dirty log --- */

struct dirty {
	uint64_t words[LENGTH / PAGE / 64];
};

static struct dirty dirty_pages(struct world *w, uint32_t slot)
{
	struct dirty pages;
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = &pages };

	memset(&pages, 0xff, sizeof(pages));
	assert_int_equal(ioctl(w->vm_fd, KVM_GET_DIRTY_LOG, &log), 0);
	return pages;
}

static void mark(struct dirty *pages, uint64_t gpa)
{
	pages->words[gpa / PAGE / 64] |= UINT64_C(1) << gpa / PAGE % 64;
}

static void assert_dirty(struct world *w, uint32_t slot, const uint64_t *gpas, size_t count)
{
	struct dirty expected = { { 0 } }, seen = dirty_pages(w, slot);

	for (size_t i = 0; i < count; i++)
		mark(&expected, gpas[i]);
	assert_memory_equal(&seen, &expected, sizeof(seen));
}

/* On a guest_memfd too: a plain memslot over its mapping, which is the only kind that can be logged. */
static void dirty_log(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	const uint64_t written[] = { 0, 3 * PAGE + 8, 77 * PAGE, LENGTH - 8 };

	world_fill(&w);
	world_bind(&w, 7, 0, 0, LENGTH, GMEM_BIND_DIRTY_LOG);
	guest_sum(w.guest, WORLD_SUM, 0, LENGTH);
	dirty_pages(&w, 7); /* KVM may log a read where it maps for writing at once */
	for (size_t i = 0; i < 4; i++)
		assert_true(guest_store(w.guest, written[i], 0x77));
	assert_dirty(&w, 7, written, 4);
	assert_dirty(&w, 7, NULL, 0); /* asking clears */
	assert_true(guest_store(w.guest, written[2], 0x78));
	assert_dirty(&w, 7, written + 2, 1);
	world_end(&w);
}
BOTH(dirty_log)

static bool is_logged(struct world *w, uint32_t slot)
{
	struct dirty pages;
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = &pages };

	return ioctl(w->vm_fd, KVM_GET_DIRTY_LOG, &log) == 0;
}

/* On a plain memslot, both ways; the guest's memory is the same before and after. */
static void dirty_log_on_and_off(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	const unsigned char *content = world_fill(&w);

	world_bind(&w, 7, 0, 0, LENGTH, GMEM_BIND_PLAIN);
	assert_false(is_logged(&w, 7));
	world_bind(&w, 7, 0, 0, LENGTH, GMEM_BIND_PLAIN | GMEM_BIND_DIRTY_LOG);
	assert_true(is_logged(&w, 7));
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_bind(&w, 7, 0, 0, LENGTH, GMEM_BIND_PLAIN);
	assert_false(is_logged(&w, 7));
	world_bind(&w, 7, 0, 0, LENGTH, GMEM_BIND_PLAIN | GMEM_BIND_DIRTY_LOG);
	assert_true(is_logged(&w, 7));
	assert_int_equal(world_query(&w).slots, 1);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_end(&w);
}
BOTH(dirty_log_on_and_off)

static void refuse_change(struct world *w, uint64_t flags)
{
	struct gmem_bind_opts opts = { .size = sizeof(opts), .flags = flags };

	assert_int_equal(gmem_bind(w->mem, 7, 0, 0, LENGTH, &opts), -EOPNOTSUPP);
	assert_non_null(strstr(gmem_last_error(), "gmem_bind"));
}

/* What KVM does not let change: refused, and the memslot is as it was. */
static void refused_change_leaves_the_slot(uint32_t backing)
{
	struct world w = world_make(backing, LENGTH);
	const unsigned char *content = world_fill(&w);

	world_bind(&w, 7, 0, 0, LENGTH, 0);
	refuse_change(&w, GMEM_BIND_READONLY);
	refuse_change(&w, GMEM_BIND_READONLY | GMEM_BIND_DIRTY_LOG);
	if (backing == GMEM_BACKING_GUEST_MEMFD) {
		refuse_change(&w, GMEM_BIND_DIRTY_LOG);
		refuse_change(&w, GMEM_BIND_PLAIN);
		refuse_change(&w, GMEM_BIND_PLAIN | GMEM_BIND_DIRTY_LOG);
	}
	assert_int_equal(world_query(&w).slots, 1);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	assert_true(guest_store(w.guest, 8, 1));
	assert_int_equal(gmem_bind(w.mem, 7, 0, 0, LENGTH, NULL), 0);
	assert_int_equal(gmem_unbind(w.mem, 7), 0);
	world_end(&w);
}
BOTH(refused_change_leaves_the_slot)

/* --- two memories --- */

static void two_backings_in_one_vm(void **state)
{
	struct world w = world_make(GMEM_BACKING_GUEST_MEMFD, LENGTH);
	struct gmem *other = world_memory(&w, GMEM_BACKING_MEMFD, HALF);
	const unsigned char *content = world_fill(&w);
	uint64_t done;

	(void)state;
	assert_int_equal(gmem_populate(other, 0, HALF, content + HALF, &done, NULL), 0);
	world_bind(&w, 0, 0, 0, LENGTH, 0);
	assert_int_equal(gmem_bind(other, 0, FAR, 0, HALF, NULL), -EEXIST);
	assert_int_equal(gmem_bind(other, 1, FAR, 0, HALF, NULL), 0);
	assert_int_equal(gmem_unbind(other, 0), -ENOENT);
	world_assert_guest_sees(&w, 0, content, LENGTH);
	world_assert_guest_sees(&w, FAR, content + HALF, HALF);
	assert_int_equal(gmem_unbind(other, 1), 0);
	gmem_destroy(other);
	world_assert_nothing_at(&w, FAR);
	world_end(&w);
}

#define GMEM GT_NEEDS_VCPU | GT_NEEDS_GUEST_MEMFD
#define GT_BOTH(test) GT(guest_memfd_##test, GMEM), GT(memfd_##test, GT_NEEDS_VCPU)

static const struct gt_test tests[] = {
#ifdef __x86_64__
	GT_BOTH(kvm_itself_reaches_the_memory),
#endif
	GT_BOTH(two_slots_with_a_gap),
	GT_BOTH(slot_inside_the_file),
	GT_BOTH(unbound_and_bound_again),
	GT_BOTH(both_sides_see_writes),
	GT_BOTH(refusals),
	GT_BOTH(placed_mapping_serves_the_guest),
	GT_BOTH(plain_slots_are_aliases),
	GT(memfd_in_two_address_spaces, GT_NEEDS_VCPU),
	GT_BOTH(read_only),
	GT_BOTH(dirty_log),
	GT_BOTH(dirty_log_on_and_off),
	GT_BOTH(refused_change_leaves_the_slot),
	GT(two_backings_in_one_vm, GMEM),
};

GT_MAIN("guest_slots", tests)
