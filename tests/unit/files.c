/* SPDX-License-Identifier: MIT */
#include "files.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "gt.h"
#include "refusal.h"

#define TMPFS_MAGIC 0x01021994

int memfd_of(uint64_t length, unsigned int flags, int seals)
{
	unsigned int sealing = flags & WITHOUT_SEALS ? 0 : MFD_ALLOW_SEALING;
	int fd = memfd_create("elsewhere", (flags & ~WITHOUT_SEALS) | sealing | MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)length), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

int tmpfs_file(uint64_t length)
{
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct statfs about;

	if (fd < 0 || fstatfs(fd, &about) || about.f_type != TMPFS_MAGIC) {
		if (fd >= 0)
			close(fd);
		gt_skip("/dev/shm is no tmpfs that can be written");
	}
	assert_int_equal(ftruncate(fd, (off_t)length), 0);
	return fd;
}

int reopened(int fd, int flags)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	assert_true(again >= 0);
	return again;
}

static int import(struct gmem_vm *vm, int fd, uint64_t length, uint64_t need, uint64_t flags, struct gmem **mem)
{
	struct gmem_import_opts opts = { .size = sizeof(opts), .need = need, .flags = flags };

	*mem = UNTOUCHED;
	return gmem_import(vm, fd, length, mem, &opts);
}

struct gmem *imported(struct gmem_vm *vm, int fd, uint64_t length, uint64_t need, uint64_t flags)
{
	struct gmem *mem;

	if (import(vm, fd, length, need, flags, &mem))
		fail_msg("%s", gmem_last_error());
	assert_ptr_not_equal(mem, UNTOUCHED);
	return mem;
}

void refused(struct gmem_vm *vm, int fd, uint64_t length, uint64_t need, uint64_t flags, int code, const char *word)
{
	struct gmem *mem;

	spoil_sentence();
	bad("gmem_import", import(vm, fd, length, need, flags, &mem), code, word);
	assert_ptr_equal(mem, UNTOUCHED);
}
