/* SPDX-License-Identifier: MIT */
/* What a fake guest_memfd says of itself, and of its pages: against what the presets promise, and against the kernel's own. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fakekvm.h"
#include "gt.h"
#include "raw.h"

#define PAGE RAW_PAGE
#define PAGES 8
#define FACCESSAT2 439
#define CACHESTAT 451
#define MPOL_DEFAULT 0
#define MPOL_BIND 2
#define MPOL_F_ADDR 2
#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE: not in every libc */

/* A file of eight pages: 1 and 2 allocated only, 4 written. Mapped. */
struct file {
	int vm, fd;
	char *at;
};

static struct file new_file(int vm)
{
	struct file file = { .vm = vm };

	assert_true(vm >= 0);
	file.fd = raw_guest_memfd(vm, PAGES * PAGE, RAW_SHARED);
	file.at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
	assert_ptr_not_equal(file.at, MAP_FAILED);
	assert_int_equal(fallocate(file.fd, FALLOC_FL_KEEP_SIZE, PAGE, 2 * PAGE), 0);
	file.at[4 * PAGE] = 1;
	return file;
}

static void end_file(struct file file)
{
	munmap(file.at, PAGES * PAGE);
	close(file.fd);
	close(file.vm);
}

/* Pages of a range that are cached, or a negative errno. */
static long cached(int fd, uint64_t first, uint64_t count)
{
	uint64_t range[2] = { first * PAGE, count * PAGE }, found[5] = { 0 };
	long result = raw_result(syscall(CACHESTAT, fd, range, found, 0));

	return result ? result : (long)found[0];
}

static long set_policy(char *at, int mode, unsigned long mask)
{
	return raw_result(syscall(SYS_mbind, at, PAGE, mode, mask ? &mask : NULL, mask ? 65ul : 0ul, 0));
}

/* The mode of the policy at an address. */
static long policy_of(char *at)
{
	unsigned long mask[16];
	int mode = -1;

	return syscall(SYS_get_mempolicy, &mode, mask, sizeof(mask) * 8, at, MPOL_F_ADDR) ? -errno : mode;
}

/* Alike on every kernel: a row's answer of the stand-in is the kernel's. */

static long cached_everywhere(const struct file *file)
{
	return cached(file->fd, 0, PAGES);
}

static long cached_in_part(const struct file *file)
{
	return cached(file->fd, 2, 2);
}

static long cached_to_the_end(const struct file *file)
{
	return cached(file->fd, 3, 0);
}

static long cached_when_punched(const struct file *file)
{
	assert_int_equal(fallocate(file->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, PAGE, PAGE), 0);
	return cached(file->fd, 0, PAGES);
}

/* A bit for every page. */
static long written(const struct file *file)
{
	unsigned char vector[PAGES];
	long result = 0;

	assert_int_equal(mincore(file->at, PAGES * PAGE, vector), 0);
	for (int i = 0; i < PAGES; i++)
		result |= (vector[i] & 1l) << i;
	return result;
}

static long written_when_populated(const struct file *file)
{
	assert_int_equal(madvise(file->at, 2 * PAGE, POPULATE_WRITE), 0);
	return written(file);
}

static long mode_of(const struct file *file)
{
	struct stat about;

	assert_int_equal(fstat(file->fd, &about), 0);
	return (long)about.st_mode;
}

static long length(const struct file *file)
{
	struct stat about;

	assert_int_equal(fstat(file->fd, &about), 0);
	return about.st_size;
}

static long blocks(const struct file *file)
{
	struct stat about;

	assert_int_equal(fstat(file->fd, &about), 0);
	return about.st_blksize * 1000 + about.st_blocks;
}

static long seals(const struct file *file)
{
	return raw_result(fcntl(file->fd, F_GET_SEALS));
}

static long access_mode(const struct file *file)
{
	return raw_result(fcntl(file->fd, F_GETFL)) & O_ACCMODE;
}

static long spliced(int from, off_t *from_offset, int to, off_t *to_offset)
{
	return raw_result(splice(from, from_offset, to, to_offset, PAGE, 0));
}

static long splice_in(const struct file *file)
{
	off_t offset = 0;
	int ends[2];
	long result;

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(write(ends[1], "x", 1), 1);
	result = spliced(ends[0], NULL, file->fd, &offset) * 1000 + spliced(ends[0], NULL, file->fd, NULL);
	close(ends[0]);
	close(ends[1]);
	return result;
}

static long splice_out(const struct file *file)
{
	off_t offset = 0;
	int ends[2];
	long result;

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	result = spliced(file->fd, &offset, ends[1], NULL) * 1000 + spliced(file->fd, NULL, ends[1], NULL);
	close(ends[0]);
	close(ends[1]);
	return result;
}

static long bind_to_first_node(const struct file *file)
{
	return set_policy(file->at, MPOL_BIND, 1);
}

static long reset_policy(const struct file *file)
{
	return set_policy(file->at, MPOL_DEFAULT, 0);
}

/* What its owner's right to write lets others know. */
static int ask_as_nobody(void *arg)
{
	const struct file *file = arg;
	long access = raw_result(syscall(FACCESSAT2, file->fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS));

	return (int)-access + (written(file) == (1 << PAGES) - 1 ? 100 : 0);
}

static long told_to_others(const struct file *file)
{
	struct file copy = *file;

	return gt_as_user(GT_NOBODY, ask_as_nobody, &copy);
}

struct question {
	const char *name;
	long (*ask)(const struct file *file);
	long answer;
};

static const struct question questions[] = {
	{ "pages cached", cached_everywhere, 3 },
	{ "pages cached in a range", cached_in_part, 1 },
	{ "pages cached up to the end", cached_to_the_end, 1 },
	{ "pages cached after a punch", cached_when_punched, 2 },
	{ "pages written", written, 1 << 4 },
	{ "pages written after MADV_POPULATE_WRITE", written_when_populated, 1 << 4 | 3 },
	{ "mode", mode_of, 0100600 },
	{ "length", length, PAGES * PAGE },
	{ "blocks and their size", blocks, PAGE * 1000 },
	{ "seals", seals, -EINVAL },
	{ "access mode", access_mode, O_RDWR },
	{ "splice() in", splice_in, -EINVAL * 1001 },
	{ "splice() out", splice_out, -EINVAL * 1001 },
	{ "mbind()", bind_to_first_node, 0 },
	{ "mbind() to no policy", reset_policy, 0 },
};
#define QUESTIONS (sizeof(questions) / sizeof(questions[0]))

static void answers_on(int (*new_vm)(void), const struct question *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct file file = new_file(new_vm());
		long answer = list[i].ask(&file);

		if (answer != list[i].answer)
			fail_msg("%s: %ld instead of %ld", list[i].name, answer, list[i].answer);
		end_file(file);
	}
}

static int fake_6_18(void)
{
	return fakekvm_vm(fakekvm_preset("6.18"));
}

static int fake_7_3(void)
{
	return fakekvm_vm(fakekvm_preset("7.3"));
}

static int real(void)
{
	return raw_vm(0);
}

static void fake_answers_as_expected(void **state)
{
	(void)state;
	answers_on(fake_6_18, questions, QUESTIONS);
	fakekvm_disable();
	answers_on(fake_7_3, questions, QUESTIONS);
}

static void kernel_answers_as_expected(void **state)
{
	(void)state;
	answers_on(real, questions, QUESTIONS);
}

static const struct question of_others[] = { { "told to others", told_to_others, EACCES + 100 } };

static void fake_tells_others_nothing(void **state)
{
	(void)state;
	answers_on(fake_6_18, of_others, 1);
}

static void kernel_tells_others_nothing(void **state)
{
	(void)state;
	answers_on(real, of_others, 1);
}

/* Different from kernel to kernel */

static void check_name(int fd, const char *expected)
{
	char path[32], name[PATH_MAX];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, name, sizeof(name) - 1);
	assert_int_equal(length, strlen(expected));
	name[length] = '\0';
	assert_string_equal(name, expected);
	name[4] = '#';
	assert_int_equal(readlink(path, name, 4), 4); /* cut to the room */
	assert_int_equal(name[4], '#');
}

static void name_tells_what_it_is(void **state)
{
	struct file old = new_file(fake_6_18()), young = new_file(fake_7_3());
	char name[PATH_MAX];

	(void)state;
	check_name(old.fd, "anon_inode:[kvm-gmem]");
	check_name(young.fd, "/[kvm-gmem] (deleted)");
	assert_true(readlink("/proc/self/exe", name, sizeof(name)) > 0); /* nobody's business here */
	end_file(young);
	end_file(old);
}

static void kernel_says_one_of_the_names(void **state)
{
	struct file file = new_file(real());
	char path[32], name[PATH_MAX] = "";

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file.fd);
	assert_true(readlink(path, name, sizeof(name) - 1) > 0);
	assert_true(strcmp(name, "anon_inode:[kvm-gmem]") == 0 || strcmp(name, "/[kvm-gmem] (deleted)") == 0);
	end_file(file);
}

static void oldest_kernel_has_no_cachestat(void **state)
{
	int file = memfd_create("cached", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(file, PAGE), 0);
	assert_int_equal(pwrite(file, "x", 1, 0), 1);
	fakekvm_enable(fakekvm_preset("6.1"));
	assert_int_equal(cached(file, 0, 1), -ENOSYS);
	fakekvm_enable(fakekvm_preset("6.12"));
	assert_int_equal(cached(file, 0, 1), 1);
	fakekvm_disable();
	assert_int_equal(cached(file, 0, 1), 1);
	close(file);
}

/* Before it had a file system of its own it said yes and did nothing. */
static void policy_is_kept_by_young_kernels(void **state)
{
	struct file old = new_file(fake_6_18()), young = new_file(fake_7_3());

	(void)state;
	assert_int_equal(set_policy(old.at, MPOL_BIND, 1), 0);
	assert_int_equal(policy_of(old.at), MPOL_DEFAULT);
	assert_int_equal(set_policy(old.at, MPOL_BIND, 1ul << 63), 0);
	assert_int_equal(set_policy(young.at, MPOL_BIND, 1), 0);
	assert_int_equal(policy_of(young.at), MPOL_BIND);
	assert_int_equal(set_policy(young.at, MPOL_BIND, 1ul << 63), -EINVAL);
	end_file(young);
	end_file(old);
}

static void scripts_stop_them(void **state)
{
	struct file file = new_file(fake_7_3());
	char name[64];
	off_t offset = 0;
	char path[32];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file.fd);
	fakekvm_script("cachestat", EPERM, 1, 0);
	assert_int_equal(cached(file.fd, 0, 1), -EPERM);
	assert_int_equal(cached(file.fd, 4, 1), 1);
	fakekvm_script("mbind", EIO, 1, 0);
	assert_int_equal(set_policy(file.at, MPOL_BIND, 1), -EIO);
	assert_int_equal(set_policy(file.at, MPOL_BIND, 1), 0);
	fakekvm_script("readlink", EACCES, 1, 0);
	assert_int_equal(raw_result(readlink(path, name, sizeof(name))), -EACCES);
	assert_true(readlink(path, name, sizeof(name)) > 0);
	fakekvm_script("splice", ENOMEM, 1, 0);
	assert_int_equal(spliced(file.fd, &offset, -1, NULL), -ENOMEM);
	assert_int_equal(spliced(-1, NULL, file.fd, &offset), -EINVAL);
	assert_int_equal(fakekvm_calls("cachestat") + fakekvm_calls("mbind"), 4);
	assert_int_equal(fakekvm_calls("readlink") + fakekvm_calls("splice"), 4);
	end_file(file);
}

/* What is no guest_memfd is neither counted nor stopped. */
static void scripts_leave_others_alone(void **state)
{
	int file = memfd_create("other", MFD_CLOEXEC);
	char *at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
	char name[64];

	(void)state;
	fakekvm_enable(fakekvm_preset("7.3"));
	fakekvm_script("cachestat", EPERM, 0, 0);
	fakekvm_script("mbind", EIO, 0, 0);
	fakekvm_script("readlink", EACCES, 0, 0);
	fakekvm_script("splice", ENOMEM, 0, 0);
	assert_int_equal(cached(file, 0, 1), 0);
	assert_int_equal(set_policy(at, MPOL_DEFAULT, 0), 0);
	assert_true(readlink("/proc/self/exe", name, sizeof(name)) > 0);
	assert_int_equal(spliced(file, NULL, -1, NULL), -EBADF);
	assert_int_equal(fakekvm_calls("cachestat") + fakekvm_calls("splice"), 0);
	munmap(at, PAGE);
	close(file);
}

static const struct gt_test tests[] = {
	GT(fake_answers_as_expected, GT_NEEDS_NOTHING),
	GT(kernel_answers_as_expected, GT_NEEDS_GUEST_MEMFD),
	GT(fake_tells_others_nothing, GT_NEEDS_ORDINARY_USER),
	GT(kernel_tells_others_nothing, GT_NEEDS_GUEST_MEMFD | GT_NEEDS_ORDINARY_USER),
	GT(name_tells_what_it_is, GT_NEEDS_NOTHING),
	GT(kernel_says_one_of_the_names, GT_NEEDS_GUEST_MEMFD),
	GT(oldest_kernel_has_no_cachestat, GT_NEEDS_NOTHING),
	GT(policy_is_kept_by_young_kernels, GT_NEEDS_NOTHING),
	GT(scripts_stop_them, GT_NEEDS_NOTHING),
	GT(scripts_leave_others_alone, GT_NEEDS_NOTHING),
};

GT_MAIN("selftest_file", tests)
