/* SPDX-License-Identifier: MIT */
/* The calls that speak to KVM, with every system call and allocation of them failing in turn, on the stand-in kernel. */
#include "gt.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"
#include "inject.h"
#include "points.h"
#include "wrap.h"

#define PAGES 16
#define MOST_FEATURES 64

static const char *const presets[] = {
	"6.1", "6.12", "6.18", "sw-protected", "future-upstream", "future-firecracker", "arm64"
};

#define PRESETS (sizeof(presets) / sizeof(presets[0]))

static int vm_fd;
static struct gmem_vm *vm;
static struct gmem_vcpu *vcpu;
static struct gmem *mem;

/* All of these are called uncounted. */

static void set_up_vm(const char *preset)
{
	struct gmem_vm_open_opts opts = { .size = sizeof(opts), .flags = GMEM_VM_RFC_IOCTLS };

	vm_fd = fakekvm_vm(fakekvm_preset(preset));
	vm = NULL;
	vcpu = NULL;
	mem = NULL;
	assert_int_equal(gmem_vm_open(vm_fd, &vm, &opts), 0);
}

static void set_up_vcpu(void)
{
	int fd = fakekvm_vcpu(vm_fd);

	assert_int_equal(gmem_vcpu_open(vm, fd, &vcpu), 0);
	close(fd);
}

static void tear_down(void)
{
	gmem_destroy(mem);
	gmem_vcpu_close(vcpu);
	gmem_vm_close(vm);
	close(vm_fd);
}

static int open_a_vm(void *arg)
{
	struct gmem_vm *opened = NULL;
	int r;

	inject_pause();
	vm_fd = fakekvm_vm(fakekvm_preset(arg));
	inject_resume();
	r = gmem_vm_open(vm_fd, &opened, NULL);
	assert_int_equal(r == 0, opened != NULL);
	gmem_vm_close(opened);
	inject_pause();
	close(vm_fd);
	inject_resume();
	return r;
}

static void opening_and_closing_a_vm(void **state)
{
	char preset[] = "6.18";

	(void)state;
	each(open_a_vm, preset);
}

static int open_a_vcpu(void *arg)
{
	struct gmem_vcpu *opened = NULL;
	int fd, r;

	inject_pause();
	set_up_vm(arg);
	fd = fakekvm_vcpu(vm_fd);
	inject_resume();
	r = gmem_vcpu_open(vm, fd, &opened);
	assert_int_equal(r == 0, opened != NULL);
	gmem_vcpu_close(opened);
	inject_pause();
	close(fd);
	tear_down();
	inject_resume();
	return r;
}

static void opening_and_closing_a_vcpu(void **state)
{
	char preset[] = "6.18", future[] = "future-firecracker";

	(void)state;
	each(open_a_vcpu, preset);
	each(open_a_vcpu, future);
}

/* Probes */

struct question {
	const char *preset;
	enum gmem_feature feature;
	int state; /* without a failure */
};

static int probe_one(void *arg)
{
	const struct question *question = arg;
	struct gmem_probe probe = { .size = sizeof(probe) };
	int state, again;

	inject_pause();
	set_up_vm(question->preset);
	set_up_vcpu();
	inject_resume();
	state = gmem_vm_probe(vm, question->feature, &probe);
	inject_pause();
	assert_true(state >= GMEM_UNDETERMINED && state <= GMEM_PRESENT);
	assert_non_null(probe.facility);
	again = gmem_vm_probe(vm, question->feature, NULL);
	if (was_transient() && again != question->state)
		fail_msg("%s: %s is %s for good, not %s, after %s", question->preset, gmem_feature_name(question->feature),
			 gmem_state_name((enum gmem_state)again), gmem_state_name((enum gmem_state)question->state),
			 inject_describe());
	tear_down();
	inject_resume();
	return state == question->state ? 0 : -EIO;
}

static bool ask_first(struct question *question)
{
	unsigned long calls;

	set_up_vm(question->preset);
	set_up_vcpu();
	inject_arm(0, 0);
	question->state = gmem_vm_probe(vm, question->feature, NULL);
	calls = inject_disarm();
	tear_down();
	return calls > 0;
}

static void probing_every_feature(void **state)
{
	unsigned long points = 0;

	(void)state;
	for (size_t i = 0; i < PRESETS; i++) {
		for (enum gmem_feature feature = 1; feature <= GMEM_FEATURE_POPULATE_IOCTL + 6; feature++) {
			struct question question = { presets[i], feature, 0 };

			if (ask_first(&question))
				points = each(probe_one, &question);
		}
		fakekvm_disable();
	}
	assert_true(points > 100);
}

static void probing_userfaultfd_on_a_guest_memfd(void **state)
{
	(void)state;
	for (enum gmem_feature f = GMEM_FEATURE_UFFD_GUEST_MEMFD_MINOR; f <= GMEM_FEATURE_UFFD_GUEST_MEMFD_WP_ASYNC; f++) {
		struct question question = { "future-upstream", f, 0 };

		assert_true(ask_first(&question));
		each(probe_one, &question);
	}
}

static int explain_one(void *arg)
{
	enum gmem_task task = *(enum gmem_task *)arg;
	int r;

	inject_pause();
	set_up_vm("future-upstream");
	inject_resume();
	r = explain_rows(vm, task);
	inject_pause();
	tear_down();
	inject_resume();
	return r;
}

static void explaining_every_task(void **state)
{
	(void)state;
	for (enum gmem_task task = 1; gmem_task_name(task); task++)
		each(explain_one, &task);
}

/* Memory */

struct creation {
	const char *preset;
	uint64_t need;
	enum gmem_mechanism mechanism; /* without a failure */
};

static enum gmem_mechanism made_by(const struct gmem *made)
{
	return (enum gmem_mechanism)info_of(made).mechanism;
}

static int create_memory(void *arg)
{
	const struct creation *creation = arg;
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = creation->need };
	struct gmem *made = NULL;
	int r;

	inject_pause();
	set_up_vm(creation->preset);
	inject_resume();
	r = gmem_create(vm, PAGES * page(), &made, &opts);
	assert_int_equal(r == 0, made != NULL);
	gmem_destroy(made);
	inject_pause();
	if (was_transient()) {
		assert_int_equal(gmem_create(vm, PAGES * page(), &mem, &opts), 0);
		if (made_by(mem) != creation->mechanism)
			fail_msg("%s for good, after %s", gmem_mechanism_name(made_by(mem)), inject_describe());
	}
	tear_down();
	inject_resume();
	return r;
}

static void creating_and_destroying_memory(void **state)
{
	static struct creation creations[] = {
		{ "6.1", 0, GMEM_MECH_MEMFD },
		{ "6.18", 0, GMEM_MECH_GUEST_MEMFD },
		{ "6.18", GMEM_NEED_LAZY, GMEM_MECH_MEMFD },
		{ "sw-protected", GMEM_NEED_PRIVATE | GMEM_NEED_MAPPABLE, GMEM_MECH_GUEST_MEMFD_PAIR },
		{ "future-upstream", 0, GMEM_MECH_GUEST_MEMFD },
		{ "future-upstream", GMEM_NEED_LAZY | GMEM_NEED_MAPPABLE, GMEM_MECH_GUEST_MEMFD },
		{ "future-firecracker", GMEM_NEED_HIDDEN, GMEM_MECH_GUEST_MEMFD },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(creations) / sizeof(creations[0]); i++) {
		each(create_memory, &creations[i]);
		fakekvm_disable();
	}
}

/* Memslots */

static int bind(uint64_t flags)
{
	struct gmem_bind_opts opts = { .size = sizeof(opts), .flags = flags };

	return gmem_bind(mem, 1, 0, page(), 4 * page(), &opts);
}

static void set_up_memory(const char *preset)
{
	set_up_vm(preset);
	assert_int_equal(gmem_create(vm, PAGES * page(), &mem, NULL), 0);
}

/* Codes by which KVM says that there is no such memslot, or no such VM any more: with one there, that is a lie. */
static bool was_a_lie(void)
{
	return strstr(inject_describe(), strerror(EINVAL)) || strstr(inject_describe(), strerror(EIO));
}

/* The record agrees with KVM, whatever failed. */
static int bind_and_unbind(void *arg)
{
	int r, last;

	inject_pause();
	set_up_memory(arg);
	inject_resume();
	r = bind(GMEM_BIND_PLAIN);
	assert_int_equal(info_of(mem).slots, r == 0);
	assert_int_equal(slot_count(vm_fd), r == 0);
	if (r == 0)
		r = bind(GMEM_BIND_PLAIN | GMEM_BIND_DIRTY_LOG);
	last = info_of(mem).slots ? gmem_unbind(mem, 1) : 0;
	assert_true(was_a_lie() || info_of(mem).slots == slot_count(vm_fd));
	inject_pause();
	if (info_of(mem).slots)
		assert_int_equal(gmem_unbind(mem, 1), 0);
	assert_int_equal(gmem_unmap(mem, 0, PAGES * page()), 0);
	tear_down();
	inject_resume();
	return r ? r : last;
}

static int bind_file(void *arg)
{
	int r;

	inject_pause();
	set_up_memory(arg);
	inject_resume();
	r = bind(0);
	assert_int_equal(info_of(mem).slots, r == 0);
	assert_int_equal(slot_count(vm_fd), r == 0);
	if (r == 0)
		r = gmem_unbind(mem, 1);
	inject_pause();
	tear_down();
	inject_resume();
	return r;
}

static void binding_and_unbinding(void **state)
{
	char old[] = "6.1", now[] = "6.18";

	(void)state;
	each(bind_and_unbind, old);
	fakekvm_disable();
	each(bind_and_unbind, now);
	each(bind_file, now);
}

/* A memslot that cannot be deleted keeps its mapping, on which the guest may run: that is no leak. */
static int destroy_bound(void *arg)
{
	void *address;

	inject_pause();
	set_up_memory(arg);
	assert_int_equal(gmem_map(mem, 0, PAGES * page(), &address, NULL), 0);
	assert_int_equal(bind(0), 0);
	inject_resume();
	gmem_destroy(mem);
	gmem_vm_close(vm);
	inject_pause();
	if (slot_count(vm_fd) && !was_a_lie())
		assert_int_equal(munmap(address, PAGES * page()), 0);
	close(vm_fd);
	inject_resume();
	return 0;
}

static void destroying_what_is_bound(void **state)
{
	char old[] = "6.1", now[] = "6.18";

	(void)state;
	each(destroy_bound, old);
	fakekvm_disable();
	each(destroy_bound, now);
}

static const struct gt_test tests[] = {
	GT(opening_and_closing_a_vm, GT_NEEDS_NOTHING),
	GT(opening_and_closing_a_vcpu, GT_NEEDS_NOTHING),
	GT(probing_every_feature, GT_NEEDS_NOTHING),
	GT(probing_userfaultfd_on_a_guest_memfd, GT_NEEDS_NOTHING),
	GT(explaining_every_task, GT_NEEDS_NOTHING),
	GT(creating_and_destroying_memory, GT_NEEDS_NOTHING),
	GT(binding_and_unbinding, GT_NEEDS_NOTHING),
	GT(destroying_what_is_bound, GT_NEEDS_NOTHING),
};

GT_MAIN("inject_kvm", tests)
