/* SPDX-License-Identifier: MIT */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
	const char *image;
	uint32_t backing;    /* enum gmem_backing */
	uint32_t threads;    /* for populate and prefault, besides the main one; with lazy: of the pager */
	bool no_kvm;
	bool no_prefault;
	bool json;
	bool lazy;           /* a pager brings the image in while the guest runs; what follows is for it alone */
	bool lose;
	uint64_t lose_offset; /* the source has not got what is behind */
	uint32_t around_mode; /* enum gmem_around */
	uint64_t around;      /* bytes, with GMEM_AROUND_FIXED */
	uint64_t background;  /* bytes a second, UINT64_MAX = no cap */
	uint64_t deadline_ns; /* 0 = as the library has it */
	bool flip;
	uint64_t flip_offset;
};

/* Returns -1 to go on, else the exit status: --help and --version were served, or the options are bad. */
int options_parse(struct options *options, int argc, char **argv);

#endif
