/* SPDX-License-Identifier: MIT */
#include "content.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gt.h"

unsigned char *buffer(uint64_t length, int byte)
{
	unsigned char *data = malloc(length);

	assert_non_null(data);
	memset(data, byte, length);
	return data;
}

/* A guest_memfd cannot be read: what it holds is looked at through a mapping of our own. */
static void read_memory(const struct gmem *mem, void *buffer, uint64_t length)
{
	int fd = gmem_get_fd(mem, GMEM_FD_MEMORY);
	ssize_t got = pread(fd, buffer, length, 0);
	void *at;

	if (got < 0 && errno == ESPIPE) {
		at = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
		assert_true(at != MAP_FAILED);
		memcpy(buffer, at, length);
		munmap(at, length);
		return;
	}
	assert_int_equal(got, length);
}

void assert_content(const struct gmem *mem, const unsigned char *model, uint64_t length)
{
	unsigned char *is = buffer(length, 0xee);

	read_memory(mem, is, length);
	if (memcmp(is, model, length) != 0)
		for (uint64_t i = 0; i < length; i++)
			if (is[i] != model[i])
				fail_msg("byte %#llx is %#x, not %#x", (unsigned long long)i, is[i], model[i]);
	free(is);
}

void assert_only(const struct gmem *mem, uint64_t size, uint64_t offset, const unsigned char *content, uint64_t length)
{
	unsigned char *is = malloc(size);

	assert_non_null(is);
	read_memory(mem, is, size);
	assert_memory_equal(is + offset, content, length);
	for (uint64_t i = 0; i < size; i++)
		if ((i < offset || i - offset >= length) && is[i])
			fail_msg("byte %#llx is not zero", (unsigned long long)i);
	free(is);
}

void want_small_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
	char line[128] = "";

	if (file && fgets(line, sizeof(line), file) && (strstr(line, "[always]") || strstr(line, "[force]"))) {
		fclose(file);
		gt_skip("shared memory is on huge pages here");
	}
	if (file)
		fclose(file);
}

static unsigned long huge_pages(const char *which)
{
	unsigned long count = 0;
	char path[80];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-2048kB/%s_hugepages", which);
	file = fopen(path, "re");
	if (file && fscanf(file, "%lu", &count) != 1)
		count = 0;
	if (file)
		fclose(file);
	return count;
}

unsigned long promised_huge_pages(void)
{
	return huge_pages("resv");
}

void want_huge_pages(unsigned long count)
{
	unsigned long all = huge_pages("free"), promised = promised_huge_pages();

	if (all < promised + count)
		gt_skip("%lu free 2 MiB pages are needed, %lu are there", count, all > promised ? all - promised : 0);
}
