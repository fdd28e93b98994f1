/* SPDX-License-Identifier: MIT */
#ifndef VCPU_EXIT_H
#define VCPU_EXIT_H

struct vcpu;

/* What vcpu_run() puts in exit_reason before each KVM_RUN: one that fails can leave the old reason there. */
#define EXIT_NONE 0xffffffffu

/* Says on stderr why the vCPU stopped, where, and with which details. `error` is the errno of KVM_RUN, 0 if it succeeded.
 * Returns -1. */
int vcpu_fail_exit(const struct vcpu *vcpu, int error);

#endif
