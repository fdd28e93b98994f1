/* SPDX-License-Identifier: MIT */
/* NUMA policy, which the file keeps. */
#include "memory.h"

#include "err.h"
#include "opts.h"
#include "range.h"
#include "sys.h"
#include "uapi/kvm.h"
#include "uapi/mman.h"

static int mode_of(uint32_t policy, uint32_t words)
{
	static const int modes[] = {
		[GMEM_NODES_BIND] = MMANI_MPOL_BIND,
		[GMEM_NODES_PREFER] = MMANI_MPOL_PREFERRED_MANY,
		[GMEM_NODES_INTERLEAVE] = MMANI_MPOL_INTERLEAVE,
	};

	return words ? modes[policy] : MMANI_MPOL_DEFAULT;
}

static int check_mask(const uint64_t *mask, uint32_t words)
{
	uint64_t all = 0;

	if (words && !mask)
		return gmemi_refuse(-EINVAL, "mask is NULL");
	if (words > 4096 / 64)
		return gmemi_refuse(-EINVAL, "%u words are more nodes than any kernel has", words);
	for (uint32_t i = 0; i < words; i++)
		all |= mask[i];
	return words && !all ? gmemi_refuse(-EINVAL, "mask names no node; no policy is said by words = 0") : 0;
}

static int check(const struct gmem *mem, uint64_t offset, uint64_t length, const struct gmem_set_nodes_opts *opts)
{
	int r = gmemi_opts_flags(opts->flags, 0, "opts->flags");

	if (r == 0)
		r = gmemi_opts_reserved(opts->reserved);
	if (r < 0)
		return r;
	if (opts->policy > GMEM_NODES_INTERLEAVE)
		return gmemi_refuse(-EINVAL, "opts->policy %u is unknown", opts->policy);
	return gmemi_range_check(offset, length, mem->page_size, mem->length);
}

/* mbind() answers 0 for every mapping, and where the file keeps no policy nothing comes of it: hugetlbfs has the field and no
 * vm_ops->set_policy (fs/hugetlbfs/inode.c, mm/hugetlb.c). */
static int check_honoured(struct gmem *mem)
{
	enum gmem_backing backing = gmemi_memory_shared_backing(mem);
	int64_t magic;

	if (backing == GMEM_BACKING_HUGETLB)
		return gmemi_refuse(-EOPNOTSUPP, "files on huge pages keep no policy: the kernel would ignore it");
	if (backing != GMEM_BACKING_GUEST_MEMFD)
		return 0;
	magic = gmemi_sys_magic(gmemi_memory_shared_fd(mem));
	if (magic < 0)
		return gmemi_failed((int)magic, "fstatfs() of the memory", NULL);
	if (magic != KVMI_GUEST_MEMFD_MAGIC)
		return gmemi_refuse(-EOPNOTSUPP, "this kernel ignores the policy of a guest_memfd: that needs 6.19");
	return 0;
}

/* The kernel leaves the file alone when the policy is that of the mapping already, whatever another mapping has done to the
 * file since: another one in between makes it listen. A policy that it refuses must change nothing, so it comes first too. */
static int apply(void *at, uint64_t length, int mode, const uint64_t *mask, uint32_t words)
{
	int r = gmemi_sys_policy(at, length, mode, mask, words);

	if (r == 0)
		r = gmemi_sys_policy(at, length, MMANI_MPOL_LOCAL, NULL, 0);
	return r < 0 ? r : gmemi_sys_policy(at, length, mode, mask, words);
}

static int set(struct gmem *mem, uint64_t offset, uint64_t length, int mode, const uint64_t *mask, uint32_t words)
{
	struct gmemi_mapping *m;
	int r = gmemi_mapping_hold(mem, offset, length, &m);

	if (r < 0)
		return r;
	r = apply(gmemi_mapping_at(m, offset), length, mode, mask, words);
	gmemi_mapping_drop(mem, m);
	if (r == -ENOSYS)
		return gmemi_refuse(-EOPNOTSUPP, "this kernel has no NUMA policies");
	return r < 0 ? gmemi_failed(r, "mbind()", r == -EINVAL ? "are all these nodes there, and memory on them?" : NULL) : 0;
}

int gmem_set_nodes(struct gmem *mem, uint64_t offset, uint64_t length, const uint64_t *mask, uint32_t words,
		   const struct gmem_set_nodes_opts *opts)
{
	struct gmem_set_nodes_opts o;
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r == 0)
		r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = check(mem, offset, length, &o);
	if (r == 0)
		r = check_mask(mask, words);
	if (r == 0)
		r = check_honoured(mem);
	return r < 0 ? r : set(mem, offset, length, mode_of(o.policy, words), mask, words);
}
