/* SPDX-License-Identifier: MIT */
/* Mappings: found again, put where the caller wants them, and given back as the address range was. */
#include "gt.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "fakekvm.h"

#define PAGES 16
#define CAUGHT 42

static size_t page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

struct set {
	struct gmem_vm *vm;
	struct gmem *mem;
};

static struct set set_up_on(int vm_fd, uint64_t length, uint64_t need)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = need };
	struct set set = { NULL, NULL };

	assert_int_equal(gmem_vm_open(vm_fd, &set.vm, NULL), 0);
	assert_int_equal(gmem_create(set.vm, length, &set.mem, &opts), 0);
	return set;
}

static struct set set_up(void)
{
	return set_up_on(-1, PAGES * page(), GMEM_NEED_MAPPABLE);
}

static void tear_down(struct set *set)
{
	gmem_destroy(set->mem);
	gmem_vm_close(set->vm);
}

/* From here on ranges are in pages. */
static int try_map(struct set *set, size_t first, size_t count, uint64_t flags, void *at, unsigned char **address)
{
	struct gmem_map_opts opts = { .size = sizeof(opts), .flags = flags, .address = at };
	void *there = NULL;
	int r = gmem_map(set->mem, first * page(), count * page(), &there, &opts);

	assert_true(r == 0 || !there);
	*address = there;
	return r;
}

static unsigned char *map(struct set *set, size_t first, size_t count)
{
	unsigned char *address;

	assert_int_equal(try_map(set, first, count, 0, NULL, &address), 0);
	return address;
}

static int unmap(struct set *set, size_t first, size_t count)
{
	return gmem_unmap(set->mem, first * page(), count * page());
}

/* What lies at an address: "rw-s", "---p", ..., or "" for nothing. */
static const char *permissions_at(const void *address)
{
	static char found[5];
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], permissions[5];
	uint64_t start, end;

	assert_non_null(maps);
	found[0] = '\0';
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, permissions) == 3 &&
		    start <= (uintptr_t)address && (uintptr_t)address < end)
			strcpy(found, permissions);
	fclose(maps);
	return found;
}

static void assert_permissions(const unsigned char *address, size_t count, const char *permissions)
{
	for (size_t i = 0; i < count; i++)
		assert_string_equal(permissions_at(address + i * page()), permissions);
}

static void the_same_range_has_the_same_address(void **state)
{
	struct set set = set_up();
	unsigned char *address = map(&set, 2, 4);

	(void)state;
	assert_ptr_equal(map(&set, 2, 4), address);
	assert_permissions(address, 4, "rw-s");
	tear_down(&set);
}

static void a_part_of_a_mapping_is_found_in_it(void **state)
{
	struct set set = set_up();
	unsigned char *whole = map(&set, 0, PAGES);

	(void)state;
	for (size_t first = 0; first < PAGES; first++)
		assert_ptr_equal(map(&set, first, PAGES - first), whole + first * page());
	tear_down(&set);
}

static void what_no_mapping_covers_gets_a_new_one(void **state)
{
	struct set set = set_up();
	unsigned char *low = map(&set, 0, 4), *across = map(&set, 2, 4);

	(void)state;
	assert_ptr_not_equal(across, low + 2 * page());
	low[3 * page()] = 'x';
	assert_int_equal(across[page()], 'x'); /* both show the same memory */
	tear_down(&set);
}

static void a_mapping_shows_the_file(void **state)
{
	struct set set = set_up();
	unsigned char *address = map(&set, 1, 1);
	int fd = gmem_get_fd(set.mem, GMEM_FD_MEMORY);
	char byte;

	(void)state;
	assert_int_equal(pwrite(fd, "hello", 5, (off_t)page() + 10), 5);
	assert_memory_equal(address + 10, "hello", 5);
	address[0] = 'y';
	assert_int_equal(pread(fd, &byte, 1, (off_t)page()), 1);
	assert_int_equal(byte, 'y');
	tear_down(&set);
}

static void caught(int signal)
{
	(void)signal;
	_exit(CAUGHT);
}

static int write_there(void *arg)
{
	signal(SIGSEGV, caught);
	*(volatile unsigned char *)arg = 1;
	return 0;
}

static void a_readonly_mapping_cannot_be_written(void **state)
{
	struct set set = set_up();
	unsigned char *writable = map(&set, 0, 2), *readonly;

	(void)state;
	assert_int_equal(try_map(&set, 0, 2, GMEM_MAP_READONLY, NULL, &readonly), 0);
	assert_permissions(readonly, 2, "r--s");
	assert_int_equal(gt_in_child(write_there, readonly), CAUGHT);
	assert_int_equal(gt_in_child(write_there, writable), 0);
	assert_int_equal(readonly[0], 1);
	assert_ptr_equal(map(&set, 0, 2), writable);
	tear_down(&set);
}

static void mappings_go_with_the_memory(void **state)
{
	struct set set = set_up();
	unsigned char *address = map(&set, 0, PAGES);

	(void)state;
	tear_down(&set);
	assert_permissions(address, PAGES, "");
}

/* Placed mappings */

static unsigned char *reserve(size_t count)
{
	void *address = mmap(NULL, count * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(address, MAP_FAILED);
	return address;
}

static void a_mapping_is_put_exactly_there(void **state)
{
	struct set set = set_up();
	unsigned char *space = reserve(PAGES), *address;

	(void)state;
	assert_int_equal(try_map(&set, 5, 3, 0, space + 4 * page(), &address), 0);
	assert_ptr_equal(address, space + 4 * page());
	assert_permissions(space, 4, "---p");
	assert_permissions(space + 4 * page(), 3, "rw-s");
	assert_permissions(space + 7 * page(), PAGES - 7, "---p");
	address[2 * page()] = 'p';
	assert_int_equal(map(&set, 7, 1)[0], 'p');
	assert_ptr_equal(map(&set, 6, 2), address + page()); /* it is found like any other */
	tear_down(&set);
	munmap(space, PAGES * page());
}

static void a_place_always_gets_a_new_mapping(void **state)
{
	struct set set = set_up();
	unsigned char *first = map(&set, 0, PAGES), *space = reserve(PAGES), *address;

	(void)state;
	assert_int_equal(try_map(&set, 0, PAGES, 0, space, &address), 0);
	assert_ptr_equal(address, space);
	first[0] = 'z';
	assert_int_equal(space[0], 'z');
	tear_down(&set);
	munmap(space, PAGES * page());
}

static void unmapping_gives_the_place_back(void **state)
{
	struct set set = set_up();
	unsigned char *space = reserve(PAGES), *address;

	(void)state;
	assert_int_equal(try_map(&set, 0, 4, 0, space + page(), &address), 0);
	assert_int_equal(unmap(&set, 0, 4), 0);
	assert_permissions(space, PAGES, "---p");
	assert_int_equal(try_map(&set, 2, 2, GMEM_MAP_READONLY, space + page(), &address), 0);
	assert_permissions(space + page(), 2, "r--s");
	assert_permissions(space + 3 * page(), 1, "---p");
	tear_down(&set);
	munmap(space, PAGES * page());
}

static void destroying_gives_the_place_back(void **state)
{
	struct set set = set_up();
	unsigned char *space = reserve(PAGES), *address;

	(void)state;
	assert_int_equal(try_map(&set, 0, 4, 0, space + page(), &address), 0);
	tear_down(&set);
	assert_permissions(space, PAGES, "---p");
	munmap(space, PAGES * page());
}

static void places_of_one_memory_may_not_overlap(void **state)
{
	struct set set = set_up();
	unsigned char *space = reserve(PAGES), *address;

	(void)state;
	assert_int_equal(try_map(&set, 0, 4, 0, space + 4 * page(), &address), 0);
	for (size_t at = 3; at < 8; at++) {
		assert_int_equal(try_map(&set, 8, 2, 0, space + at * page(), &address), -EINVAL);
		assert_non_null(strstr(gmem_last_error(), "overlaps"));
	}
	assert_permissions(space + 4 * page(), 4, "rw-s");
	assert_permissions(space + 8 * page(), 2, "---p");
	assert_int_equal(try_map(&set, 8, 2, 0, space + 2 * page(), &address), 0); /* side by side is fine */
	assert_int_equal(try_map(&set, 8, 2, 0, space + 8 * page(), &address), 0);
	tear_down(&set);
	munmap(space, PAGES * page());
}

static void places_that_cannot_be_are_refused(void **state)
{
	struct set set = set_up();
	unsigned char *address;

	(void)state;
	assert_int_equal(try_map(&set, 0, 1, 0, (void *)(page() * 1000 + 1), &address), -EINVAL);
	assert_non_null(strstr(gmem_last_error(), "multiple of the page size"));
	assert_int_equal(try_map(&set, 0, 2, 0, (void *)(UINTPTR_MAX - page() + 1), &address), -EINVAL);
	assert_non_null(strstr(gmem_last_error(), "no room"));
	/* Not an address of any process: ENOMEM of the kernel, EINVAL of a sanitizer in between. */
	assert_true(try_map(&set, 0, 1, 0, (void *)(UINTPTR_MAX - 2 * page() + 1), &address) < 0);
	assert_non_null(strstr(gmem_last_error(), "from the kernel"));
	tear_down(&set);
}

/* Unmapping */

static void all_mappings_in_the_range_go_and_no_others(void **state)
{
	struct set set = set_up();
	unsigned char *a = map(&set, 2, 2), *b = map(&set, 3, 3), *low = map(&set, 0, 2), *high = map(&set, 6, 1), *readonly;

	(void)state;
	assert_int_equal(try_map(&set, 4, 1, GMEM_MAP_READONLY, NULL, &readonly), 0);
	assert_int_equal(unmap(&set, 2, 4), 0);
	assert_int_equal(unmap(&set, 2, 4), 0); /* nothing there is fine */
	assert_permissions(a, 2, "");
	assert_permissions(b, 3, "");
	assert_permissions(readonly, 1, "");
	assert_permissions(low, 2, "rw-s");
	assert_permissions(high, 1, "rw-s");
	tear_down(&set);
}

static void a_mapping_partly_in_the_range_stops_all(void **state)
{
	struct set set = set_up();
	unsigned char *inside = map(&set, 4, 2), *across = map(&set, 5, 4);

	(void)state;
	assert_int_equal(unmap(&set, 4, 4), -EINVAL);
	assert_non_null(strstr(gmem_last_error(), "only partly"));
	assert_int_equal(unmap(&set, 6, 1), -EINVAL);
	assert_permissions(inside, 2, "rw-s");
	assert_permissions(across, 4, "rw-s");
	assert_int_equal(unmap(&set, 4, 5), 0);
	assert_permissions(across, 4, "");
	tear_down(&set);
}

static void a_memslot_keeps_its_mapping(void **state)
{
	struct set set = set_up();
	unsigned char *other = map(&set, 8, 2), *bound = map(&set, 0, 4);

	(void)state;
	assert_int_equal(gmem_bind(set.mem, 3, 0, page(), page(), NULL), 0);
	assert_int_equal(unmap(&set, 0, PAGES), -EBUSY);
	assert_int_equal(unmap(&set, 0, 4), -EBUSY);
	assert_permissions(other, 2, "rw-s");
	assert_permissions(bound, 4, "rw-s");
	assert_int_equal(gmem_unbind(set.mem, 3), 0);
	assert_permissions(bound, 4, "rw-s"); /* unbinding leaves it */
	assert_int_equal(unmap(&set, 0, PAGES), 0);
	assert_permissions(bound, 4, "");
	tear_down(&set);
}

/* Limits */

static void memory_that_cannot_be_mapped_is_not(void **state)
{
	int vm = fakekvm_vm(fakekvm_preset("future-firecracker"));
	struct set set = set_up_on(vm, page(), GMEM_NEED_HIDDEN);
	unsigned char *address;

	(void)state;
	assert_int_equal(try_map(&set, 0, 1, 0, NULL, &address), -EOPNOTSUPP);
	assert_non_null(strstr(gmem_last_error(), "GMEM_NEED_MAPPABLE"));
	assert_int_equal(unmap(&set, 0, 1), 0);
	tear_down(&set);
	close(vm);
}

static void parts_of_the_longest_memory_can_be_mapped(void **state)
{
	struct set set = set_up_on(-1, UINT64_C(1) << 62, GMEM_NEED_MAPPABLE);
	void *address = NULL;

	(void)state;
	assert_int_equal(gmem_map(set.mem, 0, UINT64_C(1) << 62, &address, NULL), -ENOMEM);
	assert_null(address);
	assert_non_null(strstr(gmem_last_error(), "(ENOMEM, from the kernel)"));
	assert_int_equal(gmem_map(set.mem, (UINT64_C(1) << 62) - page(), page(), &address, NULL), 0);
	*(unsigned char *)address = 1;
	tear_down(&set);
}

struct same {
	struct set set;
	pthread_barrier_t start;
	unsigned char *found[4];
	unsigned int me;
	int errors;
};

static void *map_and_unmap_others(void *arg)
{
	struct same *same = arg;
	unsigned int me = __atomic_fetch_add(&same->me, 1, __ATOMIC_RELAXED);
	void *address;
	int errors = 0;

	pthread_barrier_wait(&same->start);
	errors += gmem_map(same->set.mem, 0, 4 * page(), &address, NULL) != 0;
	same->found[me] = address;
	for (unsigned int i = 0; i < 50; i++) {
		errors += gmem_map(same->set.mem, (4 + me) * page(), page(), &address, NULL) != 0;
		*(volatile unsigned char *)address = 1;
		errors += gmem_unmap(same->set.mem, (4 + me) * page(), page()) != 0;
	}
	__atomic_fetch_add(&same->errors, errors, __ATOMIC_RELAXED);
	return NULL;
}

static void threads_find_one_mapping(void **state)
{
	struct same same = { .set = set_up() };
	pthread_t threads[4];

	(void)state;
	assert_int_equal(pthread_barrier_init(&same.start, NULL, 4), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, map_and_unmap_others, &same), 0);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(same.errors, 0);
	for (unsigned int i = 1; i < 4; i++)
		assert_ptr_equal(same.found[i], same.found[0]);
	pthread_barrier_destroy(&same.start);
	tear_down(&same.set);
}

static const struct gt_test tests[] = {
	GT(the_same_range_has_the_same_address, GT_NEEDS_NOTHING),
	GT(a_part_of_a_mapping_is_found_in_it, GT_NEEDS_NOTHING),
	GT(what_no_mapping_covers_gets_a_new_one, GT_NEEDS_NOTHING),
	GT(a_mapping_shows_the_file, GT_NEEDS_NOTHING),
	GT(a_readonly_mapping_cannot_be_written, GT_NEEDS_NOTHING),
	GT(mappings_go_with_the_memory, GT_NEEDS_NOTHING),
	GT(a_mapping_is_put_exactly_there, GT_NEEDS_NOTHING),
	GT(a_place_always_gets_a_new_mapping, GT_NEEDS_NOTHING),
	GT(unmapping_gives_the_place_back, GT_NEEDS_NOTHING),
	GT(destroying_gives_the_place_back, GT_NEEDS_NOTHING),
	GT(places_of_one_memory_may_not_overlap, GT_NEEDS_NOTHING),
	GT(places_that_cannot_be_are_refused, GT_NEEDS_NOTHING),
	GT(all_mappings_in_the_range_go_and_no_others, GT_NEEDS_NOTHING),
	GT(a_mapping_partly_in_the_range_stops_all, GT_NEEDS_NOTHING),
	GT(a_memslot_keeps_its_mapping, GT_NEEDS_NOTHING),
	GT(memory_that_cannot_be_mapped_is_not, GT_NEEDS_NOTHING),
	GT(parts_of_the_longest_memory_can_be_mapped, GT_NEEDS_NOTHING),
	GT(threads_find_one_mapping, GT_NEEDS_NOTHING),
};

GT_MAIN("map", tests)
