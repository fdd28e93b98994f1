/* SPDX-License-Identifier: MIT */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
	const char *image;
	uint32_t backing;    /* enum gmem_backing */
	uint32_t threads;    /* for populate and prefault, besides the main one */
	bool no_kvm;
	bool no_prefault;
	bool json;
	bool flip;
	uint64_t flip_offset;
};

/* Returns -1 to go on, else the exit status: --help and --version were served, or the options are bad. */
int options_parse(struct options *options, int argc, char **argv);

#endif
