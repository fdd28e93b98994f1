/* SPDX-License-Identifier: MIT */
/* Every public call on VMs of the stand-in kernel, with every system call and allocation failing in turn. Besides what
 * inject_each() checks, KVM and the library must agree on memslots after every failure, and what was populated be right. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "gt.h"
#include "inject.h"
#include "wrap.h" /* inject_describe() */

#define PAGE UINT64_C(4096)
#define LENGTH (64 * PAGE)
#define SLOT 2

struct scene {
	const char *preset;
	uint64_t need;

	int fd, vcpu_fd;
	struct gmem_vm *vm;
	struct gmem *mem;
	unsigned char *reserved; /* where mappings are put, so that what is left of them can be swept away */
};

static struct scene scenes[] = {
	{ .preset = "7.3", .need = GMEM_NEED_MAPPABLE },
	{ .preset = "7.3", .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY },
	{ .preset = "sw-protected", .need = GMEM_NEED_MAPPABLE | GMEM_NEED_PRIVATE },
	{ .preset = "future-firecracker", .need = GMEM_NEED_MAPPABLE },
	{ .preset = "future-firecracker", .need = GMEM_NEED_HIDDEN },
};

#define SCENES (sizeof(scenes) / sizeof(scenes[0]))

static unsigned char content[LENGTH];

/* The parts of a body that are not tried. */

static void set_up(struct scene *s)
{
	inject_pause();
	fakekvm_enable(fakekvm_preset(s->preset));
	s->fd = fakekvm_vm(NULL);
	s->vm = NULL;
	s->mem = NULL;
	s->reserved = NULL;
	s->vcpu_fd = fakekvm_vcpu(s->fd);
	inject_resume();
}

static void set_up_vm(struct scene *s)
{
	set_up(s);
	inject_pause();
	assert_int_equal(gmem_vm_open(s->fd, &s->vm, NULL), 0);
	inject_resume();
}

static int create(struct scene *s)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = s->need };

	return gmem_create(s->vm, LENGTH, &s->mem, &opts);
}

static void set_up_memory(struct scene *s)
{
	set_up_vm(s);
	inject_pause();
	assert_int_equal(create(s), 0);
	inject_resume();
}

static int bind(const struct scene *s)
{
	return gmem_bind(s->mem, SLOT, 16 * PAGE, 8 * PAGE, 32 * PAGE, NULL);
}

static void tear_down(struct scene *s)
{
	inject_pause();
	gmem_destroy(s->mem);
	gmem_vm_close(s->vm);
	close(s->vcpu_fd);
	close(s->fd);
	if (s->reserved)
		munmap(s->reserved, LENGTH);
	inject_resume();
}

static uint32_t known_slots(const struct scene *s)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(s->mem, &info), 0);
	return info.slots;
}

/* Was it this that was injected? */
static bool was(int error)
{
	return inject_fired() && strstr(inject_describe(), strerror(error));
}

/* KVM has as many memslots as the library knows of. */
static void expect_slots(const struct scene *s, size_t count)
{
	struct fakekvm_slot slot;
	size_t has = fakekvm_slots(s->fd, &slot, 1);

	inject_pause();
	if (has != count || known_slots(s) != count)
		fail_msg("after %s: %zu memslots, %u known, should be %zu", inject_describe(), has, known_slots(s), count);
	inject_resume();
}

/* Views, probes, explanations */

static int vm_open(void *arg)
{
	struct scene *s = arg;
	int r;

	set_up(s);
	r = gmem_vm_open(s->fd, &s->vm, NULL);
	gmem_vm_close(s->vm);
	s->vm = NULL;
	tear_down(s);
	return r;
}

static int vcpu_open(void *arg)
{
	struct scene *s = arg;
	struct gmem_vcpu *vcpu = NULL;
	int r;

	set_up_vm(s);
	r = gmem_vcpu_open(s->vm, s->vcpu_fd, &vcpu);
	gmem_vcpu_close(vcpu);
	tear_down(s);
	return r;
}

static int probe_all(void *arg)
{
	struct scene *s = arg;
	struct fakekvm_slot slot;
	int worst = 0;

	set_up_vm(s);
	for (int feature = 1; gmem_feature_name((enum gmem_feature)feature); feature++) {
		struct gmem_probe probe = { .size = sizeof(probe) };
		int r = gmem_vm_probe(s->vm, (enum gmem_feature)feature, &probe);

		worst = r < worst ? r : worst;
		assert_non_null(probe.facility);
	}
	assert_int_equal(fakekvm_slots(s->fd, &slot, 1), 0);
	tear_down(s);
	return worst;
}

static int explain_all(void *arg)
{
	struct scene *s = arg;
	struct gmem_step step = { .size = sizeof(step) };
	int r = 0;

	set_up_vm(s);
	for (int task = GMEM_TASK_CREATE; r >= 0 && task <= GMEM_TASK_DISCARD; task++)
		for (uint32_t i = 0; (r = gmem_vm_explain(s->vm, (enum gmem_task)task, s->need, 0, i, &step)) == 1; i++)
			assert_non_null(step.why);
	tear_down(s);
	return r;
}

/* Memory */

static int create_and_destroy(void *arg)
{
	struct scene *s = arg;
	int r;

	set_up_vm(s);
	r = create(s);
	assert_int_equal(r == 0, s->mem != NULL);
	gmem_destroy(s->mem);
	s->mem = NULL;
	tear_down(s);
	return r;
}

static void reserve(struct scene *s)
{
	inject_pause();
	s->reserved = mmap(NULL, LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(s->reserved, MAP_FAILED);
	inject_resume();
}

static int map_and_unmap(void *arg)
{
	struct scene *s = arg;
	struct gmem_map_opts opts = { .size = sizeof(opts) };
	void *address;
	int r;

	set_up_memory(s);
	reserve(s);
	opts.address = s->reserved;
	r = gmem_map(s->mem, PAGE, 8 * PAGE, &address, NULL);
	if (r == 0)
		r = gmem_map(s->mem, 0, LENGTH, &address, &opts);
	if (r == 0)
		r = gmem_unmap(s->mem, 0, LENGTH);
	tear_down(s);
	return r;
}

/* Memslots */

static int bind_once(void *arg)
{
	struct scene *s = arg;
	int r;

	set_up_memory(s);
	r = bind(s);
	expect_slots(s, r == 0);
	inject_pause();
	assert_int_equal(bind(s), 0); /* a second try has all it needs */
	inject_resume();
	tear_down(s);
	return r;
}

static int unbind_once(void *arg)
{
	struct scene *s = arg;
	int r;

	set_up_memory(s);
	inject_pause();
	assert_int_equal(bind(s), 0);
	inject_resume();
	r = gmem_unbind(s->mem, SLOT);
	inject_pause();
	if (r || !was(EINVAL)) /* which says that KVM has no such memslot, and is believed */
		expect_slots(s, r != 0);
	assert_int_equal(gmem_unbind(s->mem, SLOT), r ? 0 : -ENOENT);
	inject_resume();
	tear_down(s);
	return r;
}

static int change_flags(void *arg)
{
	struct scene *s = arg;
	struct gmem_bind_opts opts = { .size = sizeof(opts), .flags = GMEM_BIND_PLAIN };
	int r;

	set_up_memory(s);
	inject_pause();
	assert_int_equal(gmem_bind(s->mem, SLOT, 16 * PAGE, 8 * PAGE, 32 * PAGE, &opts), 0);
	inject_resume();
	opts.flags |= GMEM_BIND_DIRTY_LOG;
	r = gmem_bind(s->mem, SLOT, 16 * PAGE, 8 * PAGE, 32 * PAGE, &opts);
	expect_slots(s, 1);
	tear_down(s);
	return r;
}

/* A mapping that is left because its memslot is; the injected code says whether it must be. */
static void check_left_over(const struct scene *s)
{
	struct fakekvm_slot slot;

	if (!fakekvm_slots(s->fd, &slot, 1))
		return;
	assert_string_equal(inject_where(), "ioctl"); /* only when KVM would not delete it */
	if (!was(EIO) && !was(EINVAL) && slot.hva)
		assert_int_equal(*(volatile unsigned char *)(uintptr_t)slot.hva, 0);
}

static int destroy_while_bound(void *arg)
{
	struct scene *s = arg;
	struct gmem_map_opts opts = { .size = sizeof(opts) };
	void *address;

	set_up_memory(s);
	reserve(s);
	opts.address = s->reserved;
	inject_pause();
	if (s->need & GMEM_NEED_MAPPABLE)
		assert_int_equal(gmem_map(s->mem, 0, LENGTH, &address, &opts), 0);
	assert_int_equal(bind(s), 0);
	inject_resume();
	gmem_destroy(s->mem);
	s->mem = NULL;
	check_left_over(s);
	gmem_vm_close(s->vm);
	s->vm = NULL;
	tear_down(s);
	return 0;
}

/* Content */

static void fill_content(void)
{
	for (size_t i = 0; i < LENGTH; i++)
		content[i] = (unsigned char)(i / PAGE >= 20 && i / PAGE < 30 ? 0 : i % 251 + 1);
}

static void expect_content(const struct scene *s, uint64_t offset, uint64_t length)
{
	void *address;

	if (gmem_map(s->mem, 0, LENGTH, &address, NULL) == 0)
		assert_memory_equal((unsigned char *)address + offset, content + offset, length);
}

/* A kernel that says of a file with data that it has none is believed. */
static bool was_lied_to(void)
{
	return strcmp(inject_where(), "lseek") == 0 && was(ENXIO);
}

/* Goes on where the failure was. A mechanism that was shown to be absent may have been the last: then it cannot. */
static void go_on(struct scene *s, uint64_t offset, uint64_t length, uint64_t done, int result)
{
	int r = 0;

	inject_pause();
	assert_int_equal(result == 0, done == length);
	assert_true(done <= length);
	if (done < length)
		r = gmem_populate(s->mem, offset + done, length - done, content + offset + done, &done, NULL);
	if (r)
		assert_int_equal(r, -EOPNOTSUPP);
	else if (!was_lied_to())
		expect_content(s, offset, length);
	inject_resume();
}

static int populate(void *arg)
{
	struct scene *s = arg;
	bool whole = s->need & GMEM_NEED_HIDDEN;
	uint64_t offset = whole ? PAGE : PAGE + 100, length = 50 * PAGE - (whole ? 0 : 7), done = 99;
	int r;

	set_up_memory(s);
	r = gmem_populate(s->mem, offset, length, content + offset, &done, NULL);
	go_on(s, offset, length, done, r);
	tear_down(s);
	return r;
}

static int populate_fd(void *arg)
{
	struct scene *s = arg;
	uint64_t done = 99;
	int r, source;

	set_up_memory(s);
	inject_pause();
	source = memfd_create("source", 0);
	assert_int_equal(pwrite(source, content, 20 * PAGE, 0), 20 * PAGE); /* then a hole */
	assert_int_equal(pwrite(source, content + 30 * PAGE, 20 * PAGE, 30 * PAGE), 20 * PAGE);
	inject_resume();
	r = gmem_populate_fd(s->mem, 0, 50 * PAGE, source, 0, &done, NULL);
	go_on(s, 0, 50 * PAGE, done, r);
	tear_down(s);
	inject_pause();
	close(source);
	inject_resume();
	return r;
}

/* Views do not depend on needs; what cannot be mapped is refused before anything can fail. */
static bool is_idle(int (*body)(void *arg), size_t i)
{
	if (body == map_and_unmap)
		return !(scenes[i].need & GMEM_NEED_MAPPABLE);
	if (body == change_flags) /* only of plain memslots */
		return scenes[i].need & (GMEM_NEED_PRIVATE | GMEM_NEED_HIDDEN);
	if (body == vm_open || body == vcpu_open || body == probe_all)
		return i && strcmp(scenes[i].preset, scenes[i - 1].preset) == 0;
	return false;
}

static void each(int (*body)(void *arg))
{
	for (size_t i = 0; i < SCENES; i++)
		if (!is_idle(body, i))
			inject_each(body, &scenes[i]);
}

#define INJECTION_TEST(name, body) \
	static void name(void **state) \
	{ \
		(void)state; \
		fill_content(); \
		each(body); \
	}

INJECTION_TEST(opening_a_vm, vm_open)
INJECTION_TEST(opening_a_vcpu, vcpu_open)
INJECTION_TEST(probing_everything, probe_all)
INJECTION_TEST(explaining_everything, explain_all)
INJECTION_TEST(creating, create_and_destroy)
INJECTION_TEST(mapping, map_and_unmap)
INJECTION_TEST(binding, bind_once)
INJECTION_TEST(unbinding, unbind_once)
INJECTION_TEST(changing_flags, change_flags)
INJECTION_TEST(destroying_what_is_bound, destroy_while_bound)
INJECTION_TEST(populating, populate)
INJECTION_TEST(populating_from_a_file, populate_fd)

static const struct gt_test tests[] = {
	GT(opening_a_vm, GT_NEEDS_NOTHING),
	GT(opening_a_vcpu, GT_NEEDS_NOTHING),
	GT(probing_everything, GT_NEEDS_NOTHING),
	GT(explaining_everything, GT_NEEDS_NOTHING),
	GT(creating, GT_NEEDS_NOTHING),
	GT(mapping, GT_NEEDS_NOTHING),
	GT(binding, GT_NEEDS_NOTHING),
	GT(unbinding, GT_NEEDS_NOTHING),
	GT(changing_flags, GT_NEEDS_NOTHING),
	GT(destroying_what_is_bound, GT_NEEDS_NOTHING),
	GT(populating, GT_NEEDS_NOTHING),
	GT(populating_from_a_file, GT_NEEDS_NOTHING),
};

GT_MAIN("failure injection on the stand-in kernel", tests)
