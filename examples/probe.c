/* SPDX-License-Identifier: MIT */
/*
 * What can this machine do for the memory of a VM, and what would have to change? Asks for some features, then has the
 * library explain the way that a task would take.
 *
 *	cc probe.c $(pkg-config --cflags --libs libgmem) -o probe
 *	./probe            # the task "create"
 *	./probe populate
 *
 * Prints a table of features (state, what was tried, what to change) and one row for each way to do the task, the chosen
 * one marked with a star. Exits 0. Needs nothing: where /dev/kvm cannot be used it says so and asks without a VM.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <gmem.h>

static const enum gmem_feature features[] = {
	GMEM_FEATURE_KVM,
	GMEM_FEATURE_GUEST_MEMFD,
	GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED, /* memory that the host can fill */
	GMEM_FEATURE_ATTRIBUTES_VM,           /* memory that can be made private */
	GMEM_FEATURE_PRE_FAULT,               /* only a vCPU can be asked: see prefault.c */
	GMEM_FEATURE_MEMFD,
	GMEM_FEATURE_HUGETLB_2M,
	GMEM_FEATURE_UFFD_KERNEL_FAULTS, /* memory that a pager fills while the guest runs */
	GMEM_FEATURE_UFFD_MINOR_MEMFD,
};

/* A negative result is a failure; the sentence says which call it was, what failed, and what to check. */
static int check_gmem(int result)
{
	if (result >= 0)
		return result;
	fprintf(stderr, "%s\n", gmem_last_error());
	exit(1);
}

/* The fd of a new VM, or -1: then the library makes memory without one. */
static int make_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0)
		printf("No VM (/dev/kvm: %s): this is about memory without one.\n\n", strerror(errno));
	if (kvm >= 0)
		close(kvm);
	return vm;
}

static void print_feature(struct gmem_vm *vm, enum gmem_feature feature)
{
	struct gmem_probe probe = { .size = sizeof(probe) };
	int state = check_gmem(gmem_vm_probe(vm, feature, &probe));

	printf("%-24s %-12s %s", gmem_feature_name(feature), gmem_state_name((enum gmem_state)state), probe.facility);
	if (probe.error)
		printf(": %s", strerror(-probe.error));
	if (probe.hint)
		printf("; %s", probe.hint);
	putchar('\n');
}

static void print_chain(struct gmem_vm *vm, enum gmem_task task)
{
	struct gmem_step step = { .size = sizeof(step) };

	printf("\nWays to do the task %s, best first:\n", gmem_task_name(task));
	/* As for memory that gmem_create() would make with these needs and this backing. */
	for (uint32_t row = 0; check_gmem(gmem_vm_explain(vm, task, GMEM_NEED_MAPPABLE, GMEM_BACKING_AUTO, row, &step)); row++)
		printf("%c %-24s %s\n", step.chosen ? '*' : ' ', gmem_mechanism_name((enum gmem_mechanism)step.mechanism),
		       step.why);
}

static enum gmem_task task_of(const char *word)
{
	const char *name;

	for (int task = 1; (name = gmem_task_name((enum gmem_task)task)); task++)
		if (!strcmp(name, word))
			return (enum gmem_task)task;
	fprintf(stderr, "%s is no task; these are:", word);
	for (int task = 1; (name = gmem_task_name((enum gmem_task)task)); task++)
		fprintf(stderr, " %s", name);
	fputc('\n', stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	enum gmem_task task = argc > 1 ? task_of(argv[1]) : GMEM_TASK_CREATE;
	int vm_fd = make_vm();
	struct gmem_vm *vm;

	check_gmem(gmem_vm_open(vm_fd, &vm, NULL));
	if (vm_fd >= 0)
		close(vm_fd); /* the library has a duplicate */

	printf("%-24s %-12s %s\n", "FEATURE", "STATE", "TRIED; WHAT TO CHANGE");
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		print_feature(vm, features[i]);
	print_chain(vm, task);

	gmem_vm_close(vm);
	return fflush(stdout) ? 1 : 0;
}
