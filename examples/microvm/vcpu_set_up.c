/* SPDX-License-Identifier: MIT */
#include "layout.h"
#include "say.h"
#include "vcpu.h"

#ifdef __x86_64__

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define CR0_PE (1u << 0)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_PG (1u << 31)
#define CR4_PAE (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)
#define RFLAGS_FIXED (1u << 1)
#define RFLAGS_IOPL_3 (3u << 12)

/* A page of zeros is a TSS whose I/O permission bitmap begins at its first byte and permits every port. IOPL 3 permits them
 * too, but a KVM without hardware virtualization can lose it at the first exit. */
#define TSS_LIMIT (LAYOUT_PAGE - 1)

#define CPUID_ENTRIES 256

static int set_cpuid(const struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	int result = 0;

	if (!cpuid)
		return fail("out of memory");
	cpuid->nent = CPUID_ENTRIES;
	if (ioctl(vcpu->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid))
		result = fail("KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
	else if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid))
		result = fail("KVM_SET_CPUID2: %s", strerror(errno));
	free(cpuid);
	return result;
}

/* Long mode at CPL 3: a KVM without hardware virtualization runs this at full speed and interprets everything else. There is no
 * descriptor table and no handler: an exception ends the guest with KVM_EXIT_SHUTDOWN. */
static void long_mode(struct kvm_sregs *sregs, const struct layout *layout)
{
	const struct kvm_segment data = { .limit = 0xffffffff, .selector = 0x2b, .type = 3, .present = 1,
					  .dpl = 3, .db = 1, .s = 1, .g = 1 };

	sregs->cs = data;
	sregs->cs.selector = 0x33;
	sregs->cs.type = 11;
	sregs->cs.l = 1;
	sregs->cs.db = 0;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = (struct kvm_segment){ .base = layout_tss(layout), .limit = TSS_LIMIT,
					  .selector = 0x40, .type = 11, .present = 1 };
	sregs->ldt = (struct kvm_segment){ .unusable = 1 };
	memset(&sregs->gdt, 0, sizeof(sregs->gdt));
	memset(&sregs->idt, 0, sizeof(sregs->idt));
	sregs->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
	sregs->cr3 = layout_pml4(layout);
	sregs->cr4 = CR4_PAE;
	sregs->efer = EFER_LME | EFER_LMA;
}

int vcpu_set_up(const struct vcpu *vcpu, const struct layout *layout)
{
	const struct kvm_regs regs = {
		.rip = layout_code(layout),
		.rflags = RFLAGS_FIXED | RFLAGS_IOPL_3,
		.rsi = 0,
		.rcx = layout->words,
	};
	struct kvm_sregs sregs;

	if (set_cpuid(vcpu))
		return -1;
	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs))
		return fail("KVM_GET_SREGS: %s", strerror(errno));
	long_mode(&sregs, layout);
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs))
		return fail("KVM_SET_SREGS: %s", strerror(errno));
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs))
		return fail("KVM_SET_REGS: %s", strerror(errno));
	return 0;
}

#else

int vcpu_set_up(const struct vcpu *vcpu, const struct layout *layout)
{
	(void)vcpu, (void)layout;
	return fail("no vCPU program for this architecture");
}

#endif
