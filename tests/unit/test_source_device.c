/* SPDX-License-Identifier: MIT */
/* A source of a block device, where there is one to be read. */
#include "gt.h"

#include <fcntl.h>
#include <unistd.h>

#include <gmem/source.h>

#include "source.h"

static void a_block_device_is_read(void **state)
{
	static const char *const names[] = { "/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0" };
	unsigned char got[512], want[512];
	int fd = -1;
	struct gmem_source *source;
	uint64_t run = UINT64_MAX;
	off_t size;

	(void)state;
	for (size_t i = 0; fd < 0 && i < sizeof(names) / sizeof(names[0]); i++)
		fd = open(names[i], O_RDONLY | O_CLOEXEC);
	size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	if (size < 512) {
		close(fd);
		gt_skip("no block device can be read here");
	}
	assert_int_equal(lseek(fd, 5, SEEK_SET), 5);
	assert_int_equal(gmem_source_create_file((struct gmem_extent[]){ { .fd = fd } }, 1, &source), 0);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 5);
	assert_int_equal(gmemi_source_extent(source, 0, &run), GMEM_ANSWER_DATA);
	assert_int_equal(run, size);
	assert_int_equal(pread(fd, want, 512, 0), 512);
	assert_int_equal(gmem_source_read(source, 0, 512, got, 0), GMEM_ANSWER_DATA);
	assert_memory_equal(got, want, 512);
	gmem_source_destroy(source);
	close(fd);
}

static const struct gt_test tests[] = {
	GT(a_block_device_is_read, GT_NEEDS_NOTHING),
};

GT_MAIN("source_device", tests)
