/* SPDX-License-Identifier: MIT */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct options {
	const char *goal;    /* NULL = all */
	unsigned int rounds; /* of the first attempt */
	size_t size;         /* bytes of memory that is populated */
	bool quick;          /* see that everything runs; no gate */
	bool json, verbose;
};

/* Ends the program where they are wrong, or ask for help only. */
struct options options_read(int argc, char **argv);

#endif
