/* SPDX-License-Identifier: MIT */
#include "huge.h"

#include <stdio.h>

#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static size_t number_in(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned long number = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%lu", &number) != 1)
		number = 0;
	fclose(file);
	return number;
}

size_t huge_length(size_t most)
{
	size_t there = number_in(POOL "free_hugepages"), promised = number_in(POOL "resv_hugepages");
	size_t length = there > promised ? (there - promised) * HUGE_PAGE : HUGE_PAGE;

	return length < most ? length : most;
}
