/* SPDX-License-Identifier: MIT */
/* Numbers of mmap's family that the C library's headers may be too old for. Never installed; names are ours. */
#ifndef GMEMI_UAPI_MMAN_H
#define GMEMI_UAPI_MMAN_H

#include <stdint.h>

#define MMANI_MADV_POPULATE_WRITE 23 /* 5.14 */
#define MMANI_MFD_NOEXEC_SEAL 0x0008u /* 6.3 */
#define MMANI_MFD_HUGE_SHIFT 26	      /* where memfd_create() takes the logarithm of the page size */
#define MMANI_SEAL_FUTURE_WRITE 0x0010	/* 5.1 */

#define MMANI_MPOL_DEFAULT 0
#define MMANI_MPOL_BIND 2
#define MMANI_MPOL_INTERLEAVE 3
#define MMANI_MPOL_LOCAL 4
#define MMANI_MPOL_PREFERRED_MANY 5 /* 5.15 */

/* Numbers that are the same on every architecture but alpha. */
#define MMANI_SYS_FACCESSAT2 439 /* 5.8 */
#define MMANI_SYS_CACHESTAT 451	 /* 6.5 */

struct mmani_cachestat_range {
	uint64_t offset;
	uint64_t length;
};

/* All in pages. */
struct mmani_cachestat {
	uint64_t cached;
	uint64_t dirty;
	uint64_t writeback;
	uint64_t evicted;
	uint64_t recently_evicted;
};

#endif
