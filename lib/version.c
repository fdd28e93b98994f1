/* SPDX-License-Identifier: MIT */
#include <gmem/base.h>

const char *gmem_version(void)
{
	return GMEM_VERSION;
}
