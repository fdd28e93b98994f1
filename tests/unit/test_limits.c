/* SPDX-License-Identifier: MIT */
/* What is said when a limit of the process is reached: fds, the size of files. */
#include "gt.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vcpu.h>
#include <gmem/vm.h>

#include "fakekvm.h"
#include "handles.h"

#define PAGES 8
#define UNTOUCHED ((void *)0x5a5a)

/* No fd left */

#define MOST_FDS 64

static int fillers[MOST_FDS], filler_count;

/* In a child. */
static void use_up_fds(void)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = MOST_FDS;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while ((fillers[filler_count] = dup(STDERR_FILENO)) >= 0)
		filler_count++;
	assert_int_equal(errno, EMFILE);
}

static void free_fds(void)
{
	while (filler_count)
		close(fillers[--filler_count]);
}

static void is_emfile(const char *call, int r)
{
	if (r != -EMFILE || strncmp(gmem_last_error(), call, strlen(call)) != 0 ||
	    !strstr(gmem_last_error(), "EMFILE, from the kernel"))
		fail_msg("%s returned %d without an fd left and said: %s", call, r, gmem_last_error());
}

static int create_twice(void *arg)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = UNTOUCHED;

	if (arg) /* what can be made here is known already */
		gmem_destroy(make_pages(vm, PAGES));
	use_up_fds();
	is_emfile("gmem_create", gmem_create(vm, page(), &mem, NULL));
	assert_ptr_equal(mem, UNTOUCHED);
	free_fds();
	gmem_destroy(make_pages(vm, PAGES));
	gmem_vm_close(vm);
	return 0;
}

static void creation_says_that_no_fd_is_left(void **state)
{
	int known;

	(void)state;
	assert_int_equal(gt_in_child(create_twice, &known), 0);
}

static void the_first_creation_says_so_too(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(create_twice, NULL), 0);
}

static int open_at_limit(void *arg)
{
	int vm_fd = fakekvm_vm(fakekvm_preset("6.18")), vcpu_fd = fakekvm_vcpu(vm_fd);
	struct gmem_vm *vm = open_vm(vm_fd), *other = UNTOUCHED;
	struct gmem_vcpu *vcpu = UNTOUCHED;

	(void)arg;
	use_up_fds();
	is_emfile("gmem_vm_open", gmem_vm_open(vm_fd, &other, NULL));
	is_emfile("gmem_vcpu_open", gmem_vcpu_open(vm, vcpu_fd, &vcpu));
	assert_ptr_equal(other, UNTOUCHED);
	assert_ptr_equal(vcpu, UNTOUCHED);
	gmem_vm_close(vm);
	return 0;
}

static void opening_says_that_no_fd_is_left(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(open_at_limit, NULL), 0);
}

static int probe_at_limit(void *arg)
{
	struct gmem_probe probe = { .size = sizeof(probe) };
	struct gmem_vm *vm = open_vm(-1);

	(void)arg;
	use_up_fds();
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_MEMFD, &probe), GMEM_UNDETERMINED);
	assert_int_equal(probe.error, -EMFILE);
	assert_non_null(strstr(probe.hint, "RLIMIT_NOFILE"));
	free_fds();
	assert_int_equal(gmem_vm_probe(vm, GMEM_FEATURE_MEMFD, &probe), GMEM_PRESENT);
	assert_int_equal(probe.error, 0);
	assert_null(probe.hint);
	gmem_vm_close(vm);
	return 0;
}

static void a_lack_of_fds_is_not_taken_for_absence(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(probe_at_limit, NULL), 0);
}

static int work_at_limit(void *arg)
{
	struct gmem_vm *vm = open_vm(-1), *other = NULL;
	struct gmem *mem = make_pages(vm, PAGES);
	void *address;

	(void)arg;
	use_up_fds();
	assert_int_equal(gmem_vm_open(-1, &other, NULL), 0);
	assert_int_equal(gmem_populate(mem, 1, 5, "hello", NULL, NULL), 0);
	assert_int_equal(gmem_map(mem, 0, page(), &address, NULL), 0);
	assert_memory_equal((char *)address + 1, "hello", 5);
	assert_int_equal(gmem_bind(mem, 0, 0, 0, page(), NULL), 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
	gmem_vm_close(other);
	return 0;
}

static void what_needs_no_fd_works_without_one(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(work_at_limit, NULL), 0);
}

/* The size of files */

static void limit_files(rlim_t most)
{
	struct rlimit limit = { .rlim_cur = most, .rlim_max = RLIM_INFINITY };

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = most;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Beyond this limit the kernel would end the process by SIGXFSZ. */
static int create_large_files(void *arg)
{
	struct gmem *mem = UNTOUCHED;
	struct gmem_vm *vm = open_vm(-1);

	(void)arg;
	limit_files((rlim_t)(PAGES * page()));
	assert_int_equal(gmem_create(vm, (PAGES + 1) * page(), &mem, NULL), -EFBIG);
	assert_non_null(strstr(gmem_last_error(), "RLIMIT_FSIZE"));
	assert_ptr_equal(mem, UNTOUCHED);
	gmem_destroy(make_pages(vm, PAGES));
	gmem_vm_close(vm);
	return 0;
}

static void memory_beyond_the_size_of_files_is_refused(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(create_large_files, NULL), 0);
}

static int populate_large_files(void *arg)
{
	struct gmem_vm *vm = open_vm(-1);
	struct gmem *mem = make_pages(vm, PAGES);
	uint64_t done;
	int r;

	(void)arg;
	limit_files((rlim_t)page());
	r = gmem_populate(mem, 3 * page(), 5, "hello", &done, NULL);
	assert_true(r == 0 || (r == -EFBIG && done == 0));
	r = gmem_populate(mem, page() - 2, 5, "hello", &done, NULL); /* half of it is within the limit */
	assert_true((r == 0 && done == 5) || (r == -EFBIG && done <= 2));
	gmem_destroy(mem);
	gmem_vm_close(vm);
	return 0;
}

static void a_limit_that_came_later_does_not_end_the_process(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(populate_large_files, NULL), 0);
}

static const struct gt_test tests[] = {
	GT(creation_says_that_no_fd_is_left, GT_NEEDS_NOTHING),
	GT(the_first_creation_says_so_too, GT_NEEDS_NOTHING),
	GT(opening_says_that_no_fd_is_left, GT_NEEDS_NOTHING),
	GT(a_lack_of_fds_is_not_taken_for_absence, GT_NEEDS_NOTHING),
	GT(what_needs_no_fd_works_without_one, GT_NEEDS_NOTHING),
	GT(memory_beyond_the_size_of_files_is_refused, GT_NEEDS_NOTHING),
	GT(a_limit_that_came_later_does_not_end_the_process, GT_NEEDS_NOTHING),
};

GT_MAIN("limits", tests)
