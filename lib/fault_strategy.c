/* SPDX-License-Identifier: MIT */
/* How the pages of a region come to be there: chosen once, by what the kernel can do for its backing. */
#include "fault.h"

#include "err.h"
#include "sys.h"
#include "vm_chain.h"

#define THP_TRIAL (UINT64_C(4) << 20) /* bytes: room for a huge page */

static bool has_missing(struct gmem_vm *vm, enum gmem_backing backing)
{
	switch (backing) {
	case GMEM_BACKING_GUEST_MEMFD:
		return gmemi_vm_has(vm, GMEM_FEATURE_UFFD_GUEST_MEMFD_MISSING);
	case GMEM_BACKING_HUGETLB:
		return gmemi_vm_has(vm, GMEM_FEATURE_UFFD_MISSING_HUGETLB);
	default:
		return gmemi_vm_has(vm, GMEM_FEATURE_UFFD_MISSING_MEMFD);
	}
}

/* Does writing one page of a memfd make many? Then pages that nobody filled would be there, as zeros. */
static bool makes_huge_pages(void)
{
	unsigned char byte = 1;
	struct gmemi_file about;
	int fd = gmemi_sys_memfd("gmem-trial", 0);
	bool huge = false;

	if (fd < 0)
		return false;
	if (gmemi_sys_resize(fd, THP_TRIAL) == 0 && gmemi_sys_pwrite(fd, &byte, 1, 0) == 1 &&
	    gmemi_sys_describe(fd, &about) == 0)
		huge = about.allocated > gmemi_sys_page_size();
	gmemi_sys_close(fd);
	return huge;
}

static int check_copy(const struct gmem *mem)
{
	if (gmemi_memory_shared_backing(mem) == GMEM_BACKING_MEMFD && makes_huge_pages())
		return gmemi_refuse(-EOPNOTSUPP,
				    "GMEM_STRATEGY_COPY: transparent huge pages make pages of zeros that nobody asked for: "
				    "set /sys/kernel/mm/transparent_hugepage/shmem_enabled to never");
	return 0;
}

int gmemi_region_choose_strategy(struct gmemi_region *region, struct gmem *mem, enum gmem_strategy wanted)
{
	static const enum gmem_mechanism ways[] = {
		[GMEM_STRATEGY_FILL] = GMEM_MECH_UFFD_CONTINUE, [GMEM_STRATEGY_COPY] = GMEM_MECH_UFFD_COPY
	};
	struct gmemi_wish wish = { .need = mem->need, .backing = gmemi_memory_shared_backing(mem), .forced = ways[wanted] };
	const struct gmemi_chain_row *row = gmemi_chain_pick(mem->vm, GMEM_TASK_RESOLVE, &wish, NULL);

	if (!row || row->mechanism == GMEM_MECH_KVM_USERFAULT)
		return gmemi_chain_refuse(mem->vm, GMEM_TASK_RESOLVE, &wish);
	region->minor = row->mechanism == GMEM_MECH_UFFD_CONTINUE;
	region->strategy = region->minor ? GMEM_STRATEGY_FILL : GMEM_STRATEGY_COPY;
	region->zeropage = wish.backing != GMEM_BACKING_HUGETLB;
	region->copies = region->minor && region->zeropage && wanted == GMEM_STRATEGY_AUTO;
	if (region->minor)
		return has_missing(mem->vm, wish.backing)
			       ? 0
			       : gmemi_refuse(-EOPNOTSUPP,
					      "this kernel tells of minor faults of this memory, but not of missing pages");
	return check_copy(mem);
}

/* Of a peer's registration nothing can be asked. */
void gmemi_region_believe_strategy(struct gmemi_region *region, const struct gmem *mem, enum gmem_strategy wanted)
{
	region->strategy = wanted ? wanted : mem ? GMEM_STRATEGY_FILL : GMEM_STRATEGY_COPY;
	region->minor = region->strategy == GMEM_STRATEGY_FILL;
	region->zeropage = region->page_size == gmemi_sys_page_size();
}
