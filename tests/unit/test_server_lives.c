/* SPDX-License-Identifier: MIT */
/* Many VMs at a server, at the same time and one after the other, some of which are killed at some time or other. */
#include "gt.h"

#include <dirent.h>
#include <inttypes.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"
#include "station.h"

#define LEAK 256    /* bytes for each life: as little as is seen, */
#define ENOUGH 1000 /* of so many */
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define NATIVE { .pages = 16, .backing = GMEM_BACKING_MEMFD, .identity = "a VM" }
#define FIRECRACKER                                                             \
	{                                                                       \
		.pages = 16, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_COPY, \
		.protocol = GMEM_PROTOCOL_FIRECRACKER                           \
	}

/* --- many --------------------------------------------------------------------------------------------------------------- */

#define MANY 100

static void a_hundred_vms(void **state)
{
	struct vm_spec native = NATIVE, firecracker = FIRECRACKER;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct vm vms[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++)
		vms[i] = vm_make(&address, i % 2 ? &native : &firecracker);
	station_open(&station, &address, 2, NULL);
	for (int i = 0; i < MANY; i++)
		vm_tell(&vms[i], VM_ATTACH, 0, 0);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(vm_answer(&vms[i]), 0);
	for (int i = 0; i < MANY; i++)
		vm_tell(&vms[i], VM_CHECK, 0, 16);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(vm_answer(&vms[i]), 0);
	for (int i = 0; i < MANY; i++)
		vm_end(&vms[i]);
	station_await_left(&station, MANY);
	station_await_quiet(&station);
	station_close(&station);
	address_end(&address);
}

/* --- killed, and again and again ---------------------------------------------------------------------------------------- */

/* A process without threads that makes VMs, one after the other, while the test serves. */
struct mother {
	pid_t pid;
	int line;
};

static void kill_some_time(struct vm *vm, unsigned int turns)
{
	vm_tell(vm, VM_ATTACH, 0, 0);
	vm_tell(vm, VM_CHECK, 0, 16);
	for (unsigned int i = 0; i < turns; i++) /* not a wait for anything: some time or other */
		(void)getppid();
	vm_kill(vm);
}

static void live_once(const struct address *address, const struct vm_spec *spec, unsigned int number)
{
	struct vm vm = vm_make(address, spec);

	if (number % 4 == 3) {
		kill_some_time(&vm, number * 37 % 100000);
		return;
	}
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, 16), 0);
	if (number % 4 == 2)
		assert_int_equal(vm_do(&vm, VM_LET_GO, 0, 0), 0);
	vm_end(&vm);
}

/* As many lives as it is told. */
static struct mother mother_make(const struct address *address)
{
	struct vm_spec specs[2] = { NATIVE, FIRECRACKER };
	struct mother mother;
	unsigned int lives;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	mother.pid = fork();
	assert_true(mother.pid >= 0);
	if (mother.pid == 0) {
		close(ends[0]);
		alarm(300);
		while (read(ends[1], &lives, sizeof(lives)) == sizeof(lives)) {
			for (unsigned int i = 0; i < lives; i++)
				live_once(address, &specs[i / 4 % 2], i);
			assert_int_equal(write(ends[1], &lives, sizeof(lives)), sizeof(lives));
		}
		_exit(0);
	}
	close(ends[1]);
	mother.line = ends[0];
	return mother;
}

static void mother_do(struct mother *mother, unsigned int lives)
{
	assert_int_equal(write(mother->line, &lives, sizeof(lives)), sizeof(lives));
	assert_int_equal(read(mother->line, &lives, sizeof(lives)), sizeof(lives));
}

static void mother_end(struct mother *mother)
{
	int status;

	close(mother->line);
	assert_int_equal(waitpid(mother->pid, &status, 0), mother->pid);
	assert_int_equal(status, 0);
}

static size_t count_entries(const char *path)
{
	size_t count = 0;
	DIR *directory = opendir(path);

	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

static size_t count_lines(const char *path)
{
	FILE *file = fopen(path, "r");
	size_t count = 0;
	int c;

	assert_non_null(file);
	while ((c = getc(file)) != EOF)
		count += c == '\n';
	fclose(file);
	return count;
}

/* Bytes of memory that belong to no file; what the allocator keeps for later is given back before. */
static uint64_t own_bytes(void)
{
	FILE *file;
	char line[200];
	uint64_t kib = 0;

#ifdef __GLIBC__
	malloc_trim(0);
#endif
	file = fopen("/proc/self/smaps_rollup", "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Anonymous: %" SCNu64, &kib) == 1)
			break;
	fclose(file);
	assert_true(kib > 0);
	return kib << 10;
}

/* What has to be as it was, however many have lived. */
struct toll {
	size_t fds, mappings, allocations;
	uint64_t bytes;
};

static struct toll toll_of(struct station *station)
{
	struct toll toll;

	station_await_quiet(station);
	toll.fds = count_entries("/proc/self/fd");
	toll.mappings = count_lines("/proc/self/maps");
	toll.allocations = inject_live_allocations();
	toll.bytes = own_bytes();
	return toll;
}

/* Sanitizers keep what was freed, and take their time. */
#pragma weak __asan_init
#pragma weak __tsan_init
void __asan_init(void);
void __tsan_init(void);

static bool is_sanitized(void)
{
	return __asan_init || __tsan_init;
}

static unsigned int count_lives(void)
{
	if (getenv("GT_LIVES"))
		return (unsigned int)atoi(getenv("GT_LIVES"));
	return is_sanitized() ? ENOUGH / 5 : ENOUGH;
}

/* The first fifth of them brings everything to its size. */
static void many_lives(void **state)
{
	unsigned int lives = count_lives(), first = lives / 5;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct mother mother = mother_make(&address);
	struct toll before, after;

	(void)state;
	alarm(300);
	inject_touch_ledgers();
	station_open(&station, &address, 2, NULL);
	mother_do(&mother, first);
	before = toll_of(&station);
	mother_do(&mother, lives - first);
	after = toll_of(&station);
	assert_int_equal(after.fds, before.fds);
	assert_int_equal(after.allocations, before.allocations);
	assert_true(after.mappings <= before.mappings + 8); /* libc's own come and go */
	if (!is_sanitized() && lives >= ENOUGH)
		assert_true(after.bytes < before.bytes + LEAK * (lives - first));
	assert_true(station_info(&station).left >= lives / 2);
	assert_int_equal(station_info(&station).left, station_info(&station).admitted);
	mother_end(&mother);
	station_close(&station);
	address_end(&address);
	alarm(0);
}

static const struct gt_test tests[] = {
	GT(a_hundred_vms, NEEDS),
	GT(many_lives, NEEDS),
};

GT_MAIN("server_lives", tests)
