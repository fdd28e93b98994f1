/* SPDX-License-Identifier: MIT */
/*
 * The smallest VM on memory of libgmem: creates guest memory, puts a program into it, binds it to a memslot, and runs a
 * vCPU, whose answer comes back over port I/O. Every libgmem call is in main(); the rest is plain KVM, and x86-64.
 *
 *	cc bind-and-run.c $(pkg-config --cflags --libs libgmem) -o bind-and-run
 *	./bind-and-run
 *
 * Prints "the guest answered 42" and exits 0. Needs read and write access to /dev/kvm.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem.h>

/* Guest physical addresses. The page of the TSS stays zero: that makes it a TSS which permits every I/O port. */
enum { PML4 = 0x1000, PDPT = 0x2000, DIRECTORY = 0x3000, TSS = 0x4000, CODE = 0x5000, LENGTH = 2 << 20 };

enum { PORT = 0x10 };

static const unsigned char program[] = {
	0xb8, 0x06, 0x00, 0x00, 0x00, /* mov eax, 6 */
	0x6b, 0xc0, 0x07,             /* imul eax, eax, 7 */
	0xe7, PORT,                   /* out PORT, eax */
};

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* libgmem returns a negative errno on failure; the sentence says which call it was, what failed, and what to check. */
static void check_gmem(int result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s\n", gmem_last_error());
	exit(1);
}

/* One page of 2 MiB, mapped to itself, for user mode: present, writable, user; large. */
static void put_page_tables(struct gmem *ram)
{
	const uint64_t pml4_entry = PDPT | 7, pdpt_entry = DIRECTORY | 7, directory_entry = 0x87;

	check_gmem(gmem_populate(ram, PML4, 8, &pml4_entry, NULL, NULL));
	check_gmem(gmem_populate(ram, PDPT, 8, &pdpt_entry, NULL, NULL));
	check_gmem(gmem_populate(ram, DIRECTORY, 8, &directory_entry, NULL, NULL));
}

/* Long mode at CPL 3: the one mode that runs at full speed on every KVM, those without hardware support included. */
static void set_registers(int vcpu)
{
	const struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 0x2b, .type = 3, .present = 1, .dpl = 3, .db = 1, .s = 1, .g = 1,
	};
	const struct kvm_regs regs = { .rip = CODE, .rflags = 0x3002 }; /* IOPL 3 */
	struct kvm_sregs sregs;

	check(ioctl(vcpu, KVM_GET_SREGS, &sregs) == 0, "KVM_GET_SREGS");
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.cs = data;
	sregs.cs.selector = 0x33;
	sregs.cs.type = 11;
	sregs.cs.db = 0;
	sregs.cs.l = 1;
	sregs.tr = (struct kvm_segment){ .base = TSS, .limit = 0xfff, .selector = 0x40, .type = 11, .present = 1 };
	sregs.cr0 = 0x80000031; /* PG, NE, ET, PE */
	sregs.cr3 = PML4;
	sregs.cr4 = 0x20;   /* PAE */
	sregs.efer = 0x500; /* LMA, LME */
	check(ioctl(vcpu, KVM_SET_SREGS, &sregs) == 0, "KVM_SET_SREGS");
	check(ioctl(vcpu, KVM_SET_REGS, &regs) == 0, "KVM_SET_REGS");
}

static void set_cpuid(int kvm, int vcpu)
{
	const size_t entries = 256;
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + entries * sizeof(cpuid->entries[0]));

	check(cpuid != NULL, "calloc");
	cpuid->nent = (__u32)entries;
	check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0, "KVM_GET_SUPPORTED_CPUID");
	check(ioctl(vcpu, KVM_SET_CPUID2, cpuid) == 0, "KVM_SET_CPUID2");
	free(cpuid);
}

/* Runs until the guest's first exit and returns what it put out. */
static uint32_t run(int kvm, int vcpu)
{
	int length = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), result;
	struct kvm_run *run;
	uint32_t answer;

	check(length > 0, "KVM_GET_VCPU_MMAP_SIZE");
	run = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	check(run != MAP_FAILED, "mmap of the vCPU");
	do {
		result = ioctl(vcpu, KVM_RUN, 0);
	} while (result < 0 && (errno == EINTR || errno == EAGAIN));
	check(result == 0, "KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT || run->io.size != sizeof(answer)) {
		fprintf(stderr, "the guest stopped with exit reason %u\n", run->exit_reason);
		exit(1);
	}
	memcpy(&answer, (char *)run + run->io.data_offset, sizeof(answer));
	check(munmap(run, (size_t)length) == 0, "munmap of the vCPU");
	return answer;
}

int main(void)
{
	struct gmem_vm *vm;
	struct gmem *ram;
	uint32_t answer;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm_fd, vcpu;

	check(kvm >= 0, "/dev/kvm");
	vm_fd = ioctl(kvm, KVM_CREATE_VM, 0);
	check(vm_fd >= 0, "KVM_CREATE_VM");
	vcpu = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	check(vcpu >= 0, "KVM_CREATE_VCPU");

	check_gmem(gmem_vm_open(vm_fd, &vm, NULL));
	check_gmem(gmem_create(vm, LENGTH, &ram, NULL)); /* guest_memfd where it works, else memfd */
	put_page_tables(ram);
	check_gmem(gmem_populate(ram, CODE, sizeof(program), program, NULL, NULL)); /* any length, at any offset */
	check_gmem(gmem_bind(ram, 0, 0, 0, LENGTH, NULL)); /* memslot 0, gpa 0, the whole memory */

	set_cpuid(kvm, vcpu);
	set_registers(vcpu);
	answer = run(kvm, vcpu);
	check(printf("the guest answered %u\n", answer) > 0, "printf");

	check_gmem(gmem_unbind(ram, 0)); /* bound memory would live on until the VM goes */
	gmem_destroy(ram);
	gmem_vm_close(vm);
	check(close(vcpu) == 0 && close(vm_fd) == 0 && close(kvm) == 0, "close");
	return answer == 42 ? 0 : 1;
}
