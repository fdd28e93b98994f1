/* SPDX-License-Identifier: MIT */
/*
 * Memory that another process fills: it is handed over a socket, and read while it comes. pass-to-process-pager.c is the other
 * side.
 *
 *	cc pass-to-process-vmm.c $(pkg-config --cflags --libs libgmem) -o pass-to-process-vmm -pthread
 *	./pass-to-process-vmm SOCKET BYTES
 *
 * Prints a checksum of the memory and exits 0. When the pager ends in the middle, whoever waits for a page waits on, and this
 * connects to SOCKET until somebody serves there again: nobody ever reads zeros for content. Needs userfaultfd for shared
 * memory (5.14). A thread stands in for a vCPU; with a VM: gmem_bind() the memory before it is registered.
 */
#define _GNU_SOURCE 1
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <gmem.h>

#define UNIT (UINT64_C(64) << 10) /* a multiple of it is a good length */

struct vmm {
	const char *path;
	struct gmem_guard *guard;
	int lacks_pager;
	const uint64_t *memory;
	uint64_t length, sum;
	int done; /* eventfd */
};

/* A negative result is a failure; the sentence says which call it was, what failed, and what to check. */
static void check_gmem(int result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s\n", gmem_last_error());
	exit(1);
}

static void *run_vcpu(void *arg)
{
	struct vmm *v = arg;

	for (uint64_t i = 0; i < v->length / sizeof(*v->memory); i++)
		v->sum = (v->sum << 5 | v->sum >> 59) ^ v->memory[i];
	return eventfd_write(v->done, 1) ? v : NULL;
}

static int on_event(void *user, enum gmem_guard_event event)
{
	struct vmm *v = user;

	if (event == GMEM_GUARD_SILENT)
		fprintf(stderr, "the pager is silent, and may live: nobody can take its place\n");
	v->lacks_pager = event == GMEM_GUARD_DEAD || event == GMEM_GUARD_RELEASED;
	return GMEM_GUARD_BLOCK;
}

static int connect_to(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(name.sun_path, path, sizeof(name.sun_path) - 1);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Negative: nobody listens there now, or the pager refused. */
static int attach(struct vmm *v)
{
	const struct gmem_channel_open_opts me = { .size = sizeof(me), .identity = "example" };
	struct gmem_channel *channel;
	int r, socket = connect_to(v->path);

	if (socket < 0)
		return -1;
	r = gmem_channel_open(socket, &channel, &me);
	close(socket);
	if (r < 0)
		return r;
	r = gmem_guard_attach(v->guard, channel);
	gmem_channel_close(channel); /* the guard has its own claim */
	v->lacks_pager = r < 0;
	return r;
}

/* What a VMM's event loop does besides everything else. */
static void watch_pager(struct vmm *v)
{
	struct pollfd fds[2] = { { .fd = gmem_guard_get_fd(v->guard), .events = POLLIN }, { .fd = v->done, .events = POLLIN } };

	while (!fds[1].revents) {
		if (poll(fds, 2, v->lacks_pager ? 100 : -1) < 0)
			continue; /* a signal came */
		if (fds[0].revents)
			check_gmem(gmem_guard_run(v->guard, 0));
		if (v->lacks_pager && attach(v) == 0)
			printf("another pager has taken over\n");
	}
}

int main(int argc, char **argv)
{
	const struct gmem_create_opts lazy = { .size = sizeof(lazy), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct vmm v = { .path = argc == 3 ? argv[1] : "", .done = eventfd(0, EFD_CLOEXEC) };
	const struct gmem_guard_create_opts watch = { .size = sizeof(watch), .event = on_event, .user = &v };
	struct gmem_vm *vm;
	struct gmem *ram;
	struct gmem_uffd *uffd;
	pthread_t vcpu;
	void *address;

	if (argc != 3 || v.done < 0) {
		fprintf(stderr, "usage: %s SOCKET BYTES\n", argv[0]);
		return 2;
	}
	v.length = (strtoull(argv[2], NULL, 0) + UNIT - 1) / UNIT * UNIT;
	check_gmem(gmem_vm_open(-1, &vm, NULL));
	check_gmem(gmem_create(vm, v.length, &ram, &lazy));
	check_gmem(gmem_map(ram, 0, v.length, &address, NULL));
	check_gmem(gmem_uffd_create(vm, &uffd, NULL));
	check_gmem(gmem_uffd_register(uffd, ram, 0, v.length, NULL));
	check_gmem(gmem_guard_create(uffd, &v.guard, &watch));
	v.lacks_pager = 1; /* the loop connects */
	v.memory = address;
	if (pthread_create(&vcpu, NULL, run_vcpu, &v))
		return 1;
	watch_pager(&v);
	pthread_join(vcpu, NULL);
	printf("checksum 0x%016" PRIx64 "\n", v.sum);
	gmem_guard_destroy(v.guard);
	gmem_uffd_destroy(uffd);
	gmem_destroy(ram);
	gmem_vm_close(vm);
	return close(v.done) || fflush(stdout) ? 1 : 0;
}
