/* SPDX-License-Identifier: MIT */
/*
 * Spares the guest its page faults: allocates its memory and, where KVM can do that, maps it into the guest before it runs.
 *
 *	cc prefault.c $(pkg-config --cflags --libs libgmem) -o prefault
 *	./prefault
 *
 * Prints which mechanism was used, how long it took, and what that means. Exits 0. Needs nothing: where there is no
 * KVM_PRE_FAULT_MEMORY the host side alone is prefaulted; where /dev/kvm cannot be used, memory that no VM has. It says so.
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
#include <time.h>
#include <unistd.h>

#include <gmem.h>

#define LENGTH (UINT64_C(64) << 20)

/* A negative result is a failure; the sentence says which call it was, what failed, and what to check. */
static void check_gmem(int result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s\n", gmem_last_error());
	exit(1);
}

/* A VM with one vCPU; -1 for both where there can be none. */
static void make_vm(int *vm_fd, int *vcpu_fd)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	*vm_fd = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	*vcpu_fd = *vm_fd < 0 ? -1 : ioctl(*vm_fd, KVM_CREATE_VCPU, 0);
	if (*vcpu_fd < 0)
		printf("No vCPU (/dev/kvm: %s): the host side alone can be prefaulted.\n", strerror(errno));
	if (kvm >= 0)
		close(kvm);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* -EINTR and -EAGAIN are no failures: `done` says how far it got. */
static void prefault(struct gmem *ram)
{
	uint64_t at = 0, done;
	int r;

	do {
		r = gmem_prefault(ram, at, LENGTH - at, &done, NULL);
		at += done;
	} while (at < LENGTH && (r == -EINTR || r == -EAGAIN));
	check_gmem(r);
}

static void print_result(const struct gmem *ram, double took)
{
	struct gmem_info info = { .size = sizeof(info) };

	check_gmem(gmem_query(ram, &info));
	printf("%" PRIu64 " MiB of %s prefaulted by %s in %.1f ms: ", LENGTH >> 20,
	       gmem_backing_name((enum gmem_backing)info.backing),
	       gmem_mechanism_name((enum gmem_mechanism)info.prefault_mechanism), took * 1e3);
	if (info.prefault_mechanism == GMEM_MECH_HOST_FAULT)
		puts("allocated and mapped in this process; KVM maps it at the guest's first touch");
	else
		puts("allocated and mapped into the guest");
}

int main(void)
{
	struct gmem_vcpu *vcpu = NULL;
	struct gmem_vm *vm;
	struct gmem *ram;
	int vm_fd, vcpu_fd;
	double began;

	make_vm(&vm_fd, &vcpu_fd);
	check_gmem(gmem_vm_open(vm_fd, &vm, NULL));
	if (vcpu_fd >= 0)
		check_gmem(gmem_vcpu_open(vm, vcpu_fd, &vcpu)); /* it is what maps memory into the guest */
	check_gmem(gmem_create(vm, LENGTH, &ram, NULL));
	check_gmem(gmem_bind(ram, 0, 0, 0, LENGTH, NULL)); /* memslot 0, gpa 0; without a VM it is only noted */

	began = seconds();
	prefault(ram);
	print_result(ram, seconds() - began);

	check_gmem(gmem_unbind(ram, 0));
	gmem_destroy(ram);
	gmem_vcpu_close(vcpu);
	gmem_vm_close(vm);
	if (vcpu_fd >= 0)
		close(vcpu_fd);
	if (vm_fd >= 0)
		close(vm_fd);
	return fflush(stdout) ? 1 : 0;
}
