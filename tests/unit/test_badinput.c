/* SPDX-License-Identifier: MIT */
/* Bad arguments of every public call: the documented code, a sentence that names the call, outputs untouched, nothing changed.
 * What a fork or a lack of fds does is in test_fork.c and test_limits.c. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"
#include "refusal.h"

#define PAGES 4
#define UNTOUCHED ((void *)0x5a5a)

/* One set for all tests of a program would hide leaks: each test makes its own. */
static struct set {
	struct gmem_vm *vm;
	struct gmem *mem;
	struct gmem_info before;
} set;

static void set_up(void)
{
	make_vmless(&set.vm, &set.mem, PAGES * page(), NULL);
	set.before = info_of(set.mem);
}

/* No refused call has left anything in the memory. */
static void tear_down(void)
{
	struct gmem_info after = info_of(set.mem);
	struct stat about;

	assert_memory_equal(&after, &set.before, sizeof(after));
	assert_int_equal(fstat(gmem_get_fd(set.mem, GMEM_FD_MEMORY), &about), 0);
	assert_int_equal(about.st_blocks, 0);
	gmem_destroy(set.mem);
	gmem_vm_close(set.vm);
}

#define BAD(code, word, call, ...) (spoil_sentence(), bad(#call, call(__VA_ARGS__), code, word))
#define EINVALID(word, call, ...) BAD(-EINVAL, word, call, __VA_ARGS__)

/* vm.h, vcpu.h */

static void opening_a_vm_wants_a_place_for_the_handle(void **state)
{
	(void)state;
	EINVALID("vm is NULL", gmem_vm_open, -1, NULL, NULL);
}

static void vm_fds_below_minus_one_are_refused(void **state)
{
	struct gmem_vm *vm = UNTOUCHED;

	(void)state;
	EINVALID("vm_fd is -2", gmem_vm_open, -2, &vm, NULL);
	EINVALID("vm_fd is", gmem_vm_open, INT_MIN, &vm, NULL);
	assert_ptr_equal(vm, UNTOUCHED);
}

#define FDS 7

/* Everything but a VM and a vCPU. */
static void open_others(int fds[FDS])
{
	fds[0] = memfd_create("test", MFD_CLOEXEC);
	fds[1] = eventfd(0, EFD_CLOEXEC);
	fds[2] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(pipe2(fds + 3, O_CLOEXEC), 0);
	fds[5] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	fds[6] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	for (size_t i = 0; i < FDS; i++)
		assert_true(fds[i] >= 0);
}

static void close_others(const int fds[FDS])
{
	for (size_t i = 0; i < FDS; i++)
		close(fds[i]);
}

static void only_a_vm_is_taken_for_a_vm(void **state)
{
	int fds[FDS], vm_fd = fakekvm_vm(fakekvm_preset("6.18")), vcpu = fakekvm_vcpu(vm_fd);
	struct gmem_vm *vm = UNTOUCHED;

	(void)state;
	open_others(fds);
	for (size_t i = 0; i < FDS; i++)
		EINVALID("is not a VM", gmem_vm_open, fds[i], &vm, NULL);
	EINVALID("is not a VM", gmem_vm_open, vcpu, &vm, NULL);
	close_others(fds);
	BAD(-EBADF, "from the kernel", gmem_vm_open, fds[0], &vm, NULL);
	BAD(-EBADF, "from the kernel", gmem_vm_open, INT_MAX, &vm, NULL);
	assert_ptr_equal(vm, UNTOUCHED);
	close(vcpu);
	close(vm_fd);
}

static void only_a_vcpu_is_taken_for_a_vcpu(void **state)
{
	int fds[FDS], vm_fd = fakekvm_vm(fakekvm_preset("6.18"));
	struct gmem_vcpu *vcpu = UNTOUCHED;
	struct gmem_vm *vm;

	(void)state;
	assert_int_equal(gmem_vm_open(vm_fd, &vm, NULL), 0);
	open_others(fds);
	for (size_t i = 0; i < FDS; i++)
		EINVALID("is not a vCPU", gmem_vcpu_open, vm, fds[i], &vcpu);
	EINVALID("is not a vCPU", gmem_vcpu_open, vm, vm_fd, &vcpu);
	close_others(fds);
	BAD(-EBADF, "from the kernel", gmem_vcpu_open, vm, fds[0], &vcpu);
	BAD(-EBADF, "from the kernel", gmem_vcpu_open, vm, -1, &vcpu);
	EINVALID("vcpu is NULL", gmem_vcpu_open, vm, vm_fd, NULL);
	EINVALID("the VM is NULL", gmem_vcpu_open, NULL, vm_fd, &vcpu);
	assert_ptr_equal(vcpu, UNTOUCHED);
	gmem_vm_close(vm);
	close(vm_fd);
}

static void a_view_without_a_vm_has_no_vcpus(void **state)
{
	struct gmem_vcpu *vcpu = UNTOUCHED;

	(void)state;
	set_up();
	EINVALID("without a VM fd", gmem_vcpu_open, set.vm, 0, &vcpu);
	assert_ptr_equal(vcpu, UNTOUCHED);
	tear_down();
}

static void what_belongs_to_another_process_is_refused(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("6.18");
	struct gmem_vm *vm = UNTOUCHED;
	int vm_fd;

	(void)state;
	config.foreign = true;
	vm_fd = fakekvm_vm(&config);
	BAD(-EIO, "from the kernel", gmem_vm_open, vm_fd, &vm, NULL);
	assert_non_null(strstr(gmem_last_error(), "the process that made the VM"));
	assert_ptr_equal(vm, UNTOUCHED);
	close(vm_fd);
}

static void probes_of_nothing_are_refused(void **state)
{
	struct gmem_probe probe = { .size = 7, .error = 77 };

	(void)state;
	set_up();
	EINVALID("the VM is NULL", gmem_vm_probe, NULL, GMEM_FEATURE_MEMFD, NULL);
	EINVALID("feature 0", gmem_vm_probe, set.vm, GMEM_FEATURE_NONE, NULL);
	EINVALID("feature 51", gmem_vm_probe, set.vm, GMEM_FEATURE_UFFD_RWP_ASYNC + 1, NULL);
	EINVALID("feature -1", gmem_vm_probe, set.vm, (enum gmem_feature)-1, NULL);
	EINVALID("probe->size", gmem_vm_probe, set.vm, GMEM_FEATURE_MEMFD, &probe);
	probe.size = 4097;
	BAD(-E2BIG, "probe->size", gmem_vm_probe, set.vm, GMEM_FEATURE_MEMFD, &probe);
	assert_int_equal(probe.error, 77);
	tear_down();
}

static void explanations_of_nothing_are_refused(void **state)
{
	struct gmem_step step = { .size = sizeof(step), .mechanism = 77 };

	(void)state;
	set_up();
	EINVALID("the VM is NULL", gmem_vm_explain, NULL, GMEM_TASK_CREATE, 0, 0, 0, &step);
	EINVALID("step is NULL", gmem_vm_explain, set.vm, GMEM_TASK_CREATE, 0, 0, 0, NULL);
	EINVALID("task 0", gmem_vm_explain, set.vm, (enum gmem_task)0, 0, 0, 0, &step);
	EINVALID("task 8", gmem_vm_explain, set.vm, GMEM_TASK_DISCARD + 1, 0, 0, 0, &step);
	EINVALID("backing 4", gmem_vm_explain, set.vm, GMEM_TASK_CREATE, 0, GMEM_BACKING_HUGETLB + 1, 0, &step);
	EINVALID("exclude", gmem_vm_explain, set.vm, GMEM_TASK_CREATE, GMEM_NEED_HUGE_2M | GMEM_NEED_HUGE_1G, 0, 0, &step);
	for (unsigned int bit = 6; bit < 64; bit++)
		BAD(-E2BIG, "needs", gmem_vm_explain, set.vm, GMEM_TASK_CREATE, UINT64_C(1) << bit, 0, 0, &step);
	assert_int_equal(gmem_vm_explain(set.vm, GMEM_TASK_CREATE, 0, 0, UINT32_MAX, &step), 0);
	step.size = 7;
	EINVALID("step->size", gmem_vm_explain, set.vm, GMEM_TASK_CREATE, 0, 0, 0, &step);
	step.size = UINT64_MAX;
	BAD(-E2BIG, "step->size", gmem_vm_explain, set.vm, GMEM_TASK_CREATE, 0, 0, 0, &step);
	assert_int_equal(step.mechanism, 77);
	tear_down();
}

/* memory.h */

static void create_with(uint64_t need, uint32_t backing, int code, const char *word)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need, .backing = backing };
	struct gmem *mem = UNTOUCHED;

	BAD(code, word, gmem_create, set.vm, page(), &mem, &opts);
	assert_ptr_equal(mem, UNTOUCHED);
}

static void memory_of_no_kind_is_refused(void **state)
{
	struct gmem *mem = UNTOUCHED;

	(void)state;
	set_up();
	EINVALID("the VM is NULL", gmem_create, NULL, page(), &mem, NULL);
	EINVALID("mem is NULL", gmem_create, set.vm, page(), NULL, NULL);
	assert_ptr_equal(mem, UNTOUCHED);
	create_with(0, GMEM_BACKING_HUGETLB + 1, -EINVAL, "backing 4");
	create_with(0, UINT32_MAX, -EINVAL, "backing");
	create_with(GMEM_NEED_HUGE_2M | GMEM_NEED_HUGE_1G, 0, -EINVAL, "exclude");
	for (unsigned int bit = 6; bit < 64; bit++)
		create_with(UINT64_C(1) << bit | GMEM_NEED_MAPPABLE, 0, -E2BIG, "needs");
	tear_down();
}

static void lengths_that_no_memory_has_are_refused(void **state)
{
	const uint64_t lengths[] = { 0,
				     1,
				     page() - 1,
				     page() + 1,
				     UINT64_MAX,
				     UINT64_MAX - page() + 1,
				     UINT64_C(1) << 63,
				     3 * (UINT64_C(1) << 61),
				     (UINT64_C(1) << 62) + page(),
				     (UINT64_C(1) << 62) - 1 };
	struct gmem *mem = UNTOUCHED;

	(void)state;
	set_up();
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		EINVALID("length", gmem_create, set.vm, lengths[i], &mem, NULL);
	assert_ptr_equal(mem, UNTOUCHED);
	tear_down();
}

static int map_it(uint64_t offset, uint64_t length)
{
	void *address = UNTOUCHED;
	int r = gmem_map(set.mem, offset, length, &address, NULL);

	assert_ptr_equal(address, UNTOUCHED);
	return r;
}

static int unmap_it(uint64_t offset, uint64_t length)
{
	return gmem_unmap(set.mem, offset, length);
}

static int bind_it(uint64_t offset, uint64_t length)
{
	return gmem_bind(set.mem, 1, 0, offset, length, NULL);
}

static int populate_it(uint64_t offset, uint64_t length)
{
	uint64_t done = 77;
	int r = gmem_populate(set.mem, offset, length, "x", &done, NULL);

	assert_int_equal(done, 0);
	return r;
}

static int populate_fd_it(uint64_t offset, uint64_t length)
{
	uint64_t done = 77;
	int r = gmem_populate_fd(set.mem, offset, length, gmem_get_fd(set.mem, GMEM_FD_MEMORY), 0, &done, NULL);

	assert_int_equal(done, 0);
	return r;
}

static const struct {
	const char *name;
	int (*call)(uint64_t offset, uint64_t length);
	bool bytes; /* any alignment will do */
} ranged[] = { { "gmem_map", map_it, false },
	       { "gmem_unmap", unmap_it, false },
	       { "gmem_bind", bind_it, false },
	       { "gmem_populate", populate_it, true },
	       { "gmem_populate_fd", populate_fd_it, true } };

static void check_ranges(const uint64_t (*ranges)[2], size_t count, bool bytes)
{
	for (size_t call = 0; call < sizeof(ranged) / sizeof(ranged[0]); call++)
		for (size_t i = 0; i < count && (bytes || !ranged[call].bytes); i++) {
			spoil_sentence();
			bad(ranged[call].name, ranged[call].call(ranges[i][0], ranges[i][1]), -EINVAL, "length");
		}
}

static void ranges_outside_the_memory_are_refused(void **state)
{
	const uint64_t p = page(), end = PAGES * p, high = UINT64_C(1) << 62, top = UINT64_MAX - p + 1;
	const uint64_t ranges[][2] = { { 0, 0 },       { p, 0 },           { end, 0 },      { end, p },
				       { 0, end + p }, { end - p, 2 * p }, { 2 * end, p },  { high, p },
				       { 0, high },    { high, high },     { high * 2, p }, { 0, high * 2 },
				       { top, p },     { top, 2 * p },     { p, top },      { high * 2, high * 2 },
				       { 2 * p, top }, { top, top } };

	(void)state;
	set_up();
	check_ranges(ranges, sizeof(ranges) / sizeof(ranges[0]), true);
	tear_down();
}

static void unaligned_ranges_are_refused_where_pages_count(void **state)
{
	const uint64_t p = page();
	const uint64_t ranges[][2] = {
		{ 1, p }, { p - 1, p }, { 0, 1 }, { 0, p - 1 }, { 0, p + 1 }, { p / 2, p / 2 }, { 8, 8 }
	};

	(void)state;
	set_up();
	check_ranges(ranges, sizeof(ranges) / sizeof(ranges[0]), false);
	tear_down();
}

static void null_handles_and_outputs_are_refused(void **state)
{
	struct gmem_info info = { .size = sizeof(info), .length = 77 };
	void *address = UNTOUCHED;

	(void)state;
	set_up();
	EINVALID("the memory is NULL", gmem_map, NULL, 0, page(), &address, NULL);
	EINVALID("address is NULL", gmem_map, set.mem, 0, page(), NULL, NULL);
	EINVALID("the memory is NULL", gmem_unmap, NULL, 0, page());
	EINVALID("the memory is NULL", gmem_bind, NULL, 0, 0, 0, page(), NULL);
	EINVALID("the memory is NULL", gmem_unbind, NULL, 0);
	EINVALID("the memory is NULL", gmem_query, NULL, &info);
	EINVALID("info is NULL", gmem_query, set.mem, NULL);
	EINVALID("the memory is NULL", gmem_get_fd, NULL, GMEM_FD_MEMORY);
	assert_ptr_equal(address, UNTOUCHED);
	assert_int_equal(info.length, 77);
	tear_down();
}

static void queries_without_a_sane_size_are_refused(void **state)
{
	static const uint64_t large[] = { 4097, UINT64_C(1) << 62, UINT64_MAX };
	struct gmem_info info = { .length = 77 };

	(void)state;
	set_up();
	for (info.size = 0; info.size < 8; info.size++)
		EINVALID("info->size", gmem_query, set.mem, &info);
	for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
		info.size = large[i];
		BAD(-E2BIG, "info->size", gmem_query, set.mem, &info);
	}
	assert_int_equal(info.length, 77);
	tear_down();
}

static void unknown_kinds_of_fd_are_refused(void **state)
{
	(void)state;
	set_up();
	EINVALID("fd kind 3", gmem_get_fd, set.mem, GMEM_FD_PAGE_MAP + 1);
	EINVALID("fd kind -1", gmem_get_fd, set.mem, (enum gmem_fd_kind)-1);
	BAD(-ENOENT, "pair", gmem_get_fd, set.mem, GMEM_FD_SHARED_HALF);
	tear_down();
}

static void guest_addresses_that_cannot_be_are_refused(void **state)
{
	const uint64_t p = page();

	(void)state;
	set_up();
	EINVALID("gpa", gmem_bind, set.mem, 0, 1, 0, p, NULL);
	EINVALID("gpa", gmem_bind, set.mem, 0, p - 1, 0, p, NULL);
	EINVALID("wraps", gmem_bind, set.mem, 0, UINT64_MAX - p + 1, 0, 2 * p, NULL);
	EINVALID("wraps", gmem_bind, set.mem, 0, UINT64_MAX - 2 * p + 1, 0, 4 * p, NULL);
	BAD(-ENOENT, "slot 0x0", gmem_unbind, set.mem, 0);
	tear_down();
}

static const struct gt_test tests[] = {
	GT(opening_a_vm_wants_a_place_for_the_handle, GT_NEEDS_NOTHING),
	GT(vm_fds_below_minus_one_are_refused, GT_NEEDS_NOTHING),
	GT(only_a_vm_is_taken_for_a_vm, GT_NEEDS_NOTHING),
	GT(only_a_vcpu_is_taken_for_a_vcpu, GT_NEEDS_NOTHING),
	GT(a_view_without_a_vm_has_no_vcpus, GT_NEEDS_NOTHING),
	GT(what_belongs_to_another_process_is_refused, GT_NEEDS_NOTHING),
	GT(probes_of_nothing_are_refused, GT_NEEDS_NOTHING),
	GT(explanations_of_nothing_are_refused, GT_NEEDS_NOTHING),
	GT(memory_of_no_kind_is_refused, GT_NEEDS_NOTHING),
	GT(lengths_that_no_memory_has_are_refused, GT_NEEDS_NOTHING),
	GT(ranges_outside_the_memory_are_refused, GT_NEEDS_NOTHING),
	GT(unaligned_ranges_are_refused_where_pages_count, GT_NEEDS_NOTHING),
	GT(null_handles_and_outputs_are_refused, GT_NEEDS_NOTHING),
	GT(queries_without_a_sane_size_are_refused, GT_NEEDS_NOTHING),
	GT(unknown_kinds_of_fd_are_refused, GT_NEEDS_NOTHING),
	GT(guest_addresses_that_cannot_be_are_refused, GT_NEEDS_NOTHING),
};

GT_MAIN("badinput", tests)
