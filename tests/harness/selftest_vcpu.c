/* SPDX-License-Identifier: MIT */
/* The stand-in's vCPUs, told to map guest memory: by KVM_PRE_FAULT_MEMORY and by the two postings before it. */
#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fakekvm.h"
#include "gt.h"
#include "raw.h"

#define PAGE RAW_PAGE
#define WRITE 1

struct way {
	const char *call;
	unsigned long request;
	bool in_pages;     /* the range is, and there are flags */
	bool tells_errors; /* of a call that did a part */
};

static const struct way pre_fault = { "KVM_PRE_FAULT_MEMORY", KVMI_PRE_FAULT_MEMORY, false, false };
static const struct way map_memory = { "KVM_MAP_MEMORY", KVMI_MAP_MEMORY_V2, false, true };
static const struct way map_memory_v1 = { "KVM_MAP_MEMORY v1", KVMI_MAP_MEMORY_V1, true, true };
static const struct way *const ways[] = { &pre_fault, &map_memory, &map_memory_v1 };
#define WAYS (sizeof(ways) / sizeof(ways[0]))

struct vm {
	int fd, vcpu;
};

/* A VM that knows all ways, with memslots at pages [0, 8) and [8, 16), and [32, 40). */
static struct vm new_vm(void)
{
	struct raw_slot slots[] = {
		{ .slot = 0, .gpa = 0, .size = 8 * PAGE },
		{ .slot = 1, .gpa = 8 * PAGE, .size = 8 * PAGE },
		{ .slot = 2, .gpa = 32 * PAGE, .size = 8 * PAGE },
	};
	struct fakekvm_config config = *fakekvm_preset("7.3");
	struct vm vm;

	fakekvm_know(&config, "KVM_MAP_MEMORY");
	fakekvm_know(&config, "KVM_MAP_MEMORY v1");
	vm.fd = fakekvm_vm(&config);
	vm.vcpu = fakekvm_vcpu(vm.fd);
	for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++)
		assert_int_equal(raw_set_slot(vm.fd, &slots[i]), 0);
	return vm;
}

static void end_vm(struct vm vm)
{
	close(vm.vcpu);
	close(vm.fd);
	fakekvm_disable();
}

/* In pages; *left is what the call leaves to do. */
static long ask(const struct way *way, int vcpu, uint64_t from, uint64_t count, uint64_t flags, uint64_t *left)
{
	uint64_t unit = way->in_pages ? 1 : PAGE, range[8] = { from * unit, count * unit, flags };
	long result = raw_result(ioctl(vcpu, way->request, range));

	if (left)
		*left = range[1] / unit;
	assert_int_equal(range[0] + range[1], (from + count) * unit); /* they move together, or not at all */
	return result;
}

static void range_is_mapped_through_its_memslots(void **state)
{
	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		struct vm vm = new_vm();
		uint64_t left;

		assert_int_equal(ask(ways[i], vm.vcpu, 4, 10, 0, &left), 0);
		assert_int_equal(left, 0);
		assert_int_equal(fakekvm_prefaulted(vm.fd), 10 * PAGE);
		assert_int_equal(fakekvm_vcpu_calls(vm.vcpu), 1);
		assert_int_equal(fakekvm_calls(ways[i]->call), 1);
		end_vm(vm);
	}
}

static void hole_ends_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		struct vm vm = new_vm();
		uint64_t left;

		assert_int_equal(ask(ways[i], vm.vcpu, 14, 4, 0, &left), ways[i]->tells_errors ? -ENOENT : 0);
		assert_int_equal(left, 2);
		assert_int_equal(ask(ways[i], vm.vcpu, 16, 2, 0, &left), -ENOENT);
		assert_int_equal(left, 2);
		assert_int_equal(fakekvm_prefaulted(vm.fd), 2 * PAGE);
		assert_int_equal(fakekvm_vcpu_calls(vm.vcpu), 2);
		end_vm(vm);
	}
}

static void script_stops_it_half_way(void **state)
{
	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		struct vm vm = new_vm();
		uint64_t left;

		fakekvm_script_partial(ways[i]->call, 3 * PAGE, EINTR, 1, 0);
		fakekvm_script_partial(ways[i]->call, 2 * PAGE, 0, 1, 0);
		fakekvm_script_partial(ways[i]->call, 0, EAGAIN, 1, 0);
		fakekvm_script(ways[i]->call, ENOMEM, 1, 0);
		assert_int_equal(ask(ways[i], vm.vcpu, 0, 8, 0, &left), ways[i]->tells_errors ? -EINTR : 0);
		assert_int_equal(left, 5);
		assert_int_equal(ask(ways[i], vm.vcpu, 3, 5, 0, &left), 0);
		assert_int_equal(left, 3);
		assert_int_equal(ask(ways[i], vm.vcpu, 5, 3, 0, &left), -EAGAIN);
		assert_int_equal(left, 3);
		assert_int_equal(ask(ways[i], vm.vcpu, 5, 3, 0, &left), -ENOMEM);
		assert_int_equal(left, 3);
		assert_int_equal(fakekvm_prefaulted(vm.fd), 5 * PAGE);
		end_vm(vm);
	}
}

static void bad_ranges_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < WAYS; i++) {
		struct vm vm = new_vm();
		uint64_t last = UINT64_MAX / PAGE + ways[i]->in_pages; /* the wrap-around, and the number too large for bytes */

		assert_int_equal(ask(ways[i], vm.vcpu, 0, 0, 0, NULL), -EINVAL);
		assert_int_equal(ask(ways[i], vm.vcpu, last, 1, 0, NULL), -EINVAL);
		assert_int_equal(ask(ways[i], vm.vcpu, 0, 1, 16, NULL), -EINVAL);
		assert_int_equal(fakekvm_prefaulted(vm.fd), 0);
		end_vm(vm);
	}
}

static void flags_are_for_the_oldest(void **state)
{
	struct vm vm = new_vm();

	(void)state;
	assert_int_equal(ask(&pre_fault, vm.vcpu, 0, 1, WRITE, NULL), -EINVAL);
	assert_int_equal(ask(&map_memory, vm.vcpu, 0, 1, WRITE, NULL), -EINVAL);
	assert_int_equal(ask(&map_memory_v1, vm.vcpu, 0, 1, WRITE, NULL), 0);
	end_vm(vm);
}

static void odd_bytes_are_refused(void **state)
{
	uint64_t range[8] = { 1, PAGE };
	struct vm vm = new_vm();

	(void)state;
	assert_int_equal(raw_result(ioctl(vm.vcpu, pre_fault.request, range)), -EINVAL);
	assert_int_equal(raw_result(ioctl(vm.vcpu, map_memory.request, range)), -EINVAL);
	end_vm(vm);
}

/* Without paging in hardware all of them are known, and none works. */
static void capability_decides(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("6.18");
	struct vm vm;

	(void)state;
	fakekvm_know(&config, "KVM_MAP_MEMORY");
	fakekvm_know(&config, "KVM_MAP_MEMORY v1");
	vm.fd = fakekvm_vm(&config);
	vm.vcpu = fakekvm_vcpu(vm.fd);
	for (size_t i = 0; i < WAYS; i++) {
		assert_int_equal(raw_known(vm.vcpu, ways[i]->request), -EFAULT);
		assert_int_equal(ask(ways[i], vm.vcpu, 0, 1, 0, NULL), -EOPNOTSUPP);
	}
	assert_int_equal(fakekvm_vcpu_calls(vm.vcpu), WAYS); /* probes are none */
	end_vm(vm);
}

/* A string with one letter for every preset, in the order of fakekvm_preset()'s comment: works, fails, unknown. */
static void presets_know_as_documented(void **state)
{
	static const char *const presets[] = { "none", "forbidden", "6.1", "6.12", "6.18", "7.3", "sw-protected", "snp", "tdx",
					       "future-upstream", "future-firecracker", "arm64" };
	static const char works[] = "ufuwfwwwwwwu";

	(void)state;
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
		struct vm vm = { .fd = fakekvm_vm(fakekvm_preset(presets[i])) };
		long expected = works[i] == 'u' ? -EINVAL : works[i] == 'f' ? -EOPNOTSUPP : -ENOENT;

		vm.vcpu = fakekvm_vcpu(vm.fd);
		assert_int_equal(ask(&pre_fault, vm.vcpu, 0, 1, 0, NULL), expected);
		assert_int_equal(raw_known(vm.vcpu, map_memory.request), -EINVAL);
		assert_int_equal(raw_known(vm.vcpu, map_memory_v1.request), -EINVAL);
		end_vm(vm);
	}
}

#define THREADS 4
#define ROUNDS 200

static void *map_pages(void *arg)
{
	int vcpu = *(int *)arg;

	for (int i = 0; i < ROUNDS; i++)
		if (ask(&map_memory, vcpu, (uint64_t)i % 8, 1, 0, NULL))
			return arg;
	return NULL;
}

static void vcpus_work_side_by_side(void **state)
{
	struct vm vm = new_vm();
	pthread_t threads[THREADS];
	int vcpus[THREADS];
	void *failed;

	(void)state;
	for (int i = 0; i < THREADS; i++) {
		vcpus[i] = fakekvm_vcpu(vm.fd);
		assert_int_equal(pthread_create(&threads[i], NULL, map_pages, &vcpus[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
		assert_int_equal(fakekvm_vcpu_calls(vcpus[i]), ROUNDS);
		close(vcpus[i]);
	}
	assert_int_equal(fakekvm_vcpu_calls(vm.vcpu), 0);
	assert_int_equal(fakekvm_prefaulted(vm.fd), THREADS * ROUNDS * PAGE);
	end_vm(vm);
}

static const struct gt_test tests[] = {
	GT(range_is_mapped_through_its_memslots, GT_NEEDS_NOTHING),
	GT(hole_ends_it, GT_NEEDS_NOTHING),
	GT(script_stops_it_half_way, GT_NEEDS_NOTHING),
	GT(bad_ranges_are_refused, GT_NEEDS_NOTHING),
	GT(flags_are_for_the_oldest, GT_NEEDS_NOTHING),
	GT(odd_bytes_are_refused, GT_NEEDS_NOTHING),
	GT(capability_decides, GT_NEEDS_NOTHING),
	GT(presets_know_as_documented, GT_NEEDS_NOTHING),
	GT(vcpus_work_side_by_side, GT_NEEDS_NOTHING),
};

GT_MAIN("selftest_vcpu", tests)
