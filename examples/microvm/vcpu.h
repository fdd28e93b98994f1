/* SPDX-License-Identifier: MIT */
/* A VM with one vCPU, by KVM's own ioctls: libgmem is about its memory only. */
#ifndef VCPU_H
#define VCPU_H

#include <stddef.h>
#include <stdint.h>

struct kvm_run;
struct layout;
struct reading;

struct vcpu {
	int kvm_fd;
	int vm_fd;
	int fd;
	struct kvm_run *run; /* NULL: not mapped */
	size_t run_size;
};

/* Every fd -1: what vcpu_close() and the rest take for "there is none". */
void vcpu_none(struct vcpu *vcpu);

/* Makes the VM and its vCPU. On failure returns -1 with the reason in `why`, and nothing is left. */
int vcpu_open(struct vcpu *vcpu, char *why, size_t size);
void vcpu_close(struct vcpu *vcpu);

/* Puts the vCPU at the start of the guest program. Returns -1 and says so on stderr if it cannot. */
int vcpu_set_up(const struct vcpu *vcpu, const struct layout *layout);

/* Runs the guest program to its end. Returns -1 and says so on stderr if the guest does anything but its job. */
int vcpu_run(const struct vcpu *vcpu, struct reading *reading);

#endif
