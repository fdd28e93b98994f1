/* SPDX-License-Identifier: MIT */
#include "range.h"

#include "err.h"

typedef unsigned long long ull;

int gmemi_range_check(uint64_t offset, uint64_t length, uint64_t align, uint64_t limit)
{
	if (length == 0)
		return gmemi_refuse(-EINVAL, "the length is 0");
	if (!gmemi_aligned(offset, align) || !gmemi_aligned(length, align))
		return gmemi_refuse(-EINVAL, "offset 0x%llx and length 0x%llx are not both multiples of the page size 0x%llx",
				    (ull)offset, (ull)length, (ull)align);
	if (offset > limit || length > limit - offset)
		return gmemi_refuse(-EINVAL, "offset 0x%llx + length 0x%llx is beyond the end at 0x%llx", (ull)offset,
				    (ull)length, (ull)limit);
	return 0;
}
