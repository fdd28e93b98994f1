/* SPDX-License-Identifier: MIT */
/* Floor 4: the ways to let a vCPU map memory ahead of its first touch. */
#ifndef GMEMI_PREFAULT_VCPU_H
#define GMEMI_PREFAULT_VCPU_H

#include <gmem/base.h>

#include <stdbool.h>
#include <stdint.h>

bool gmemi_prefault_is_by_vcpu(enum gmem_mechanism mechanism);
/* One call of the kernel on a guest range of whole pages: *done bytes of it, also when it fails. 0 = some headway was made. */
int gmemi_prefault_by_vcpu(enum gmem_mechanism mechanism, int vcpu_fd, uint64_t gpa, uint64_t length, uint64_t *done);

#endif
