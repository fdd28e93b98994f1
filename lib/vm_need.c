/* SPDX-License-Identifier: MIT */
/* Which feature lets which way of creating memory serve which need. */
#include "vm_chain.h"

#include "err.h"

#define NEEDS (GMEM_NEED_MAPPABLE | GMEM_NEED_PRIVATE | GMEM_NEED_LAZY | GMEM_NEED_HIDDEN | GMEM_NEED_HUGE_2M | GMEM_NEED_HUGE_1G)

static const struct {
	enum gmem_mechanism way;
	uint64_t need;
	enum gmem_feature feature;
	const char *never;
} table[] = {
	{ GMEM_MECH_GUEST_MEMFD, GMEM_NEED_MAPPABLE, GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED, NULL },
	{ GMEM_MECH_GUEST_MEMFD, GMEM_NEED_PRIVATE, GMEM_FEATURE_ATTRIBUTES_FILE, NULL },
	{ GMEM_MECH_GUEST_MEMFD, GMEM_NEED_LAZY, GMEM_FEATURE_UFFD_GUEST_MEMFD_MISSING, NULL }, /* with MINOR alone holes are zeros */
	{ GMEM_MECH_GUEST_MEMFD, GMEM_NEED_HIDDEN, GMEM_FEATURE_NO_DIRECT_MAP, NULL },
	{ GMEM_MECH_GUEST_MEMFD, GMEM_NEED_HUGE_2M, 0, "a guest_memfd has no huge pages" },
	{ GMEM_MECH_GUEST_MEMFD, GMEM_NEED_HUGE_1G, 0, "a guest_memfd has no huge pages" },

	{ GMEM_MECH_GUEST_MEMFD_PAIR, GMEM_NEED_MAPPABLE, GMEM_FEATURE_MEMFD, NULL },
	{ GMEM_MECH_GUEST_MEMFD_PAIR, GMEM_NEED_PRIVATE, GMEM_FEATURE_ATTRIBUTES_VM, NULL },
	{ GMEM_MECH_GUEST_MEMFD_PAIR, GMEM_NEED_LAZY, 0, "faults on the private half cannot be served" },
	{ GMEM_MECH_GUEST_MEMFD_PAIR, GMEM_NEED_HIDDEN, 0, "a memfd is in the host's direct map" },
	{ GMEM_MECH_GUEST_MEMFD_PAIR, GMEM_NEED_HUGE_2M, 0, "a guest_memfd has no huge pages" },
	{ GMEM_MECH_GUEST_MEMFD_PAIR, GMEM_NEED_HUGE_1G, 0, "a guest_memfd has no huge pages" },

	{ GMEM_MECH_HUGETLB, GMEM_NEED_PRIVATE, 0, "a memfd cannot be private" },
	{ GMEM_MECH_HUGETLB, GMEM_NEED_LAZY, GMEM_FEATURE_UFFD_MINOR_HUGETLB, NULL },
	{ GMEM_MECH_HUGETLB, GMEM_NEED_HIDDEN, 0, "a memfd is in the host's direct map" },
	{ GMEM_MECH_HUGETLB, GMEM_NEED_HUGE_2M, GMEM_FEATURE_HUGETLB_2M, NULL },
	{ GMEM_MECH_HUGETLB, GMEM_NEED_HUGE_1G, GMEM_FEATURE_HUGETLB_1G, NULL },

	{ GMEM_MECH_MEMFD, GMEM_NEED_PRIVATE, 0, "a memfd cannot be private" },
	{ GMEM_MECH_MEMFD, GMEM_NEED_LAZY, GMEM_FEATURE_UFFD_MINOR_MEMFD, NULL },
	{ GMEM_MECH_MEMFD, GMEM_NEED_HIDDEN, 0, "a memfd is in the host's direct map" },
	{ GMEM_MECH_MEMFD, GMEM_NEED_HUGE_2M, 0, "this backing has pages of the ordinary size" },
	{ GMEM_MECH_MEMFD, GMEM_NEED_HUGE_1G, 0, "this backing has pages of the ordinary size" },
};

const char *gmemi_need_feature(enum gmem_mechanism way, uint64_t need, enum gmem_feature *feature)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].way == way && table[i].need == need) {
			*feature = table[i].feature;
			return table[i].never;
		}
	return NULL;
}

int gmemi_need_check(uint64_t *need, enum gmem_backing backing)
{
	if ((unsigned int)backing > GMEM_BACKING_HUGETLB)
		return gmemi_refuse(-EINVAL, "backing %u is unknown", (unsigned int)backing);
	if (*need & ~NEEDS)
		return gmemi_refuse(-E2BIG, "the needs have bits that this library does not know: 0x%llx",
				    (unsigned long long)(*need & ~NEEDS));
	if (*need & GMEM_NEED_HUGE_2M && *need & GMEM_NEED_HUGE_1G)
		return gmemi_refuse(-EINVAL, "GMEM_NEED_HUGE_2M and GMEM_NEED_HUGE_1G exclude each other");
	if (!*need)
		*need = GMEM_NEED_MAPPABLE;
	if (backing == GMEM_BACKING_HUGETLB && !(*need & (GMEM_NEED_HUGE_2M | GMEM_NEED_HUGE_1G)))
		*need |= GMEM_NEED_HUGE_2M;
	return 0;
}
