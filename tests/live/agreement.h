/* SPDX-License-Identifier: MIT */
/* Holds what somebody says of a feature against the raw probe. */
#ifndef AGREEMENT_H
#define AGREEMENT_H

#include "rawprobe.h"

/* True: they agree. If not, says so on stdout. state: as enum gmem_state, or negative = none was given. */
bool agreement(const struct raw_machine *machine, const char *feature, int state, const char *whose);

/* No VM, no vCPU. */
#define NO_MACHINE ((struct raw_machine){ .vm = -1, .vcpu = -1 })

#endif
