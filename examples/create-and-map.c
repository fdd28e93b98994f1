/* SPDX-License-Identifier: MIT */
/*
 * Memory by need: asks for huge pages, takes what there is, maps and touches it, and looks at which pages exist.
 *
 *	cc create-and-map.c $(pkg-config --cflags --libs libgmem) -o create-and-map
 *	./create-and-map
 *
 * Prints what the memory is made of, then its pages when it is new, when two ranges were touched, and when one of these was
 * discarded again. Exits 0. Needs nothing: without free huge pages it takes smaller ones, and without /dev/kvm memory that
 * no VM is needed for, and says so.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <gmem.h>

#define MIB (UINT64_C(1) << 20)
#define LENGTH (16 * MIB) /* a multiple of every page size that is asked for */

/* A negative result is a failure; the sentence says which call it was, what failed, and what to check. */
static void check_gmem(int result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s\n", gmem_last_error());
	exit(1);
}

/* The fd of a new VM, or -1: then the library makes memory without one. */
static int make_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0)
		printf("No VM (/dev/kvm: %s): making memory without one.\n", strerror(errno));
	if (kvm >= 0)
		close(kvm);
	return vm;
}

/* Huge pages are set aside by mapping them, so only memory that has been mapped is sure to be there. */
static int create_and_map(struct gmem_vm *vm, uint64_t need, struct gmem **ram, void **address)
{
	const struct gmem_create_opts opts = { .size = sizeof(opts), .need = need, .name = "example" };
	int r = gmem_create(vm, LENGTH, ram, &opts);

	if (r < 0)
		return r;
	r = gmem_map(*ram, 0, LENGTH, address, NULL);
	if (r < 0)
		gmem_destroy(*ram);
	return r;
}

static void print_choice(const struct gmem *ram)
{
	struct gmem_info info = { .size = sizeof(info) };

	check_gmem(gmem_query(ram, &info));
	printf("%" PRIu64 " MiB of %s, made by %s, on pages of %" PRIu64 " KiB\n", info.length / MIB,
	       gmem_backing_name((enum gmem_backing)info.backing), gmem_mechanism_name((enum gmem_mechanism)info.mechanism),
	       info.page_size / 1024);
}

static const char *state_name(uint64_t state)
{
	if (state & GMEM_RUN_ALLOCATED)
		return state & GMEM_RUN_INITIALISED ? "there, with content" : "there";
	return state & GMEM_RUN_ALLOCATED_UNKNOWN ? "the kernel does not say" : "absent: reads as zeros, costs nothing";
}

/* A run ends where the state changes, or earlier: neighbours may be alike. */
static void print_runs(struct gmem *ram, const char *when)
{
	struct gmem_run run = { .size = sizeof(run) };

	printf("%s:\n", when);
	for (uint64_t at = 0; at < LENGTH; at += run.length) {
		check_gmem(gmem_query_run(ram, at, &run));
		printf("  %5" PRIu64 " - %5" PRIu64 " KiB  %s\n", at / 1024, (at + run.length) / 1024, state_name(run.state));
	}
}

int main(void)
{
	int vm_fd = make_vm();
	struct gmem_vm *vm;
	struct gmem *ram;
	void *address;

	check_gmem(gmem_vm_open(vm_fd, &vm, NULL));
	if (vm_fd >= 0)
		close(vm_fd); /* the library has a duplicate */

	if (create_and_map(vm, GMEM_NEED_MAPPABLE | GMEM_NEED_HUGE_2M, &ram, &address) < 0) {
		printf("No huge pages: %s\n", gmem_last_error());
		check_gmem(create_and_map(vm, GMEM_NEED_MAPPABLE, &ram, &address));
	}
	print_choice(ram);
	print_runs(ram, "New memory");

	memset((char *)address + 4 * MIB, 1, 2 * MIB);
	memset((char *)address + 8 * MIB, 1, 2 * MIB);
	print_runs(ram, "Touched at 4 MiB and at 8 MiB");

	check_gmem(gmem_discard(ram, 4 * MIB, 2 * MIB, NULL, NULL)); /* what a balloon does */
	print_runs(ram, "Discarded at 4 MiB");
	if (((char *)address)[4 * MIB] != 0 || ((char *)address)[8 * MIB] != 1) {
		fprintf(stderr, "the memory is not what it should be\n");
		return 1;
	}

	gmem_destroy(ram); /* its mapping too */
	gmem_vm_close(vm);
	return fflush(stdout) ? 1 : 0;
}
