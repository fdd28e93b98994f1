/* SPDX-License-Identifier: MIT */
/* gmem_create() on the stand-in kernel: what it asks KVM for, what its fds are like, what it does when KVM changes its mind. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "fakekvm_int.h" /* the flags that a file was made with */
#include "gt.h"
#include "inject.h"

#define LENGTH (UINT64_C(2) << 20)
#define MAPPABLE GMEM_NEED_MAPPABLE
#define PRIVATE GMEM_NEED_PRIVATE
#define LAZY GMEM_NEED_LAZY
#define HIDDEN GMEM_NEED_HIDDEN
#define CREATE "KVM_CREATE_GUEST_MEMFD"

static struct gmem_vm *enter_config(const struct fakekvm_config *config)
{
	struct gmem_vm *vm;
	int fd;

	fakekvm_enable(config);
	fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(fd, &vm, NULL), 0);
	close(fd);
	return vm;
}

static struct gmem_vm *enter(const char *preset)
{
	return enter_config(fakekvm_preset(preset));
}

static int create(struct gmem_vm *vm, uint64_t need, uint32_t backing, struct gmem **mem)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need, .backing = backing };

	*mem = NULL;
	return gmem_create(vm, LENGTH, mem, &opts);
}

static struct gmem *created(struct gmem_vm *vm, uint64_t need)
{
	struct gmem *mem;

	assert_int_equal(create(vm, need, 0, &mem), 0);
	return mem;
}

static struct gmem_info query(const struct gmem *mem)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(mem, &info), 0);
	return info;
}

/* What KVM was asked for. */
static uint64_t flags_of(const struct gmem *mem)
{
	const struct fake_object *file;
	uint64_t flags, size;

	fake_lock();
	file = fake_find(gmem_get_fd(mem, GMEM_FD_MEMORY));
	flags = file && file->kind == FAKE_GMEM ? file->flags : UINT64_MAX;
	size = file ? file->size : 0;
	fake_unlock();
	assert_int_equal(size, LENGTH);
	return flags;
}

/* Flags */

#define MMAP KVMI_GUEST_MEMFD_MMAP
#define SHARED (KVMI_GUEST_MEMFD_MMAP | KVMI_GUEST_MEMFD_INIT_SHARED)
#define BIT2 KVMI_GUEST_MEMFD_BIT2
#define BIT3 KVMI_GUEST_MEMFD_BIT3

static void flags_for_each_need(void **state)
{
	static const struct {
		const char *preset;
		uint64_t need, flags;
	} rows[] = {
		{ "6.18", 0, SHARED },
		{ "7.3", 0, SHARED },
		{ "7.3", MAPPABLE, SHARED },
		{ "arm64", 0, SHARED },
		{ "future-upstream", MAPPABLE, SHARED | BIT2 },			 /* write() */
		{ "future-upstream", MAPPABLE | LAZY, SHARED | BIT2 },
		{ "future-upstream", MAPPABLE | PRIVATE, SHARED | BIT2 },	 /* in place */
		{ "future-firecracker", MAPPABLE, SHARED | BIT3 },		 /* write() again */
		{ "future-firecracker", HIDDEN, MMAP | BIT2 | BIT3 },		 /* the guest only: not shared */
		{ "future-firecracker", HIDDEN | MAPPABLE, SHARED | BIT2 | BIT3 },
		{ "sw-protected", PRIVATE | MAPPABLE, 0 },			 /* the private half */
		{ "snp", PRIVATE | MAPPABLE, 0 },
		{ "tdx", PRIVATE, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct gmem_vm *vm = enter(rows[i].preset);
		struct gmem *mem = created(vm, rows[i].need);

		if (flags_of(mem) != rows[i].flags)
			fail_msg("%s, needs 0x%llx: flags 0x%llx, not 0x%llx", rows[i].preset, (unsigned long long)rows[i].need,
				 (unsigned long long)flags_of(mem), (unsigned long long)rows[i].flags);
		gmem_destroy(mem);
		gmem_vm_close(vm);
	}
}

/* Neither write() nor anything else besides: MMAP alone serves the guest from the file and keeps the host out. */
static void hidden_memory_where_there_is_no_write(void **state)
{
	struct fakekvm_config config = *fakekvm_preset("future-firecracker");
	struct gmem_vm *vm;
	struct gmem *mem;

	(void)state;
	fakekvm_set_cap(&config, KVMI_CAP_GUEST_MEMFD_FLAGS, 7, 7);
	config.gmem_flags = 7;
	config.gmem_write = 0;
	vm = enter_config(&config);
	mem = created(vm, HIDDEN);
	assert_int_equal(flags_of(mem), MMAP | BIT2);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

/* userfaultfd takes shared files only: without that nobody could serve this memory. */
static void lazy_memory_is_shared(void **state)
{
	struct gmem_vm *vm = enter("future-upstream");
	struct gmem *mem = created(vm, LAZY);

	(void)state;
	if (query(mem).mechanism == GMEM_MECH_GUEST_MEMFD)
		assert_int_equal(flags_of(mem) & SHARED, SHARED);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

/* A moment without fds or memory must not make other memory than a good moment: its flags are for life. */
static void check_shortage(struct gmem_vm *vm, uint64_t need, int error, uint64_t flags)
{
	bool fired = true;

	for (unsigned long nth = 1; fired; nth++) {
		struct gmem *mem;

		inject_arm(nth, error);
		create(vm, need, 0, &mem);
		inject_disarm();
		fired = inject_fired();
		if (mem && flags_of(mem) != flags)
			fail_msg("call %lu, %s, failed: flags 0x%llx, not 0x%llx", nth, inject_where(),
				 (unsigned long long)flags_of(mem), (unsigned long long)flags);
		gmem_destroy(mem);
	}
}

static void shortages_do_not_change_the_memory(void **state)
{
	struct gmem_vm *vm = enter("future-firecracker");

	(void)state;
	gmem_destroy(created(vm, HIDDEN)); /* everything has been asked */
	check_shortage(vm, HIDDEN, EMFILE, MMAP | BIT2 | BIT3);
	check_shortage(vm, HIDDEN, ENOMEM, MMAP | BIT2 | BIT3);
	check_shortage(vm, MAPPABLE, EMFILE, SHARED | BIT3);
	gmem_vm_close(vm);
}

/* fds */

static void check_fd(const struct gmem *mem, enum gmem_fd_kind kind, bool expected)
{
	int fd = gmem_get_fd(mem, kind);

	if (!expected) {
		assert_int_equal(fd, -ENOENT);
		return;
	}
	assert_true(fd >= 3);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static int fds_below_3(void)
{
	return (fcntl(0, F_GETFD) >= 0) + (fcntl(1, F_GETFD) >= 0) + (fcntl(2, F_GETFD) >= 0);
}

static void check_fds(const char *preset, uint64_t need)
{
	struct gmem_vm *vm = enter(preset);
	int before = fds_below_3();
	struct gmem *mem = created(vm, need);

	check_fd(mem, GMEM_FD_MEMORY, true);
	check_fd(mem, GMEM_FD_SHARED_HALF, query(mem).mechanism == GMEM_MECH_GUEST_MEMFD_PAIR);
	check_fd(mem, GMEM_FD_PAGE_MAP, need & LAZY);
	assert_int_equal(fds_below_3(), before);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void check_all_fds(void)
{
	check_fds("7.3", MAPPABLE);
	check_fds("sw-protected", PRIVATE | MAPPABLE);
	check_fds("6.1", MAPPABLE);
	check_fds("7.3", MAPPABLE | LAZY);
	check_fds("future-upstream", MAPPABLE | LAZY);
}

/* The stand-in's guest_memfds have no close-on-exec, as the kernel's; with stdin closed they get its number. */
static void fds_are_high_and_close_on_exec(void **state)
{
	int saved = fcntl(0, F_DUPFD_CLOEXEC, 100);

	(void)state;
	check_all_fds();
	close(0);
	check_all_fds();
	assert_int_equal(dup2(saved, 0), 0);
	close(saved);
}

/* Named backings */

static void named_backings_are_never_replaced(void **state)
{
	static const struct {
		const char *preset;
		uint64_t need;
		uint32_t backing;
		int result;
		enum gmem_mechanism mechanism;
	} rows[] = {
		{ "7.3", MAPPABLE, GMEM_BACKING_MEMFD, 0, GMEM_MECH_MEMFD },
		{ "7.3", MAPPABLE, GMEM_BACKING_GUEST_MEMFD, 0, GMEM_MECH_GUEST_MEMFD },
		{ "sw-protected", PRIVATE | MAPPABLE, GMEM_BACKING_GUEST_MEMFD, 0, GMEM_MECH_GUEST_MEMFD_PAIR },
		{ "future-upstream", LAZY | MAPPABLE, GMEM_BACKING_MEMFD, 0, GMEM_MECH_MEMFD },
		{ "6.1", MAPPABLE, GMEM_BACKING_GUEST_MEMFD, -EOPNOTSUPP, 0 },
		{ "6.12", MAPPABLE, GMEM_BACKING_GUEST_MEMFD, -EOPNOTSUPP, 0 },
		{ "sw-protected", MAPPABLE, GMEM_BACKING_GUEST_MEMFD, -EOPNOTSUPP, 0 },
		{ "7.3", LAZY | MAPPABLE, GMEM_BACKING_GUEST_MEMFD, -EOPNOTSUPP, 0 },
		{ "7.3", GMEM_NEED_HUGE_2M | MAPPABLE, GMEM_BACKING_GUEST_MEMFD, -EOPNOTSUPP, 0 },
		{ "7.3", GMEM_NEED_HUGE_2M | MAPPABLE, GMEM_BACKING_MEMFD, -EOPNOTSUPP, 0 },
		{ "sw-protected", PRIVATE | MAPPABLE, GMEM_BACKING_MEMFD, -EOPNOTSUPP, 0 },
		{ "future-firecracker", HIDDEN, GMEM_BACKING_MEMFD, -EOPNOTSUPP, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct gmem_vm *vm = enter(rows[i].preset);
		struct gmem *mem;
		int r = create(vm, rows[i].need, rows[i].backing, &mem);

		if (r != rows[i].result || (mem && query(mem).mechanism != rows[i].mechanism))
			fail_msg("row %zu: %d, %s", i, r, gmem_last_error());
		if (mem)
			assert_int_equal(query(mem).backing, rows[i].backing);
		gmem_destroy(mem);
		gmem_vm_close(vm);
	}
}

/* Demotion */

static struct {
	int count;
	char text[512];
} warnings;

static void hear(void *user, enum gmem_log_level level, const char *text)
{
	(void)user;
	assert_int_equal(level, GMEM_LOG_WARNING);
	warnings.count++;
	snprintf(warnings.text, sizeof(warnings.text), "%s", text);
}

static void listen(void)
{
	warnings.count = 0;
	gmem_set_log(GMEM_LOG_WARNING, hear, NULL);
}

/* A VM that has been asked everything: the next KVM_CREATE_GUEST_MEMFD is that of the memory. */
static struct gmem_vm *enter_known(const char *preset)
{
	struct gmem_vm *vm = enter(preset);

	gmem_destroy(created(vm, 0));
	return vm;
}

static struct gmem_step row_of(struct gmem_vm *vm, uint32_t index)
{
	struct gmem_step step = { .size = sizeof(step) };

	assert_int_equal(gmem_vm_explain(vm, GMEM_TASK_CREATE, 0, 0, index, &step), 1);
	return step;
}

static void expect_demoted(struct gmem_vm *vm)
{
	struct gmem_step step = row_of(vm, 0);

	assert_int_equal(step.mechanism, GMEM_MECH_GUEST_MEMFD);
	assert_int_equal(step.chosen, 0);
	assert_non_null(strstr(step.why, "demoted"));
	assert_int_equal(row_of(vm, 3).mechanism, GMEM_MECH_MEMFD);
	assert_int_equal(row_of(vm, 3).chosen, 1);
}

static void check_demotion(int error)
{
	struct gmem_vm *vm = enter_known("7.3"), *other;
	unsigned int calls;
	struct gmem *mem;
	int fd = fakekvm_vm(NULL);

	assert_int_equal(row_of(vm, 0).chosen, 1);
	fakekvm_script(CREATE, error, 1, 0);
	listen();
	mem = created(vm, 0);
	assert_int_equal(query(mem).mechanism, GMEM_MECH_MEMFD);
	assert_int_equal(warnings.count, 1);
	assert_non_null(strstr(warnings.text, "gmem_create: guest_memfd"));
	gmem_destroy(mem);
	calls = fakekvm_calls(CREATE);
	expect_demoted(vm);
	mem = created(vm, 0); /* it would work again, but is not tried */
	assert_int_equal(query(mem).mechanism, GMEM_MECH_MEMFD);
	assert_int_equal(fakekvm_calls(CREATE), calls);
	assert_int_equal(warnings.count, 1);
	gmem_destroy(mem);
	assert_int_equal(gmem_vm_open(fd, &other, NULL), 0); /* one VM's loss is not another's */
	mem = created(other, 0);
	assert_int_equal(query(mem).mechanism, GMEM_MECH_GUEST_MEMFD);
	gmem_destroy(mem);
	gmem_set_log(0, NULL, NULL);
	gmem_vm_close(other);
	gmem_vm_close(vm);
	close(fd);
}

static void what_turns_out_absent_is_demoted(void **state)
{
	(void)state;
	check_demotion(ENOTTY);
	check_demotion(ENOSYS);
}

static void a_named_backing_is_demoted_and_not_replaced(void **state)
{
	struct gmem_vm *vm = enter_known("7.3");
	struct gmem *mem;

	(void)state;
	assert_int_equal(row_of(vm, 0).chosen, 1);
	fakekvm_script(CREATE, ENOTTY, 1, 0);
	assert_int_equal(create(vm, 0, GMEM_BACKING_GUEST_MEMFD, &mem), -EOPNOTSUPP);
	assert_null(mem);
	assert_non_null(strstr(gmem_last_error(), "demoted"));
	expect_demoted(vm);
	assert_int_equal(create(vm, 0, GMEM_BACKING_GUEST_MEMFD, &mem), -EOPNOTSUPP);
	gmem_vm_close(vm);
}

static void other_errors_are_returned(void **state)
{
	static const int errors[] = { EACCES, EPERM, ENOMEM, EINVAL, EMFILE, ENFILE, EIO };
	struct gmem_vm *vm = enter_known("7.3");
	struct gmem *mem;

	(void)state;
	assert_int_equal(row_of(vm, 0).chosen, 1);
	listen();
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fakekvm_script(CREATE, errors[i], 1, 0);
		assert_int_equal(create(vm, 0, 0, &mem), -errors[i]);
		assert_null(mem);
		assert_non_null(strstr(gmem_last_error(), "gmem_create: " CREATE " failed"));
		assert_non_null(strstr(gmem_last_error(), "from the kernel"));
		assert_int_equal(row_of(vm, 0).chosen, 1);
	}
	assert_int_equal(warnings.count, 0);
	mem = created(vm, 0);
	assert_int_equal(query(mem).mechanism, GMEM_MECH_GUEST_MEMFD);
	gmem_destroy(mem);
	gmem_set_log(0, NULL, NULL);
	gmem_vm_close(vm);
}

/* The second call of a creation on 6.1 that has asked everything before. */
static int create_with_memfd_error(struct gmem_vm *vm, int error, struct gmem **mem)
{
	int r;

	inject_arm(2, error);
	r = create(vm, 0, 0, mem);
	inject_disarm();
	assert_string_equal(inject_where(), "memfd_create");
	return r;
}

static void memfd_create_on_old_kernels(void **state)
{
	struct gmem_vm *vm = enter_known("6.1");
	struct gmem *mem;

	(void)state;
	assert_int_equal(create_with_memfd_error(vm, EINVAL, &mem), 0); /* MFD_NOEXEC_SEAL came with 6.3 */
	assert_int_equal(fcntl(gmem_get_fd(mem, GMEM_FD_MEMORY), F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	gmem_destroy(mem);
	assert_int_equal(create_with_memfd_error(vm, EMFILE, &mem), -EMFILE);
	assert_int_equal(row_of(vm, 3).chosen, 1);
	assert_int_equal(create_with_memfd_error(vm, ENOSYS, &mem), -EOPNOTSUPP);
	assert_int_equal(row_of(vm, 3).chosen, 0);
	gmem_vm_close(vm);
}

static const struct gt_test tests[] = {
	GT(flags_for_each_need, GT_NEEDS_NOTHING),
	GT(hidden_memory_where_there_is_no_write, GT_NEEDS_NOTHING),
	GT(lazy_memory_is_shared, GT_NEEDS_NOTHING),
	GT(shortages_do_not_change_the_memory, GT_NEEDS_NOTHING),
	GT(fds_are_high_and_close_on_exec, GT_NEEDS_NOTHING),
	GT(named_backings_are_never_replaced, GT_NEEDS_NOTHING),
	GT(what_turns_out_absent_is_demoted, GT_NEEDS_NOTHING),
	GT(a_named_backing_is_demoted_and_not_replaced, GT_NEEDS_NOTHING),
	GT(other_errors_are_returned, GT_NEEDS_NOTHING),
	GT(memfd_create_on_old_kernels, GT_NEEDS_NOTHING),
};

GT_MAIN("creating on the stand-in kernel", tests)
