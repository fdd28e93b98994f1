/* SPDX-License-Identifier: MIT */
/* gmem_set_nodes(): the policy is the file's, and where none would be kept the call says so instead of pretending. */
#include "gt.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

#include "content.h"
#include "fakekvm.h"
#include "handles.h"
#include "memories.h"
#include "refusal.h"

#define PAGES 16
#define WORDS 64 /* 4096 nodes: more than any kernel has */
#define MPOL_DEFAULT 0
#define MPOL_BIND 2
#define MPOL_INTERLEAVE 3
#define MPOL_PREFERRED_MANY 5
#define MPOL_F_ADDR 2

static const uint64_t first_node[WORDS] = { 1 };
static struct memory memory;

/* What the kernel says of a page, through a mapping that the library does not know. Negative: it says nothing. */
static int policy_of(int fd, uint64_t number)
{
	void *at = mmap(NULL, page(), PROT_READ, MAP_SHARED, fd, (off_t)(number * page()));
	uint64_t nodes[WORDS] = { 0 };
	int mode = -1;
	long r;

	assert_ptr_not_equal(at, MAP_FAILED);
	r = syscall(SYS_get_mempolicy, &mode, nodes, WORDS * 64ul, at, MPOL_F_ADDR) ? -errno : 0;
	munmap(at, page());
	if (r == 0)
		assert_int_equal(nodes[0], mode == MPOL_DEFAULT ? 0 : 1);
	return r < 0 ? (int)r : mode;
}

static void want_policies(void)
{
	if (syscall(SYS_get_mempolicy, NULL, NULL, 0ul, NULL, 0ul))
		gt_skip("no NUMA policies here: %s", strerror(errno));
}

static int set(uint64_t first, uint64_t count, uint32_t policy)
{
	struct gmem_set_nodes_opts opts = { .size = sizeof(opts), .policy = policy };

	return gmem_set_nodes(memory.mem, first * page(), count * page(), first_node, 1, &opts);
}

static void assert_policies(int fd, uint64_t first, uint64_t count, int mode)
{
	for (uint64_t i = first; i < first + count; i++)
		assert_int_equal(policy_of(fd, i), mode);
}

/* Each policy on a range of its own, then none any more. */
static void check_policies(enum gmem_fd_kind kind)
{
	int fd = gmem_get_fd(memory.mem, kind);

	assert_int_equal(gmem_set_nodes(memory.mem, 2 * page(), 2 * page(), first_node, 1, NULL), 0);
	assert_int_equal(set(4, 2, GMEM_NODES_PREFER), 0);
	assert_int_equal(set(6, 2, GMEM_NODES_INTERLEAVE), 0);
	assert_policies(fd, 0, 2, MPOL_DEFAULT);
	assert_policies(fd, 2, 2, MPOL_BIND);
	assert_policies(fd, 4, 2, MPOL_PREFERRED_MANY);
	assert_policies(fd, 6, 2, MPOL_INTERLEAVE);
	assert_policies(fd, 8, PAGES - 8, MPOL_DEFAULT);
	assert_int_equal(set(0, PAGES, GMEM_NODES_BIND), 0);
	assert_policies(fd, 0, PAGES, MPOL_BIND);
	assert_int_equal(gmem_set_nodes(memory.mem, 0, 3 * page(), NULL, 0, NULL), 0);
	assert_policies(fd, 0, 3, MPOL_DEFAULT);
	assert_policies(fd, 3, PAGES - 3, MPOL_BIND);
}

static void the_file_keeps_the_policy(void **state)
{
	static const enum make makes[] = { MEMFD, LAZY_MEMFD, FAKE_GUEST_MEMFD, FAKE_WITH_WRITE };

	(void)state;
	want_policies();
	for (size_t i = 0; i < sizeof(makes) / sizeof(makes[0]); i++) {
		memory = make_memory(makes[i], PAGES * page());
		check_policies(GMEM_FD_MEMORY);
		end_memory(&memory);
	}
}

static void the_shared_half_of_a_pair_keeps_it(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_PRIVATE };

	(void)state;
	want_policies();
	memory = (struct memory){ .vm_fd = fakekvm_vm(fakekvm_preset("sw-protected")), .length = PAGES * page() };
	memory.vm = open_vm(memory.vm_fd);
	assert_int_equal(gmem_create(memory.vm, memory.length, &memory.mem, &opts), 0);
	check_policies(GMEM_FD_SHARED_HALF);
	end_memory(&memory);
}

/* A mapping of a part is there already, and stays the only one of it. */
static void mappings_of_the_caller_are_left_alone(void **state)
{
	void *before, *after;

	(void)state;
	want_policies();
	memory = make_memory(MEMFD, PAGES * page());
	assert_int_equal(gmem_map(memory.mem, 2 * page(), 4 * page(), &before, NULL), 0);
	assert_int_equal(set(0, PAGES, GMEM_NODES_BIND), 0);
	assert_int_equal(set(3, 1, GMEM_NODES_INTERLEAVE), 0);
	assert_int_equal(gmem_map(memory.mem, 2 * page(), 4 * page(), &after, NULL), 0);
	((volatile unsigned char *)before)[0] = 7;
	assert_int_equal(((volatile unsigned char *)after)[0], 7);
	assert_policies(gmem_get_fd(memory.mem, GMEM_FD_MEMORY), 3, 1, MPOL_INTERLEAVE);
	assert_int_equal(absent_bytes(memory.mem, 0, memory.length), (PAGES - 1) * page()); /* it allocates nothing */
	end_memory(&memory);
}

static void any_number_of_words_will_do(void **state)
{
	(void)state;
	want_policies();
	memory = make_memory(MEMFD, PAGES * page());
	for (uint32_t words = 1; words <= WORDS; words++)
		assert_int_equal(gmem_set_nodes(memory.mem, 0, page(), first_node, words, NULL), 0);
	assert_policies(gmem_get_fd(memory.mem, GMEM_FD_MEMORY), 0, 1, MPOL_BIND);
	assert_int_equal(gmem_set_nodes(memory.mem, 0, page(), first_node, 0, NULL), 0); /* the mask is not read */
	assert_policies(gmem_get_fd(memory.mem, GMEM_FD_MEMORY), 0, 1, MPOL_DEFAULT);
	end_memory(&memory);
}

/* A mapping of the program's, a window of the library's, and the mapping again: the last one said holds, not the first. */
static void the_last_word_counts(void **state)
{
	void *address;

	(void)state;
	want_policies();
	memory = make_memory(MEMFD, PAGES * page());
	assert_int_equal(set(0, 1, GMEM_NODES_INTERLEAVE), 0);
	assert_int_equal(gmem_map(memory.mem, 0, PAGES * page(), &address, NULL), 0);
	assert_int_equal(set(0, PAGES, GMEM_NODES_BIND), 0);
	assert_int_equal(gmem_unmap(memory.mem, 0, PAGES * page()), 0);
	assert_int_equal(set(0, 2, GMEM_NODES_INTERLEAVE), 0);
	assert_int_equal(gmem_set_nodes(memory.mem, 0, PAGES * page(), NULL, 0, NULL), 0);
	assert_policies(gmem_get_fd(memory.mem, GMEM_FD_MEMORY), 0, PAGES, MPOL_DEFAULT);
	end_memory(&memory);
}

/* What is refused */

#define BAD(code, word, ...) (spoil_sentence(), bad("gmem_set_nodes", gmem_set_nodes(__VA_ARGS__), code, word))

static void assert_no_policy(void)
{
	assert_policies(gmem_get_fd(memory.mem, GMEM_FD_MEMORY), 0, PAGES, MPOL_DEFAULT);
}

static void bad_ranges_are_refused(void **state)
{
	const uint64_t unit = page(), length = PAGES * unit;

	(void)state;
	want_policies();
	memory = make_memory(MEMFD, length);
	BAD(-EINVAL, "the length is 0", memory.mem, 0, 0, first_node, 1, NULL);
	BAD(-EINVAL, "multiples of the page size", memory.mem, 1, unit, first_node, 1, NULL);
	BAD(-EINVAL, "multiples of the page size", memory.mem, 0, unit + 1, first_node, 1, NULL);
	BAD(-EINVAL, "multiples of the page size", memory.mem, 0, UINT64_MAX, first_node, 1, NULL);
	BAD(-EINVAL, "beyond the end", memory.mem, 0, length + unit, first_node, 1, NULL);
	BAD(-EINVAL, "beyond the end", memory.mem, unit, length, first_node, 1, NULL);
	BAD(-EINVAL, "beyond the end", memory.mem, length, unit, first_node, 1, NULL);
	BAD(-EINVAL, "beyond the end", memory.mem, 0, UINT64_C(1) << 62, first_node, 1, NULL);
	BAD(-EINVAL, "beyond the end", memory.mem, -unit, 2 * unit, first_node, 1, NULL);
	BAD(-EINVAL, "beyond the end", memory.mem, -unit, 2 * unit, NULL, 0, NULL);
	BAD(-EINVAL, "the memory is NULL", NULL, 0, unit, first_node, 1, NULL);
	assert_no_policy();
	end_memory(&memory);
}

static void bad_masks_are_refused(void **state)
{
	static const uint64_t none[WORDS] = { 0 }, last[WORDS] = { [WORDS - 1] = UINT64_C(1) << 63 };
	static const uint64_t absent = UINT64_C(1) << 63;

	(void)state;
	want_policies();
	if (access("/sys/devices/system/node/node63", F_OK) == 0)
		gt_skip("this machine has a node 63");
	memory = make_memory(MEMFD, PAGES * page());
	BAD(-EINVAL, "mask is NULL", memory.mem, 0, page(), NULL, 1, NULL);
	BAD(-EINVAL, "mask names no node", memory.mem, 0, page(), none, 1, NULL);
	BAD(-EINVAL, "mask names no node", memory.mem, 0, page(), none, WORDS, NULL);
	BAD(-EINVAL, "65 words", memory.mem, 0, page(), first_node, WORDS + 1, NULL);
	BAD(-EINVAL, "words", memory.mem, 0, page(), first_node, UINT32_MAX, NULL);
	BAD(-EINVAL, "nodes", memory.mem, 0, page(), last, WORDS, NULL);
	BAD(-EINVAL, "nodes", memory.mem, 0, page(), &absent, 1, NULL);
	assert_no_policy();
	end_memory(&memory);
}

static void bad_options_are_refused(void **state)
{
	struct gmem_set_nodes_opts opts = { .size = sizeof(opts), .policy = GMEM_NODES_INTERLEAVE + 1 };

	(void)state;
	want_policies();
	memory = make_memory(MEMFD, PAGES * page());
	BAD(-EINVAL, "opts->policy 3", memory.mem, 0, page(), first_node, 1, &opts);
	BAD(-EINVAL, "opts->policy 3", memory.mem, 0, page(), NULL, 0, &opts);
	opts.policy = UINT32_MAX;
	BAD(-EINVAL, "opts->policy", memory.mem, 0, page(), first_node, 1, &opts);
	opts = (struct gmem_set_nodes_opts){ .size = sizeof(opts), .flags = 1 };
	BAD(-E2BIG, "opts->flags", memory.mem, 0, page(), first_node, 1, &opts);
	opts = (struct gmem_set_nodes_opts){ .size = sizeof(opts), .reserved = 1 };
	BAD(-EINVAL, "opts->reserved", memory.mem, 0, page(), first_node, 1, &opts);
	opts = (struct gmem_set_nodes_opts){ .size = 7 };
	BAD(-EINVAL, "opts->size", memory.mem, 0, page(), first_node, 1, &opts);
	opts.size = 4097;
	BAD(-E2BIG, "opts->size", memory.mem, 0, page(), first_node, 1, &opts);
	assert_no_policy();
	end_memory(&memory);
}

static int set_in_child(void *arg)
{
	(void)arg;
	return set(0, 1, GMEM_NODES_BIND) == -ESTALE ? 0 : 1;
}

static void after_a_fork_the_memory_is_stale(void **state)
{
	(void)state;
	memory = make_memory(MEMFD, PAGES * page());
	assert_int_equal(gt_in_child(set_in_child, NULL), 0);
	end_memory(&memory);
}

/* Where nothing would come of it */

static void a_kernel_that_would_ignore_it_is_not_asked(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = GMEM_BACKING_GUEST_MEMFD };
	static const char *const presets[] = { "6.18", "future-firecracker" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		memory = (struct memory){ .vm_fd = fakekvm_vm(fakekvm_preset(presets[i])), .length = PAGES * page() };
		memory.vm = open_vm(memory.vm_fd);
		assert_int_equal(gmem_create(memory.vm, memory.length, &memory.mem, &opts), 0);
		BAD(-EOPNOTSUPP, "6.19", memory.mem, 0, page(), first_node, 1, NULL);
		BAD(-EOPNOTSUPP, "6.19", memory.mem, 0, page(), NULL, 0, NULL);
		assert_int_equal(fakekvm_calls("mbind"), 0);
		end_memory(&memory);
	}
}

static void memory_that_cannot_be_mapped_has_none(void **state)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_PRIVATE };

	(void)state;
	memory = (struct memory){ .vm_fd = fakekvm_vm(fakekvm_preset("future-upstream")), .length = PAGES * page() };
	memory.vm = open_vm(memory.vm_fd);
	assert_int_equal(gmem_create(memory.vm, memory.length, &memory.mem, &opts), 0);
	BAD(-EOPNOTSUPP, "mapped", memory.mem, 0, page(), first_node, 1, NULL);
	end_memory(&memory);
}

static void huge_pages_have_none(void **state)
{
	const uint64_t huge = UINT64_C(2) << 20;

	(void)state;
	want_huge_pages(1);
	memory = make_memory(HUGETLB, huge);
	BAD(-EOPNOTSUPP, "huge pages", memory.mem, 0, huge, first_node, 1, NULL);
	BAD(-EINVAL, "multiples of the page size", memory.mem, 0, page(), first_node, 1, NULL);
	end_memory(&memory);
}

/* Kept by a kernel that has the file system for it, and by no other. */
static void a_real_guest_memfd_keeps_it_or_says_so(void **state)
{
	int r;

	(void)state;
	want_policies();
	memory = make_memory(REAL_GUEST_MEMFD, PAGES * page());
	r = set(0, PAGES, GMEM_NODES_BIND);
	assert_true(r == 0 || r == -EOPNOTSUPP);
	assert_policies(gmem_get_fd(memory.mem, GMEM_FD_MEMORY), 0, PAGES, r == 0 ? MPOL_BIND : MPOL_DEFAULT);
	end_memory(&memory);
}

static void what_the_kernel_says_passes_through(void **state)
{
	static const struct {
		int error, code;
		const char *word;
	} rows[] = {
		{ ENOSYS, -EOPNOTSUPP, "no NUMA policies" }, { EPERM, -EPERM, "mbind" }, { ENOMEM, -ENOMEM, "mbind" },
		{ EINVAL, -EINVAL, "mbind" },		     { EIO, -EIO, "mbind" },
	};

	(void)state;
	memory = make_memory(FAKE_GUEST_MEMFD, PAGES * page());
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fakekvm_script("mbind", rows[i].error, 1, 0);
		BAD(rows[i].code, rows[i].word, memory.mem, 0, page(), first_node, 1, NULL);
	}
	fakekvm_script("mmap", ENOMEM, 1, 0);
	BAD(-ENOMEM, "mmap", memory.mem, 0, page(), first_node, 1, NULL);
	end_memory(&memory);
}

static const struct gt_test tests[] = {
	GT(the_file_keeps_the_policy, GT_NEEDS_NOTHING),
	GT(the_shared_half_of_a_pair_keeps_it, GT_NEEDS_NOTHING),
	GT(mappings_of_the_caller_are_left_alone, GT_NEEDS_NOTHING),
	GT(any_number_of_words_will_do, GT_NEEDS_NOTHING),
	GT(the_last_word_counts, GT_NEEDS_NOTHING),
	GT(bad_ranges_are_refused, GT_NEEDS_NOTHING),
	GT(bad_masks_are_refused, GT_NEEDS_NOTHING),
	GT(bad_options_are_refused, GT_NEEDS_NOTHING),
	GT(after_a_fork_the_memory_is_stale, GT_NEEDS_NOTHING),
	GT(a_kernel_that_would_ignore_it_is_not_asked, GT_NEEDS_NOTHING),
	GT(memory_that_cannot_be_mapped_has_none, GT_NEEDS_NOTHING),
	GT(huge_pages_have_none, GT_NEEDS_HUGETLB_2M),
	GT(a_real_guest_memfd_keeps_it_or_says_so, GT_NEEDS_GUEST_MEMFD),
	GT(what_the_kernel_says_passes_through, GT_NEEDS_NOTHING),
};

GT_MAIN("nodes", tests)
