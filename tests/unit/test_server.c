/* SPDX-License-Identifier: MIT */
/* VMs that come to a server, are served, and go. */
#include "gt.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channels.h"
#include "handles.h"
#include "inject.h"
#include "served.h"

#define PAGES 64
#define NEEDS (GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR)
#define NATIVE { .pages = PAGES, .backing = GMEM_BACKING_MEMFD, .identity = "a VM" }
#define FIRECRACKER                                                             \
	{                                                                       \
		.pages = PAGES, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_COPY, \
		.protocol = GMEM_PROTOCOL_FIRECRACKER                           \
	}

/* --- served to the end -------------------------------------------------------------------------------------------------- */

static void serve_one(int type, const struct vm_spec *spec, int reason)
{
	struct address address = address_make(type);
	struct station station = { .refuse = 0 };
	struct vm vm = vm_make(&address, spec);

	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	vm_end(&vm);
	assert_int_equal(station_await_left(&station, 1), reason);
	assert_int_equal(station_info(&station).vms, 0);
	assert_int_equal(station_info(&station).admitted, 1);
	station_close(&station);
	address_end(&address);
}

static void native_over_a_stream(void **state)
{
	struct vm_spec spec = NATIVE;

	(void)state;
	serve_one(SOCK_STREAM, &spec, -ESRCH);
}

static void native_over_packets(void **state)
{
	struct vm_spec spec = NATIVE;

	(void)state;
	serve_one(SOCK_SEQPACKET, &spec, -ESRCH);
}

static void firecracker_over_a_stream(void **state)
{
	struct vm_spec spec = FIRECRACKER;

	(void)state;
	serve_one(SOCK_STREAM, &spec, -ESRCH);
}

static void firecracker_over_packets(void **state)
{
	struct vm_spec spec = FIRECRACKER;

	(void)state;
	serve_one(SOCK_SEQPACKET, &spec, -ESRCH);
}

/* Its process lives on. */
static void a_vm_that_lets_go(void **state)
{
	struct vm_spec spec = NATIVE;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct vm vm = vm_make(&address, &spec);

	(void)state;
	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, 1), 0);
	assert_int_equal(vm_do(&vm, VM_LET_GO, 0, 0), 0);
	assert_int_equal(station_await_left(&station, 1), 0);
	vm_end(&vm);
	station_close(&station);
	address_end(&address);
}

/* The connection is not needed after the handshake; the end of the process is noticed without it. */
static void a_connection_that_is_closed(void **state)
{
	struct vm_spec spec = FIRECRACKER;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct vm vm = vm_make(&address, &spec);

	(void)state;
	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_HANG_UP, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES / 2), 0);
	assert_int_equal(station_info(&station).vms, 1);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	vm_kill(&vm);
	assert_int_equal(station_await_left(&station, 1), -ESRCH);
	station_close(&station);
	address_end(&address);
}

/* --- who is not served -------------------------------------------------------------------------------------------------- */

static int look_at_peer(struct station *station, const struct gmem_channel_info *peer)
{
	(void)station;
	return peer->uid == getuid() && peer->pid && strcmp(peer->identity, "a VM") == 0 ? -EACCES : -EINVAL;
}

static void a_vm_that_is_refused(void **state)
{
	struct vm_spec spec = NATIVE;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .admit = look_at_peer };
	struct vm vm = vm_make(&address, &spec);

	(void)state;
	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), -EPROTO);
	assert_int_equal(vm_do(&vm, VM_STATE, 0, 0), GMEM_GUARD_NONE);
	assert_int_equal(station_info(&station).refused, 1);
	station_admit_all(&station);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0); /* it may come again */
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	vm_end(&vm);
	assert_int_equal(station_await_left(&station, 1), -ESRCH);
	assert_int_equal(station.left, 1);
	station_close(&station);
	address_end(&address);
}

static void no_more_vms_than_allowed(void **state)
{
	struct gmem_server_create_opts few = { .size = sizeof(few), .max_vms = 1 };
	struct vm_spec spec = NATIVE;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct vm first = vm_make(&address, &spec), second = vm_make(&address, &spec);

	(void)state;
	station_open(&station, &address, 1, &few);
	assert_int_equal(vm_do(&first, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&second, VM_ATTACH, 0, 0), -EPROTO);
	assert_int_equal(vm_do(&first, VM_CHECK, 0, PAGES), 0);
	vm_end(&first);
	station_await_left(&station, 1);
	assert_int_equal(vm_do(&second, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&second, VM_CHECK, 0, PAGES), 0);
	vm_end(&second);
	station_close(&station);
	address_end(&address);
}

/* --- who stalls --------------------------------------------------------------------------------------------------------- */

/* One that says nothing, one that stops in the middle, and one whose program takes its time: VMs are served meanwhile. */
static void stalled_peers(void **state)
{
	struct vm_spec spec = NATIVE;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct vm vm = vm_make(&address, &spec);
	int silent, half;

	(void)state;
	station_open(&station, &address, 1, NULL);
	silent = address_connect(&address);
	half = address_connect(&address);
	assert_true(silent >= 0 && half >= 0);
	send_raw(half, "[{\"base_", 8, NULL, 0);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	assert_int_equal(station_info(&station).broken, 0); /* they are there still */
	assert_int_equal(station_info(&station).handshakes, 2);
	close(silent);
	close(half);
	vm_end(&vm);
	station_close(&station);
	address_end(&address);
}

/* There is room for one handshake at a time, and both are closed. */
static void peers_out_of_time(void **state)
{
	struct gmem_channel_open_opts hurry = { .size = sizeof(hurry), .timeout_ns = 20000000 };
	struct gmem_server_create_opts opts = { .size = sizeof(opts), .channel = &hurry, .max_handshakes = 1 };
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	int first = address_connect(&address), second = address_connect(&address);
	char byte;

	(void)state;
	assert_true(first >= 0 && second >= 0);
	station_open(&station, &address, 1, &opts);
	assert_int_equal(recv(first, &byte, 1, 0), 0);
	assert_int_equal(recv(second, &byte, 1, 0), 0);
	assert_int_equal(station_info(&station).broken, 2);
	close(first);
	close(second);
	station_close(&station);
	address_end(&address);
}

static int wait_in_admit(struct station *station, const struct gmem_channel_info *peer)
{
	if (strcmp(peer->identity, "slow") != 0)
		return 0;
	pthread_mutex_lock(&station->lock);
	station->holding++;
	pthread_cond_broadcast(&station->changed);
	while (!station->open)
		pthread_cond_wait(&station->changed, &station->lock);
	pthread_mutex_unlock(&station->lock);
	return -ENOENT;
}

/* Faults of others go on. */
static void a_program_that_takes_its_time(void **state)
{
	struct vm_spec quick = NATIVE, slow = NATIVE;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .admit = wait_in_admit };
	struct vm vm, other;

	(void)state;
	slow.identity = "slow";
	vm = vm_make(&address, &quick);
	other = vm_make(&address, &slow);
	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	vm_tell(&other, VM_ATTACH, 0, 0);
	station_await_holding(&station, 1);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	station_open_gate(&station);
	assert_int_equal(vm_answer(&other), -EPROTO);
	vm_end(&vm);
	vm_end(&other);
	station_close(&station);
	address_end(&address);
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
	native.pages = firecracker.pages = 16;
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
	assert_int_equal(station_info(&station).vms, 0);
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
		specs[0].pages = specs[1].pages = 16;
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

static void await_quiet(const struct station *station)
{
	struct gmem_server_info info;

	do {
		sched_yield();
		info = station_info(station);
	} while (info.vms || info.handshakes);
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
	await_quiet(&station);
	fds = count_entries("/proc/self/fd");
	mappings = count_lines("/proc/self/maps");
	allocations = inject_live_allocations();
	mother_do(&mother);
	await_quiet(&station);
	assert_int_equal(count_entries("/proc/self/fd"), fds);
	assert_int_equal(inject_live_allocations(), allocations);
	assert_true(count_lines("/proc/self/maps") <= mappings + 8); /* libc's own come and go */
	assert_true(station_info(&station).left >= lives);
	assert_int_equal(station_info(&station).left, station_info(&station).admitted);
	mother_end(&mother);
	station_close(&station);
	address_end(&address);
}

/* --- ranges that come and go -------------------------------------------------------------------------------------------- */

static void ranges_at_run_time(void **state)
{
	struct vm_spec spec = NATIVE;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct vm vm;

	(void)state;
	spec.parts = 4;
	vm = vm_make(&address, &spec);
	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES / 2), 0);
	assert_int_equal(vm_do(&vm, VM_ADD, 2, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES * 3 / 4), 0);
	assert_int_equal(vm_do(&vm, VM_REMOVE, 1, 0), 0);
	assert_int_equal(vm_do(&vm, VM_ADD, 3, 0), 0);
	assert_int_equal(vm_do(&vm, VM_ADD, 1, 0), 0);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES), 0);
	vm_end(&vm);
	assert_int_equal(station_await_left(&station, 1), -ESRCH);
	station_close(&station);
	address_end(&address);
}

static void not_with_firecracker(void **state)
{
	struct vm_spec spec = FIRECRACKER;
	struct address address = address_make(SOCK_STREAM);
	struct station station = { .refuse = 0 };
	struct vm vm;

	(void)state;
	spec.parts = 2;
	vm = vm_make(&address, &spec);
	station_open(&station, &address, 1, NULL);
	assert_int_equal(vm_do(&vm, VM_ATTACH, 0, 0), 0);
	assert_int_equal(vm_do(&vm, VM_ADD, 1, 0), -EOPNOTSUPP);
	assert_int_equal(vm_do(&vm, VM_CHECK, 0, PAGES / 2), 0);
	vm_end(&vm);
	station_close(&station);
	address_end(&address);
}

static const struct gt_test tests[] = {
	GT(native_over_a_stream, NEEDS),
	GT(native_over_packets, NEEDS),
	GT(firecracker_over_a_stream, NEEDS),
	GT(firecracker_over_packets, NEEDS),
	GT(a_vm_that_lets_go, NEEDS),
	GT(a_connection_that_is_closed, NEEDS),
	GT(a_vm_that_is_refused, NEEDS),
	GT(no_more_vms_than_allowed, NEEDS),
	GT(stalled_peers, NEEDS),
	GT(peers_out_of_time, 0),
	GT(a_program_that_takes_its_time, NEEDS),
	GT(a_hundred_vms, NEEDS),
	GT(many_lives, NEEDS),
	GT(ranges_at_run_time, NEEDS),
	GT(not_with_firecracker, NEEDS),
};

GT_MAIN("server", tests)
