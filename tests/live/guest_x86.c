/* SPDX-License-Identifier: MIT */
/* x86-64: long mode at CPL 3 with IOPL 3, reports by port I/O. */
#ifdef __x86_64__

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "gt.h"
#include "guest_int.h"

#define PORT_LOW 0x10
#define PORT_HIGH 0x11
#define PORT_STORED 0x12

/* Pages of the home. */
#define CODE 0
#define PML4 1
#define PDPT 2
#define DIRECTORY 3 /* and the three after it: 4 GiB in all */
#define TASK 7

#define TASK_BITMAP 102 /* where a task state segment says at which byte its map of ports begins */

const bool guest_has_program = true;

/* rsi = where, rcx = how many words, rdx = bytes from one to the next, rax = h or the word to store. */
__asm__(".pushsection .rodata\n"
	".globl guest_code, guest_code_load, guest_code_store, guest_code_end\n"
	"guest_code:\n"
	"1:	rol $5, %rax\n"
	"	xor (%rsi), %rax\n"
	"	add %rdx, %rsi\n"
	"	dec %rcx\n"
	"	jnz 1b\n"
	"	jmp 2f\n"
	"guest_code_load:\n"
	"	mov (%rsi), %rax\n"
	"2:	out %eax, $0x10\n"
	"	shr $32, %rax\n"
	"	out %eax, $0x11\n"
	"	ud2\n"
	"guest_code_store:\n"
	"	mov %rax, (%rsi)\n"
	"	out %eax, $0x12\n"
	"	ud2\n"
	"guest_code_end:\n"
	".popsection\n");
extern const unsigned char guest_code[], guest_code_load[], guest_code_store[], guest_code_end[];

static void write_tables(unsigned char *home)
{
	uint64_t *pml4 = (uint64_t *)(void *)(home + PML4 * 4096), *pdpt = (uint64_t *)(void *)(home + PDPT * 4096);
	uint64_t *directory = (uint64_t *)(void *)(home + DIRECTORY * 4096);

	pml4[0] = (GUEST_HOME + PDPT * 4096) | 7; /* present, writable, user */
	for (uint64_t i = 0; i < 4; i++)
		pdpt[i] = (GUEST_HOME + (DIRECTORY + i) * 4096) | 7;
	for (uint64_t i = 0; i < 2048; i++)
		directory[i] = i << 21 | 0x87; /* ... and 2 MiB large */
}

/* A map of zeros: all ports allowed. IOPL says so too, but a KVM without hardware loses that after some exits, and then
 * looks for a task state segment, which is at guest address 0 unless told otherwise: in the memory under test. */
static void write_task(unsigned char *home)
{
	home[TASK * 4096 + TASK_BITMAP] = TASK_BITMAP + 2;
}

void guest_write_home(unsigned char *home)
{
	memcpy(home + CODE * 4096, guest_code, (size_t)(guest_code_end - guest_code));
	write_tables(home);
	write_task(home);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .dpl = 3, .s = 1, .g = 1
	};
}

static void set_mode(int vcpu)
{
	struct kvm_sregs sregs;

	assert_int_equal(ioctl(vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs = segment(0x1b, 11);
	sregs.cs.l = 1;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(0x23, 3);
	sregs.ss.db = 1;
	sregs.tr = segment(0x28, 11);
	sregs.tr.base = GUEST_HOME + TASK * 4096;
	sregs.tr.limit = 4095;
	sregs.tr.s = sregs.tr.dpl = sregs.tr.g = 0;
	sregs.cr3 = GUEST_HOME + PML4 * 4096;
	sregs.cr4 = 1 << 5;                    /* PAE */
	sregs.cr0 = 0x80000000u | 1u << 4 | 1; /* paging, protection */
	sregs.efer = 1 << 10 | 1 << 8;         /* long mode, active and enabled */
	assert_int_equal(ioctl(vcpu, KVM_SET_SREGS, &sregs), 0);
}

static void set_cpuid(int vcpu)
{
	enum { ROOM = 200 };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ROOM * sizeof(cpuid->entries[0]));
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	assert_true(cpuid && kvm >= 0);
	cpuid->nent = ROOM;
	assert_int_equal(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), 0);
	assert_int_equal(ioctl(vcpu, KVM_SET_CPUID2, cpuid), 0);
	close(kvm);
	free(cpuid);
}

void guest_set_mode(const struct guest *guest)
{
	set_cpuid(guest->vcpu);
	set_mode(guest->vcpu);
}

static uint32_t reported(const struct kvm_run *run)
{
	uint32_t word;

	memcpy(&word, (const unsigned char *)run + run->io.data_offset, sizeof(word));
	return word;
}

/* Until `port` is written to. False: an access to memory came out instead, which must be the one to `gpa`. */
static bool run_until(struct guest *guest, uint16_t port, uint64_t gpa, uint32_t *word)
{
	const struct kvm_run *run = guest->run;

	switch (guest_run_once(guest)) {
	case KVM_EXIT_IO:
		assert_int_equal(run->io.direction, KVM_EXIT_IO_OUT);
		assert_int_equal(run->io.port, port);
		*word = reported(run);
		return true;
	case KVM_EXIT_MMIO:
		assert_int_equal(run->mmio.phys_addr, gpa);
		assert_int_equal(run->mmio.is_write, port == PORT_STORED);
		return false;
	default:
		fail_msg("the guest ended with exit reason %u, suberror %u", run->exit_reason, run->internal.suberror);
		return false;
	}
}

void guest_set_regs(const struct guest *guest, enum job job, uint64_t value, const struct words *words)
{
	static const unsigned char *const codes[] = {
		[SUM] = guest_code, [LOAD] = guest_code_load, [STORE] = guest_code_store
	};
	struct kvm_regs regs = { .rax = value, .rsi = words->gpa, .rcx = words->count, .rdx = words->step };

	regs.rflags = 3u << 12 | 2; /* IOPL 3 */
	regs.rip = GUEST_HOME + CODE * 4096 + (uint64_t)(codes[job] - guest_code);
	assert_int_equal(ioctl(guest->vcpu, KVM_SET_REGS, &regs), 0);
}

bool guest_run_job(struct guest *guest, enum job job, uint64_t gpa, uint64_t *result)
{
	uint32_t low = 0, high = 0;
	bool memory = run_until(guest, job == STORE ? PORT_STORED : PORT_LOW, gpa, &low);

	if (memory && job != STORE)
		memory = run_until(guest, PORT_HIGH, gpa, &high);
	*result = (uint64_t)high << 32 | low;
	return memory;
}

#else
typedef int guest_x86_is_for_another_architecture;
#endif
