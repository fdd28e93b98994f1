/* SPDX-License-Identifier: MIT */
/* Floor 4: the callback of the calls of populate.h. */
#ifndef GMEMI_POPULATE_PROGRESS_H
#define GMEMI_POPULATE_PROGRESS_H

#include <gmem/populate.h>

#include "err.h"

/* -ECANCELED when it says stop and there is something left. */
static inline int gmemi_progress_tell(gmem_progress_fn progress, void *user, uint64_t done, uint64_t length)
{
	if (progress && progress(user, done, length) && done < length)
		return gmemi_refuse(-ECANCELED, "the progress callback said stop");
	return 0;
}

#endif
