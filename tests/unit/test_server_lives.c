/* SPDX-License-Identifier: MIT */
/* Many VMs at a server, at the same time and one after the other, some of which are killed at some time or other. */
#include "gt.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inject.h"
#include "station.h"

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

/* So many lives for each byte that it is told. */
static struct mother mother_make(const struct address *address, unsigned int lives)
{
	struct vm_spec specs[2] = { NATIVE, FIRECRACKER };
	struct mother mother;
	unsigned char order;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	mother.pid = fork();
	assert_true(mother.pid >= 0);
	if (mother.pid == 0) {
		close(ends[0]);
		alarm(300);
		while (read(ends[1], &order, 1) == 1) {
			for (unsigned int i = 0; i < lives; i++)
				live_once(address, &specs[i / 4 % 2], i);
			assert_int_equal(write(ends[1], &order, 1), 1);
		}
		_exit(0);
	}
	close(ends[1]);
	mother.line = ends[0];
	return mother;
}

static void mother_do(struct mother *mother)
{
	unsigned char order = 1;

	assert_int_equal(write(mother->line, &order, 1), 1);
	assert_int_equal(read(mother->line, &order, 1), 1);
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

static void many_lives(void **state)
{
	unsigned int lives = getenv("GT_LIVES") ? (unsigned int)atoi(getenv("GT_LIVES")) : 100;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct mother mother = mother_make(&address, lives);
	size_t fds, mappings, allocations;

	(void)state;
	alarm(300);
	station_open(&station, &address, 2, NULL);
	mother_do(&mother);
	station_await_quiet(&station);
	fds = count_entries("/proc/self/fd");
	mappings = count_lines("/proc/self/maps");
	allocations = inject_live_allocations();
	mother_do(&mother);
	station_await_quiet(&station);
	assert_int_equal(count_entries("/proc/self/fd"), fds);
	assert_int_equal(inject_live_allocations(), allocations);
	assert_true(count_lines("/proc/self/maps") <= mappings + 8); /* libc's own come and go */
	assert_true(station_info(&station).left >= lives);
	assert_int_equal(station_info(&station).left, station_info(&station).admitted);
	mother_end(&mother);
	station_close(&station);
	address_end(&address);
}

static const struct gt_test tests[] = {
	GT(a_hundred_vms, NEEDS),
	GT(many_lives, NEEDS),
};

GT_MAIN("server_lives", tests)
