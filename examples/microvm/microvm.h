/* SPDX-License-Identifier: MIT */
/* What the steps of the job share. */
#ifndef MICROVM_H
#define MICROVM_H

#include <stdio.h>

#include <gmem.h>

#include "image.h"
#include "layout.h"
#include "options.h"
#include "paging.h"
#include "vcpu.h"

/* The one memslot of this VM. It begins at gpa 0, so a gpa is also an offset in the memory. */
#define MICROVM_SLOT 0
#define MICROVM_GPA 0

/* What the reader of guest memory found: a vCPU, or the thread that stands in for it. Times are of now_ns(). */
struct reading {
	uint64_t checksum;
	uint64_t started;
	uint64_t ended;
};

struct microvm {
	const struct options *options;
	FILE *out; /* what is told before the report: stdout, or stderr when stdout carries JSON */
	struct image image;
	struct layout layout;
	struct vcpu vcpu; /* vcpu.fd < 0: there is none, and why_no_vcpu says why */
	char why_no_vcpu[160];
	struct gmem_vm *vm;
	struct gmem_vcpu *prefaulter; /* the vCPU as the library knows it; NULL if there is none */
	struct gmem *mem;
	struct paging paging; /* with --lazy */
	struct gmem_info info; /* as it was when the image was in, and nothing else; with --lazy, before anything was */
	uint64_t began;        /* when the main job began: just before gmem_create() */
	uint64_t populate_ns;
	uint64_t prefault_ns;
	uint32_t prefault_mechanism; /* enum gmem_mechanism */
	struct reading reading;
	uint64_t source; /* checksum of the image file */
};

#endif
