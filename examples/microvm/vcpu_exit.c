/* SPDX-License-Identifier: MIT */
#include "vcpu_exit.h"

#ifdef __x86_64__

#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "say.h"
#include "vcpu.h"

/* <linux/kvm.h> may be too old for this one. */
#define EXIT_MEMORY_FAULT 39

static const char *const names[] = {
	[KVM_EXIT_UNKNOWN] = "UNKNOWN",
	[KVM_EXIT_EXCEPTION] = "EXCEPTION",
	[KVM_EXIT_IO] = "IO",
	[KVM_EXIT_DEBUG] = "DEBUG",
	[KVM_EXIT_HLT] = "HLT",
	[KVM_EXIT_MMIO] = "MMIO",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "IRQ_WINDOW_OPEN",
	[KVM_EXIT_SHUTDOWN] = "SHUTDOWN",
	[KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY",
	[KVM_EXIT_INTR] = "INTR",
	[KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR",
	[KVM_EXIT_SYSTEM_EVENT] = "SYSTEM_EVENT",
	[EXIT_MEMORY_FAULT] = "MEMORY_FAULT",
};

static const char *exit_name(unsigned int reason)
{
	if (reason == EXIT_NONE)
		return "(none given)";
	return reason < sizeof(names) / sizeof(names[0]) && names[reason] ? names[reason] : "(of another kind)";
}

static void describe_memory_fault(const struct kvm_run *run, char *text, size_t size)
{
	struct {
		__u64 flags;
		__u64 gpa;
		__u64 size;
	} fault;

	memcpy(&fault, run->padding, sizeof(fault)); /* the union that every exit's details are in */
	snprintf(text, size, "KVM could not get at gpa 0x%llx, %llu bytes, flags 0x%llx", fault.gpa, fault.size, fault.flags);
}

static void describe(const struct kvm_run *run, char *text, size_t size)
{
	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		snprintf(text, size, "the guest took an exception, and has no handler");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(text, size, "KVM's suberror is %u", run->internal.suberror);
		break;
	case KVM_EXIT_MMIO:
		snprintf(text, size, "the guest %s %u bytes at gpa 0x%llx, where no memory is",
			 run->mmio.is_write ? "wrote" : "read", run->mmio.len, run->mmio.phys_addr);
		break;
	case EXIT_MEMORY_FAULT:
		describe_memory_fault(run, text, size);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(text, size, "the processor refused the guest's state: hardware reason 0x%llx",
			 run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_IO:
		snprintf(text, size, "%s of %u times %u bytes at port 0x%x is not what the guest should do",
			 run->io.direction == KVM_EXIT_IO_OUT ? "out" : "in", run->io.count, run->io.size, run->io.port);
		break;
	default:
		snprintf(text, size, "the guest should not cause that");
	}
}

static void describe_rip(const struct vcpu *vcpu, char *text, size_t size)
{
	struct kvm_regs regs;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs))
		snprintf(text, size, "an unknown rip");
	else
		snprintf(text, size, "rip 0x%llx", regs.rip);
}

int vcpu_fail_exit(const struct vcpu *vcpu, int error)
{
	unsigned int reason = vcpu->run->exit_reason;
	char details[160], rip[40];

	describe_rip(vcpu, rip, sizeof(rip));
	if (error && reason != EXIT_MEMORY_FAULT) /* that one comes with EFAULT, and its details are good */
		return fail("KVM_RUN failed at %s: %s", rip, strerror(error));
	describe(vcpu->run, details, sizeof(details));
	return fail("the vCPU stopped at %s with exit %s (%u): %s", rip, exit_name(reason), reason, details);
}

#endif
