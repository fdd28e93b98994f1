/* SPDX-License-Identifier: MIT */
/* What handles are worth after a fork: nothing, and giving them up frees the child's copies only. */
#include "gt.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "err.h"
#include "fakekvm.h"
#include "handles.h"

#define PAGES 8
#define UNTOUCHED ((void *)0x5a5a)

static int query(const struct gmem *mem)
{
	struct gmem_info info = { .size = sizeof(info) };

	return gmem_query(mem, &info);
}

/* A family: a VM with a vCPU, and memory that is mapped, placed and bound. */
static struct family {
	struct gt_snapshot *before;
	int vm_fd;
	struct gmem_vm *vm;
	struct gmem_vcpu *vcpu;
	struct gmem *mem, *placed;
	unsigned char *address, *space;
} family;

static void open_vcpu(struct family *f)
{
	int fd = fakekvm_vcpu(f->vm_fd);

	assert_int_equal(gmem_vcpu_open(f->vm, fd, &f->vcpu), 0);
	close(fd);
}

static void set_up(const char *preset)
{
	struct gmem_map_opts opts = { .size = sizeof(opts) };
	struct family *f = &family;
	void *address;

	*f = (struct family){ .vm_fd = preset ? fakekvm_vm(fakekvm_preset(preset)) : -1 };
	f->space = mmap(NULL, PAGES * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(f->space, MAP_FAILED);
	f->before = gt_snapshot();
	f->vm = open_vm(f->vm_fd);
	if (preset)
		open_vcpu(f);
	f->mem = make_pages(f->vm, PAGES);
	f->placed = make_pages(f->vm, PAGES);
	opts.address = f->space;
	assert_int_equal(gmem_map(f->placed, 0, PAGES * page(), &address, &opts), 0);
	assert_int_equal(gmem_map(f->mem, 0, PAGES * page(), &address, NULL), 0);
	f->address = address;
	f->address[0] = 'a';
	assert_int_equal(gmem_bind(f->mem, 0, 0, 0, 2 * page(), NULL), 0);
}

static void tear_down(void)
{
	gmem_destroy(family.mem);
	gmem_destroy(family.placed);
	gmem_vcpu_close(family.vcpu);
	gmem_vm_close(family.vm);
	gt_assert_nothing_leaked(family.before);
	munmap(family.space, PAGES * page());
	if (family.vm_fd >= 0)
		close(family.vm_fd);
}

/* Evaluated after another sentence was said, so that an old one is not taken for new. */
#define STALE(call, ...) (gmemi_enter("nobody"), gmemi_refuse(-EIO, "nothing"), is_stale(#call, call(__VA_ARGS__)))

static void is_stale(const char *call, int r)
{
	if (r != -ESTALE || strncmp(gmem_last_error(), call, strlen(call)) != 0 || !strstr(gmem_last_error(), "fork"))
		fail_msg("%s returned %d after fork and said: %s", call, r, gmem_last_error());
}

static void use_vm(struct gmem_vm *vm)
{
	struct gmem_probe probe = { .size = sizeof(probe), .error = 77 };
	struct gmem_step step = { .size = sizeof(step), .mechanism = 77 };
	struct gmem_vcpu *vcpu = UNTOUCHED;
	struct gmem *mem = UNTOUCHED;

	STALE(gmem_vm_probe, vm, GMEM_FEATURE_MEMFD, &probe);
	STALE(gmem_vm_explain, vm, GMEM_TASK_CREATE, 0, 0, 0, &step);
	STALE(gmem_create, vm, page(), &mem, NULL);
	STALE(gmem_vcpu_open, vm, 0, &vcpu);
	assert_ptr_equal(mem, UNTOUCHED);
	assert_ptr_equal(vcpu, UNTOUCHED);
	assert_int_equal(probe.error, 77);
	assert_int_equal(step.mechanism, 77);
}

static void use_memory(struct gmem *mem)
{
	struct gmem_info info = { .size = sizeof(info), .length = 77 };
	uint64_t done = 77;
	void *address = UNTOUCHED;

	STALE(gmem_map, mem, 0, page(), &address, NULL);
	STALE(gmem_unmap, mem, 0, page());
	STALE(gmem_bind, mem, 5, 64 * page(), 0, page(), NULL);
	STALE(gmem_unbind, mem, 0);
	STALE(gmem_query, mem, &info);
	STALE(gmem_get_fd, mem, GMEM_FD_MEMORY);
	STALE(gmem_populate, mem, 0, 1, "x", &done, NULL);
	assert_int_equal(done, 0);
	done = 77;
	STALE(gmem_populate_fd, mem, 0, 1, 0, 0, &done, NULL);
	assert_int_equal(done, 0);
	assert_ptr_equal(address, UNTOUCHED);
	assert_int_equal(info.length, 77);
}

static int use_stale_handles(void *arg)
{
	(void)arg;
	use_vm(family.vm);
	use_memory(family.mem);
	use_memory(family.placed);
	assert_int_equal(family.address[0], 'a'); /* the mapping itself is there */
	family.address[0] = 'b';
	return 0;
}

static void every_call_on_a_handle_is_stale_after_fork(void **state)
{
	(void)state;
	set_up(NULL);
	assert_int_equal(gt_in_child(use_stale_handles, NULL), 0);
	assert_int_equal(family.address[0], 'b');
	tear_down();
}

static void the_same_is_so_with_a_vm(void **state)
{
	(void)state;
	set_up("6.18");
	assert_int_equal(gt_in_child(use_stale_handles, NULL), 0);
	tear_down();
}

/* Gives all up in some order; the child's copies of fds, mappings and allocations have to go, and KVM is not told. */
static int give_up(void *arg)
{
	const int *order = arg;
	unsigned int told = family.vm_fd >= 0 ? fakekvm_calls("KVM_SET_USER_MEMORY_REGION") : 0;

	for (int i = 0; i < 4; i++)
		switch (order[i]) {
		case 0:
			gmem_vm_close(family.vm);
			break;
		case 1:
			gmem_destroy(family.mem);
			break;
		case 2:
			gmem_destroy(family.placed);
			break;
		default:
			gmem_vcpu_close(family.vcpu);
		}
	if (family.vm_fd >= 0)
		assert_int_equal(fakekvm_calls("KVM_SET_USER_MEMORY_REGION"), told);
	return (int)gt_leaks(family.before);
}

static void check_giving_up(const char *preset)
{
	static int orders[][4] = { { 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 1, 0, 3, 2 }, { 2, 3, 0, 1 } };

	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		set_up(preset);
		assert_int_equal(gt_in_child(give_up, orders[i]), 0);
		assert_int_equal(query(family.mem), 0);
		assert_int_equal(family.address[0], 'a');
		family.space[page()] = 'p'; /* the parent's placed mapping is still there */
		assert_int_equal(gmem_unbind(family.mem, 0), 0);
		tear_down();
	}
}

static void giving_up_in_a_child_frees_its_copy_only(void **state)
{
	(void)state;
	check_giving_up(NULL);
}

static void giving_up_in_a_child_leaves_the_vm_alone(void **state)
{
	(void)state;
	check_giving_up("6.1");
	check_giving_up("6.18");
}

static int work_anew(void *arg)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = make_pages(vm, PAGES);
	int r = query(mem);

	(void)arg;
	gmem_destroy(mem);
	gmem_vm_close(vm);
	return r;
}

static void a_child_may_open_its_own(void **state)
{
	(void)state;
	set_up(NULL);
	assert_int_equal(gt_in_child(work_anew, NULL), 0);
	tear_down();
}

static int use_in_grandchild(void *arg)
{
	struct gmem_vm *vm = open_vm(-1);

	family.vm = vm;
	family.mem = family.placed = make_pages(vm, PAGES);
	family.address = arg;
	assert_int_equal(gt_in_child(use_stale_handles, NULL), 0);
	assert_int_equal(query(family.mem), 0);
	return 0;
}

static void a_childs_own_handles_are_stale_in_its_child(void **state)
{
	unsigned char *byte = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(byte, MAP_FAILED);
	byte[0] = 'a';
	assert_int_equal(gt_in_child(use_in_grandchild, byte), 0);
	munmap(byte, 1);
}

static const struct gt_test tests[] = {
	GT(every_call_on_a_handle_is_stale_after_fork, GT_NEEDS_NOTHING),
	GT(the_same_is_so_with_a_vm, GT_NEEDS_NOTHING),
	GT(giving_up_in_a_child_frees_its_copy_only, GT_NEEDS_NOTHING),
	GT(giving_up_in_a_child_leaves_the_vm_alone, GT_NEEDS_NOTHING),
	GT(a_child_may_open_its_own, GT_NEEDS_NOTHING),
	GT(a_childs_own_handles_are_stale_in_its_child, GT_NEEDS_NOTHING),
};

GT_MAIN("fork", tests)
