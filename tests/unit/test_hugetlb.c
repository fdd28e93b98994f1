/* SPDX-License-Identifier: MIT */
/* Memory on 2 MiB pages, where this machine has some free: vm.nr_hugepages. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "handles.h"

#define HUGE ((uint64_t)2 << 20)

static struct gmem_vm *vm;
static struct gmem *mem;

static void set_up(uint64_t pages)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = GMEM_BACKING_HUGETLB };

	make_vmless(&vm, &mem, pages * HUGE, &opts);
}

static void tear_down(void)
{
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static unsigned char *map(uint64_t first, uint64_t count)
{
	void *address = NULL;

	assert_int_equal(gmem_map(mem, first * HUGE, count * HUGE, &address, NULL), 0);
	return address;
}

static void lengths_are_multiples_of_the_huge_page(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_HUGE_2M };
	struct gmem *other = NULL;
	void *address = NULL;

	(void)state;
	set_up(1);
	assert_int_equal(info_of(mem).page_size, HUGE);
	assert_int_equal(gmem_create(vm, HUGE + page(), &other, &opts), -EINVAL);
	assert_int_equal(gmem_create(vm, page(), &other, &opts), -EINVAL);
	assert_null(other);
	assert_int_equal(gmem_map(mem, 0, page(), &address, NULL), -EINVAL);
	assert_int_equal(gmem_map(mem, page(), HUGE, &address, NULL), -EINVAL);
	assert_null(address);
	tear_down();
}

static void memslots_may_be_smaller_than_a_huge_page(void **state)
{
	(void)state;
	set_up(1);
	assert_int_equal(gmem_bind(mem, 0, page(), page(), 3 * page(), NULL), 0);
	assert_int_equal(gmem_bind(mem, 1, 16 * page(), 4 * page(), page(), NULL), 0);
	assert_int_equal(info_of(mem).slots, 2);
	assert_int_equal(gmem_bind(mem, 2, 32 * page(), 1, page(), NULL), -EINVAL);
	assert_int_equal(gmem_unbind(mem, 0), 0);
	assert_int_equal(gmem_unbind(mem, 1), 0);
	assert_int_equal(gmem_unmap(mem, 0, HUGE), 0);
	tear_down();
}

static void odd_ranges_come_in_to_the_byte(void **state)
{
	unsigned char *model = calloc(2, HUGE), *data = malloc(2 * HUGE);
	uint64_t done;

	(void)state;
	assert_true(model && data);
	for (uint64_t i = 0; i < 2 * HUGE; i++)
		data[i] = i / 5000 % 2 ? (unsigned char)(i % 251) : 0;
	set_up(2);
	assert_int_equal(gmem_populate(mem, 4097, HUGE + 12345, data, &done, NULL), 0);
	assert_int_equal(done, HUGE + 12345);
	memcpy(model + 4097, data, HUGE + 12345);
	assert_int_equal(gmem_populate(mem, 3, 1, "x", &done, NULL), 0);
	model[3] = 'x';
	assert_memory_equal(map(0, 2), model, 2 * HUGE);
	assert_int_equal(info_of(mem).populate_mechanism, GMEM_MECH_MAPPING);
	assert_int_equal(info_of(mem).populated + info_of(mem).skipped, HUGE + 12345 + 1);
	tear_down();
	free(model);
	free(data);
}

/* The kernel does not tell which huge pages are there, so all zeros are written. */
static void zeros_overwrite(void **state)
{
	int fd = memfd_create("input", MFD_CLOEXEC);
	unsigned char *data = malloc(HUGE);

	(void)state;
	assert_non_null(data);
	memset(data, 'z', HUGE);
	set_up(2);
	assert_int_equal(gmem_populate(mem, 0, HUGE, data, NULL, NULL), 0);
	assert_int_equal(gmem_populate(mem, HUGE, HUGE, data, NULL, NULL), 0);
	memset(data, 0, HUGE);
	assert_int_equal(gmem_populate(mem, 0, HUGE, data, NULL, NULL), 0);
	assert_int_equal(ftruncate(fd, (off_t)(3 * HUGE)), 0);
	assert_int_equal(gmem_populate_fd(mem, HUGE, HUGE, fd, HUGE, NULL, NULL), 0);
	assert_memory_equal(map(0, 1), data, HUGE);
	assert_memory_equal(map(1, 1), data, HUGE);
	assert_int_equal(info_of(mem).skipped, 0);
	tear_down();
	free(data);
	close(fd);
}

static uint64_t free_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned long long count = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%llu", &count), 1);
	fclose(file);
	return count;
}

/* Not a signal. */
static void running_out_of_huge_pages_is_a_code(void **state)
{
	uint64_t most = free_pages(), done = 0, sum = 0;
	unsigned char *data;
	int r = 0;

	(void)state;
	if (most > 64)
		gt_skip("%llu free huge pages are too many to use up", (unsigned long long)most);
	data = malloc(HUGE);
	assert_non_null(data);
	memset(data, 'h', HUGE);
	set_up(most + 2);
	while (r == 0 && sum < (most + 2) * HUGE) {
		r = gmem_populate(mem, sum, HUGE, data, &done, NULL);
		sum += done;
	}
	assert_true(r == -ENOMEM || r == -ENOSPC);
	assert_non_null(strstr(gmem_last_error(), "huge pages"));
	assert_int_equal(sum, most * HUGE);
	for (uint64_t i = 0; i < most; i++)
		assert_memory_equal(map(i, 1), data, HUGE);
	tear_down();
	assert_int_equal(free_pages(), most);
	free(data);
}

static const struct gt_test tests[] = {
	GT(lengths_are_multiples_of_the_huge_page, GT_NEEDS_HUGETLB_2M),
	GT(memslots_may_be_smaller_than_a_huge_page, GT_NEEDS_HUGETLB_2M),
	GT(odd_ranges_come_in_to_the_byte, GT_NEEDS_HUGETLB_2M),
	GT(zeros_overwrite, GT_NEEDS_HUGETLB_2M),
	GT(running_out_of_huge_pages_is_a_code, GT_NEEDS_HUGETLB_2M),
};

GT_MAIN("hugetlb", tests)
