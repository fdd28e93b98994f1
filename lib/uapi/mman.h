/* SPDX-License-Identifier: MIT */
/* Numbers of mmap's family that the C library's headers may be too old for. Never installed; names are ours. */
#ifndef GMEMI_UAPI_MMAN_H
#define GMEMI_UAPI_MMAN_H

#define MMANI_MADV_POPULATE_WRITE 23 /* 5.14 */
#define MMANI_MFD_NOEXEC_SEAL 0x0008u /* 6.3 */
#define MMANI_MFD_HUGE_SHIFT 26	      /* where memfd_create() takes the logarithm of the page size */

#endif
