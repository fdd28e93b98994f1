/* SPDX-License-Identifier: MIT */
/* Between guest.c and what each architecture does in its own way: guest_x86.c, guest_arm64.c. */
#ifndef GUEST_INT_H
#define GUEST_INT_H

#include <linux/kvm.h>

#include "guest.h"

#define HOME_SIZE ((size_t)64 << 10)

struct guest {
	int vm, vcpu;
	struct kvm_run *run;
	size_t run_size;
	unsigned char *home; /* at GUEST_HOME: program and page tables; NULL: the first vCPU's, which no guest writes */
};

enum job { SUM, LOAD, STORE };

/* What the guest's program works on: so many words, so many bytes from one to the next. */
struct words {
	uint64_t gpa, count, step;
};

/* Enters KVM until something comes out, which is the answer: KVM_EXIT_*. */
uint32_t guest_run_once(struct guest *guest);

/* Each architecture's: is there a guest program? Writes it into the home, and makes the new vCPU ready for it. */
extern const bool guest_has_program;
void guest_write_home(unsigned char *home);
void guest_set_mode(const struct guest *guest);
/* Sets the vCPU to begin with a job; value is h, or the word to store. */
void guest_set_regs(const struct guest *guest, enum job job, uint64_t value, const struct words *words);
/* Until the guest reports. False: an access to memory came out instead, which must be the one to `gpa`. */
bool guest_run_job(struct guest *guest, enum job job, uint64_t gpa, uint64_t *result);

#endif
