/* SPDX-License-Identifier: MIT */
/* Every feature on every preset of the stand-in kernel, written from what kernels have and not from the code. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/vm.h>

#include "fakekvm.h"
#include "gt.h"
#include "raw.h"

#define MADV_POPULATE 23 /* MADV_POPULATE_WRITE; older headers have it not */
#define HUGE_SHIFT 26

/* The columns. There is no VM fd where /dev/kvm cannot be opened. */
static const struct {
	const char *name;
	bool has_vm;
} presets[] = {
	{ "none", false },
	{ "forbidden", false },
	{ "6.1", true },
	{ "6.12", true },
	{ "6.18", true },
	{ "7.3", true },
	{ "sw-protected", true },
	{ "snp", true },
	{ "tdx", true },
	{ "future-upstream", true },
	{ "future-firecracker", true },
	{ "arm64", true },
};

#define PRESETS (sizeof(presets) / sizeof(presets[0]))

/* P present, A absent, F forbidden, U undetermined, m = as the machine says. Without a vCPU, without GMEM_VM_RFC_IOCTLS. */
static const struct {
	enum gmem_feature feature;
	const char *states; /* none, forbidden, 6.1, 6.12, 6.18, 7.3, sw-protected, snp, tdx, upstream, firecracker, arm64 */
} table[] = {
	{ GMEM_FEATURE_KVM, "AFPPPPPPPPPP" },
	{ GMEM_FEATURE_USER_MEMORY2, "AFAPPPPPPPPP" },
	{ GMEM_FEATURE_GUEST_MEMFD, "AFAAPPPPPPPP" },
	{ GMEM_FEATURE_GUEST_MEMFD_MMAP, "AFAAPPPPPPPP" },
	{ GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED, "AFAAPPAAAPPP" },
	{ GMEM_FEATURE_GUEST_MEMFD_WRITE, "AFAAAAAAAPPA" },
	{ GMEM_FEATURE_NO_DIRECT_MAP, "AFAAAAAAAAPA" },
	{ GMEM_FEATURE_GUEST_MEMFD_NUMA, "AFAAAPPPPPAP" },
	{ GMEM_FEATURE_ATTRIBUTES_VM, "AFAAAAPPPAAA" },
	{ GMEM_FEATURE_ATTRIBUTES_FILE, "AFAAAAAAAPAA" },
	{ GMEM_FEATURE_MEMORY_FAULT_EXIT, "AFAPPPPPPPPA" },
	{ GMEM_FEATURE_KVM_USERFAULT, "AFAAAAAAAPPA" },
	{ GMEM_FEATURE_PRE_FAULT, "AFAUAUUUUUUA" },
	{ GMEM_FEATURE_MAP_MEMORY, "AFUUUUUUUUUU" },
	{ GMEM_FEATURE_MAP_MEMORY_V1, "AFUUUUUUUUUU" },
	{ GMEM_FEATURE_POPULATE_IOCTL, "AFUUUUUUUUUU" },
	{ GMEM_FEATURE_VM_SW_PROTECTED, "AFAAAAPAAPAA" },
	{ GMEM_FEATURE_VM_SNP, "AFAAAAAPAAAA" },
	{ GMEM_FEATURE_VM_TDX, "AFAAAAAAPAAA" },
	{ GMEM_FEATURE_SEV_COMMANDS, "AFAAAAAPAAAA" },
	{ GMEM_FEATURE_CCA_POPULATE, "AFAAAAAAAAAA" },
	{ GMEM_FEATURE_MEMFD, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_HUGETLB_2M, "mmmmmmmmmmmm" },
	{ GMEM_FEATURE_HUGETLB_1G, "mmmmmmmmmmmm" },
	{ GMEM_FEATURE_MADV_POPULATE, "mmmmmmmmmmmm" },
	{ GMEM_FEATURE_UFFD, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_DEVICE, "PFPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_KERNEL_FAULTS, "PFPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_GUEST_MEMFD_MINOR, "AFAAAAAAAPPA" },
	{ GMEM_FEATURE_UFFD_GUEST_MEMFD_MISSING, "AFAAAAAAAPPA" },
	{ GMEM_FEATURE_UFFD_GUEST_MEMFD_WP_ASYNC, "AFAAPPAAAPPP" },
	{ GMEM_FEATURE_UFFD_PAGEFAULT_WP, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_EVENT_FORK, "PFPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_EVENT_REMAP, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_EVENT_REMOVE, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_MISSING_HUGETLB, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_MISSING_MEMFD, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_EVENT_UNMAP, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_SIGBUS, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_THREAD_ID, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_MINOR_HUGETLB, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_MINOR_MEMFD, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_EXACT_ADDRESS, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_WP_MEMFD, "PPPPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_WP_UNPOPULATED, "PPAPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_POISON, "PPAPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_WP_ASYNC, "PPAPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_MOVE, "PPAPPPPPPPPP" },
	{ GMEM_FEATURE_UFFD_RWP, "AAAAAPPPPPAP" },
	{ GMEM_FEATURE_UFFD_RWP_ASYNC, "AAAAAPPPPPAP" },
};

#define FEATURES (sizeof(table) / sizeof(table[0]))

static void a_row_for_every_feature(void **state)
{
	(void)state;
	for (size_t i = 0; i < FEATURES; i++) {
		assert_int_equal(table[i].feature, i + 1);
		assert_int_equal(strlen(table[i].states), PRESETS);
		assert_non_null(gmem_feature_name(table[i].feature));
	}
	assert_null(gmem_feature_name(GMEM_FEATURE_NONE));
	assert_null(gmem_feature_name((enum gmem_feature)(FEATURES + 1)));
	for (size_t i = 0; i < FEATURES; i++)
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(gmem_feature_name(table[i].feature), gmem_feature_name(table[j].feature));
}

static char huge_pages(unsigned int shift)
{
	size_t size = (size_t)1 << shift;
	int fd = memfd_create("raw", MFD_HUGETLB | shift << HUGE_SHIFT);
	char result = 'A';
	void *at;

	if (fd < 0)
		return result;
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		result = munmap(at, size) == 0 ? 'P' : 'A';
	else if (errno == ENOMEM)
		result = 'F'; /* none is free: that can be changed */
	close(fd);
	return result;
}

static char madv_populate(void)
{
	void *at = mmap(NULL, RAW_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char result;

	assert_ptr_not_equal(at, MAP_FAILED);
	result = madvise(at, RAW_PAGE, MADV_POPULATE) ? 'A' : 'P';
	munmap(at, RAW_PAGE);
	return result;
}

/* What the stand-in does not play. */
static char machine(enum gmem_feature feature)
{
	switch (feature) {
	case GMEM_FEATURE_HUGETLB_2M:
		return huge_pages(21);
	case GMEM_FEATURE_HUGETLB_1G:
		return huge_pages(30);
	default:
		return madv_populate();
	}
}

static char letter(int state)
{
	assert_in_range(state, GMEM_UNDETERMINED, GMEM_PRESENT);
	return "UAFP"[state];
}

struct world {
	int fd;
	struct gmem_vm *vm;
};

static struct world enter(const char *preset, bool has_vm)
{
	struct world world = { .fd = -1 };

	fakekvm_enable(fakekvm_preset(preset));
	if (has_vm)
		world.fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(world.fd, &world.vm, NULL), 0);
	return world;
}

static void leave(struct world *world)
{
	gmem_vm_close(world->vm);
	if (world->fd >= 0)
		close(world->fd);
	fakekvm_disable();
}

static struct gmem_probe probe(const struct world *world, enum gmem_feature feature, char *state)
{
	struct gmem_probe seen = { .size = sizeof(seen), .error = 99, .reserved = 99 };

	*state = letter(gmem_vm_probe(world->vm, feature, &seen));
	assert_int_equal(seen.reserved, 0);
	return seen;
}

/* Advice where there is something to be done, and only there. A missing /dev/kvm is absent, and can be passed in. */
static void check_words(const struct gmem_probe *seen, char state)
{
	bool to_do = state == 'F' || state == 'U';

	assert_non_null(seen->facility);
	assert_true(seen->facility[0]);
	assert_true(seen->error <= 0 && seen->error > -4096);
	if (state == 'P')
		assert_int_equal(seen->error, 0);
	if (state == 'F')
		assert_int_not_equal(seen->error, 0);
	if (seen->error == -ENOENT && strcmp(seen->facility, "/dev/kvm") == 0)
		to_do = true;
	assert_int_equal(seen->hint != NULL, to_do);
	if (seen->hint)
		assert_true(seen->hint[0]);
}

static void check_preset(size_t column)
{
	struct world world = enter(presets[column].name, presets[column].has_vm);

	for (size_t i = 0; i < FEATURES; i++) {
		char expected = table[i].states[column], found;
		struct gmem_probe seen = probe(&world, table[i].feature, &found);

		if (expected == 'm')
			expected = machine(table[i].feature);
		if (found != expected)
			fail_msg("%s: %s is %c (%d, %s), not %c", presets[column].name, gmem_feature_name(table[i].feature),
				 found, seen.error, seen.facility, expected);
		check_words(&seen, found);
		assert_int_equal(letter(gmem_vm_probe(world.vm, table[i].feature, NULL)), found); /* the struct is optional */
	}
	leave(&world);
}

#define PRESET_TEST(name, column) \
	static void name(void **state) \
	{ \
		(void)state; \
		check_preset(column); \
	}

PRESET_TEST(features_without_kvm, 0)
PRESET_TEST(features_for_an_ordinary_user, 1)
PRESET_TEST(features_of_6_1, 2)
PRESET_TEST(features_of_6_12, 3)
PRESET_TEST(features_of_6_18, 4)
PRESET_TEST(features_of_7_3, 5)
PRESET_TEST(features_of_sw_protected, 6)
PRESET_TEST(features_of_snp, 7)
PRESET_TEST(features_of_tdx, 8)
PRESET_TEST(features_of_future_upstream, 9)
PRESET_TEST(features_of_future_firecracker, 10)
PRESET_TEST(features_of_arm64, 11)

/* What told, where it tells a person something. */
static void errors_and_facilities(void **state)
{
	static const struct {
		const char *preset;
		bool has_vm;
		enum gmem_feature feature;
		int error;
		const char *facility;
	} rows[] = {
		{ "none", false, GMEM_FEATURE_KVM, -ENOENT, "/dev/kvm" },
		{ "none", false, GMEM_FEATURE_GUEST_MEMFD, -ENOENT, "/dev/kvm" },
		{ "forbidden", false, GMEM_FEATURE_KVM, -EACCES, "/dev/kvm" },
		{ "forbidden", false, GMEM_FEATURE_GUEST_MEMFD_WRITE, -EACCES, "/dev/kvm" },
		{ "forbidden", false, GMEM_FEATURE_UFFD_DEVICE, -EACCES, "/dev/userfaultfd" },
		{ "forbidden", false, GMEM_FEATURE_UFFD_KERNEL_FAULTS, -EPERM, NULL },
		{ "forbidden", false, GMEM_FEATURE_UFFD_EVENT_FORK, -EPERM, "UFFDIO_API" },
		{ "6.1", true, GMEM_FEATURE_USER_MEMORY2, -ENOTTY, "KVM_SET_USER_MEMORY_REGION2" },
		{ "6.1", true, GMEM_FEATURE_GUEST_MEMFD, -ENOTTY, "KVM_SET_USER_MEMORY_REGION2" },
		{ "6.1", true, GMEM_FEATURE_UFFD_WP_ASYNC, 0, "UFFDIO_API" },
		{ "7.3", true, GMEM_FEATURE_CCA_POPULATE, -ENOTTY, "KVM_ARM_RMI_POPULATE" },
		{ "7.3", true, GMEM_FEATURE_SEV_COMMANDS, -ENOTTY, "KVM_MEMORY_ENCRYPT_OP" },
		{ "tdx", true, GMEM_FEATURE_SEV_COMMANDS, -EFAULT, "KVM_MEMORY_ENCRYPT_OP" },
		{ "7.3", true, GMEM_FEATURE_ATTRIBUTES_FILE, -ENOTTY, "KVM_SET_MEMORY_ATTRIBUTES2" },
		{ "7.3", true, GMEM_FEATURE_GUEST_MEMFD_WRITE, -ESPIPE, NULL },
		{ "7.3", true, GMEM_FEATURE_KVM_USERFAULT, -EINVAL, NULL },
		{ "7.3", true, GMEM_FEATURE_UFFD_GUEST_MEMFD_MINOR, -EINVAL, NULL },
		{ "6.18", true, GMEM_FEATURE_PRE_FAULT, 0, "KVM_PRE_FAULT_MEMORY" },
		{ "7.3", true, GMEM_FEATURE_ATTRIBUTES_VM, 0, "KVM_CAP_MEMORY_ATTRIBUTES" },
		{ "arm64", true, GMEM_FEATURE_CCA_POPULATE, -EINVAL, "KVM_ARM_RMI_POPULATE" },
		{ "arm64", true, GMEM_FEATURE_VM_SNP, 0, "KVM_CAP_VM_TYPES" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world world = enter(rows[i].preset, rows[i].has_vm);
		char found;
		struct gmem_probe seen = probe(&world, rows[i].feature, &found);

		if (seen.error != rows[i].error || (rows[i].facility && strcmp(rows[i].facility, seen.facility) != 0))
			fail_msg("%s: %s is %c: %d of %s, not %d of %s", rows[i].preset, gmem_feature_name(rows[i].feature),
				 found, seen.error, seen.facility, rows[i].error, rows[i].facility ? rows[i].facility : "-");
		leave(&world);
	}
}

/* The advice names what has to be changed. */
static void hints_name_what_to_change(void **state)
{
	static const struct {
		enum gmem_feature feature;
		bool has_vm;
		const char *word;
	} rows[] = {
		{ GMEM_FEATURE_KVM, false, "/dev/kvm" },
		{ GMEM_FEATURE_UFFD_DEVICE, false, "/dev/userfaultfd" },
		{ GMEM_FEATURE_UFFD_KERNEL_FAULTS, false, "unprivileged_userfaultfd" },
		{ GMEM_FEATURE_UFFD_EVENT_FORK, false, "CAP_SYS_PTRACE" },
		{ GMEM_FEATURE_MAP_MEMORY, true, "GMEM_VM_RFC_IOCTLS" },
		{ GMEM_FEATURE_POPULATE_IOCTL, true, "GMEM_VM_RFC_IOCTLS" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world world = enter("forbidden", rows[i].has_vm);
		char found;
		struct gmem_probe seen = probe(&world, rows[i].feature, &found);

		assert_non_null(seen.hint);
		if (!strstr(seen.hint, rows[i].word))
			fail_msg("the hint for %s is \"%s\"", gmem_feature_name(rows[i].feature), seen.hint);
		leave(&world);
	}
}

/* Somebody else opened /dev/kvm and made the VM: its features do not depend on who may open the device. */
static void a_vm_fd_is_enough(void **state)
{
	struct world world = enter("forbidden", true);
	char found;

	(void)state;
	for (size_t i = 0; i < FEATURES; i++) {
		char expected = table[i].states[4];

		if (table[i].feature >= GMEM_FEATURE_MEMFD && table[i].feature != GMEM_FEATURE_UFFD_GUEST_MEMFD_WP_ASYNC)
			continue;
		probe(&world, table[i].feature, &found);
		if (found != expected)
			fail_msg("%s is %c, not %c", gmem_feature_name(table[i].feature), found, expected);
	}
	probe(&world, GMEM_FEATURE_UFFD_KERNEL_FAULTS, &found);
	assert_int_equal(found, 'F');
	leave(&world);
}

/* Before there is a VM, /dev/kvm tells what VMs can be made, and nothing of a VM that is not there. */
static void without_a_vm_the_device_is_asked(void **state)
{
	static const struct {
		const char *preset;
		enum gmem_feature feature;
		char expected;
	} rows[] = {
		{ "sw-protected", GMEM_FEATURE_KVM, 'P' },	   { "sw-protected", GMEM_FEATURE_VM_SW_PROTECTED, 'P' },
		{ "sw-protected", GMEM_FEATURE_VM_SNP, 'A' },	   { "snp", GMEM_FEATURE_VM_SNP, 'P' },
		{ "tdx", GMEM_FEATURE_VM_TDX, 'P' },		   { "7.3", GMEM_FEATURE_VM_SW_PROTECTED, 'A' },
		{ "forbidden", GMEM_FEATURE_VM_SW_PROTECTED, 'F' }, { "7.3", GMEM_FEATURE_GUEST_MEMFD, 'U' },
		{ "sw-protected", GMEM_FEATURE_ATTRIBUTES_VM, 'U' }, { "7.3", GMEM_FEATURE_MEMORY_FAULT_EXIT, 'P' },
		{ "snp", GMEM_FEATURE_SEV_COMMANDS, 'U' },	   { "7.3", GMEM_FEATURE_UFFD_GUEST_MEMFD_MINOR, 'U' },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct world world = enter(rows[i].preset, false);
		char found;
		struct gmem_probe seen = probe(&world, rows[i].feature, &found);

		if (found != rows[i].expected)
			fail_msg("%s, no VM: %s is %c (%s), not %c", rows[i].preset, gmem_feature_name(rows[i].feature), found,
				 seen.facility, rows[i].expected);
		leave(&world);
	}
}

/* A memslot of the program's own, by the call that every kernel has. */
static void own_slot(int fd, uint32_t number, uint64_t gpa)
{
	struct kvmi_userspace_memory_region2 region = {
		.slot = number, .guest_phys_addr = gpa, .memory_size = RAW_PAGE, .userspace_addr = 0x10000
	};

	assert_int_equal(ioctl(fd, (unsigned long)KVMI_SET_USER_MEMORY_REGION, &region), 0);
}

static void check_no_trace(const char *preset)
{
	struct world world = enter(preset, true);
	struct fakekvm_slot before[4], after[4];
	struct gt_snapshot *snapshot;

	own_slot(world.fd, 0, 0);
	own_slot(world.fd, 5, UINT64_C(4) << 30);
	assert_int_equal(fakekvm_slots(world.fd, before, 4), 2);
	snapshot = gt_snapshot();
	for (size_t i = 0; i < FEATURES; i++)
		gmem_vm_probe(world.vm, table[i].feature, NULL);
	gt_assert_nothing_leaked(snapshot);
	assert_int_equal(fakekvm_slots(world.fd, after, 4), 2);
	assert_memory_equal(before, after, 2 * sizeof(before[0]));
	leave(&world);
}

static void probes_leave_no_trace(void **state)
{
	(void)state;
	for (size_t i = 2; i < PRESETS; i++)
		check_no_trace(presets[i].name);
}

/* A memslot of the program's where a probe tries its own: at the last number, and at any guest address. */
static void memslots_do_not_hide_features(void **state)
{
	struct world world = enter("future-upstream", true);
	char found;

	(void)state;
	own_slot(world.fd, 32763, UINT64_C(1) << 45);
	probe(&world, GMEM_FEATURE_GUEST_MEMFD, &found);
	assert_int_equal(found, 'P');
	probe(&world, GMEM_FEATURE_KVM_USERFAULT, &found);
	assert_int_equal(found, 'P');
	leave(&world);
}

static const struct gt_test tests[] = {
	GT(a_row_for_every_feature, GT_NEEDS_NOTHING),
	GT(features_without_kvm, GT_NEEDS_NOTHING),
	GT(features_for_an_ordinary_user, GT_NEEDS_NOTHING),
	GT(features_of_6_1, GT_NEEDS_NOTHING),
	GT(features_of_6_12, GT_NEEDS_NOTHING),
	GT(features_of_6_18, GT_NEEDS_NOTHING),
	GT(features_of_7_3, GT_NEEDS_NOTHING),
	GT(features_of_sw_protected, GT_NEEDS_NOTHING),
	GT(features_of_snp, GT_NEEDS_NOTHING),
	GT(features_of_tdx, GT_NEEDS_NOTHING),
	GT(features_of_future_upstream, GT_NEEDS_NOTHING),
	GT(features_of_future_firecracker, GT_NEEDS_NOTHING),
	GT(features_of_arm64, GT_NEEDS_NOTHING),
	GT(errors_and_facilities, GT_NEEDS_NOTHING),
	GT(hints_name_what_to_change, GT_NEEDS_NOTHING),
	GT(a_vm_fd_is_enough, GT_NEEDS_NOTHING),
	GT(without_a_vm_the_device_is_asked, GT_NEEDS_NOTHING),
	GT(probes_leave_no_trace, GT_NEEDS_NOTHING),
	GT(memslots_do_not_hide_features, GT_NEEDS_NOTHING),
};

GT_MAIN("probes on every preset", tests)
