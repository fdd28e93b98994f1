/* SPDX-License-Identifier: MIT */
/* arm64: EL1 without an MMU, guest addresses as they are, reports by a store to where no memory is. Also the empty answer of every
 * architecture for which no program is written. */
#ifndef __x86_64__

#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#include "gt.h"
#include "guest_int.h"

#ifdef __aarch64__

#define REPORT (GUEST_HOME + (1 << 20)) /* beyond the home */
#define EL1H_MASKED 0x3c5		/* exception level 1, own stack pointer, all interrupts off */

const bool guest_has_program = true;

/* x1 = where, x2 = how many words, x3 = bytes from one to the next, x0 = h or the word to store, x4 = where to report. */
__asm__(".pushsection .rodata\n"
	".balign 4\n"
	".globl guest_code, guest_code_load, guest_code_store, guest_code_end\n"
	"guest_code:\n"
	"1:	ldr x5, [x1]\n"
	"	ror x0, x0, #59\n"
	"	eor x0, x0, x5\n"
	"	add x1, x1, x3\n"
	"	subs x2, x2, #1\n"
	"	b.ne 1b\n"
	"	b 2f\n"
	"guest_code_load:\n"
	"	ldr x0, [x1]\n"
	"2:	str x0, [x4]\n"
	"	b .\n"
	"guest_code_store:\n"
	"	str x0, [x1]\n"
	"	str x0, [x4]\n"
	"	b .\n"
	"guest_code_end:\n"
	".popsection\n");
extern const unsigned char guest_code[], guest_code_load[], guest_code_store[], guest_code_end[];

void guest_write_home(unsigned char *home)
{
	memcpy(home, guest_code, (size_t)(guest_code_end - guest_code));
}

void guest_set_mode(const struct guest *guest)
{
	struct kvm_vcpu_init init;

	assert_int_equal(ioctl(guest->vm, KVM_ARM_PREFERRED_TARGET, &init), 0);
	assert_int_equal(ioctl(guest->vcpu, KVM_ARM_VCPU_INIT, &init), 0);
}

/* index: of a 64-bit register among the core registers, counted in bytes. */
static void set_core(int vcpu, size_t index, uint64_t value)
{
	struct kvm_one_reg reg = { .id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | index / sizeof(uint32_t),
				   .addr = (uintptr_t)&value };

	assert_int_equal(ioctl(vcpu, KVM_SET_ONE_REG, &reg), 0);
}

static void set_x(int vcpu, unsigned int number, uint64_t value)
{
	set_core(vcpu, offsetof(struct kvm_regs, regs.regs) + number * sizeof(uint64_t), value);
}

void guest_set_regs(const struct guest *guest, enum job job, uint64_t value, const struct words *words)
{
	static const unsigned char *const codes[] = {
		[SUM] = guest_code, [LOAD] = guest_code_load, [STORE] = guest_code_store
	};

	set_x(guest->vcpu, 0, value);
	set_x(guest->vcpu, 1, words->gpa);
	set_x(guest->vcpu, 2, words->count);
	set_x(guest->vcpu, 3, words->step);
	set_x(guest->vcpu, 4, REPORT);
	set_core(guest->vcpu, offsetof(struct kvm_regs, regs.pc), GUEST_HOME + (uint64_t)(codes[job] - guest_code));
	set_core(guest->vcpu, offsetof(struct kvm_regs, regs.pstate), EL1H_MASKED);
}

bool guest_run_job(struct guest *guest, enum job job, uint64_t gpa, uint64_t *result)
{
	const struct kvm_run *run = guest->run;
	uint32_t reason = guest_run_once(guest);

	if (reason != KVM_EXIT_MMIO)
		fail_msg("the guest ended with exit reason %u", reason);
	if (run->mmio.phys_addr == REPORT) {
		memcpy(result, run->mmio.data, sizeof(*result));
		return true;
	}
	assert_int_equal(run->mmio.phys_addr, gpa);
	assert_int_equal(run->mmio.is_write, job == STORE);
	return false;
}

#else

const bool guest_has_program = false;

void guest_write_home(unsigned char *home)
{
	(void)home;
}

void guest_set_mode(const struct guest *guest)
{
	(void)guest;
}

void guest_set_regs(const struct guest *guest, enum job job, uint64_t value, const struct words *words)
{
	(void)guest, (void)job, (void)value, (void)words;
}

bool guest_run_job(struct guest *guest, enum job job, uint64_t gpa, uint64_t *result)
{
	(void)guest, (void)job, (void)gpa, (void)result;
	return false;
}

#endif
#else
typedef int guest_arm64_is_for_another_architecture;
#endif
