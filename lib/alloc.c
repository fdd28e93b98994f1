/* SPDX-License-Identifier: MIT */
#include "alloc.h"

#include <stdlib.h>

#include "err.h"

void *gmemi_alloc(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		gmemi_refuse(-ENOMEM, "no memory for %zu elements of %zu bytes", count, size);
	return memory;
}

void gmemi_free(void *memory)
{
	free(memory);
}
