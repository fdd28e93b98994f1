/* SPDX-License-Identifier: MIT */
/* Where things are in guest memory: the image from gpa 0 on, then the program area, which is not part of the checksum:
 *
 *	0         image_end   code        pml4        pdpts                   directories              length
 *	| image   |           | guest.c   | 1 page    | 1 page per 512 GiB    | 1 page per GiB         |
 */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

struct layout {
	uint64_t words;       /* of the image, the last one padded with zeros */
	uint64_t image_end;   /* gpa where the pages of the image end and the program area, if any, begins */
	uint64_t length;      /* of the memory in bytes */
	uint64_t pdpts;       /* page directory pointer tables */
	uint64_t directories; /* page directories */
};

/* Without a vCPU there is no program area: layout->length is layout->image_end. Returns -1 and says so if the image is too
 * large. */
int layout_plan(struct layout *layout, uint64_t image_length, bool with_program);

static inline uint64_t layout_code(const struct layout *layout)
{
	return layout->image_end;
}

static inline uint64_t layout_pml4(const struct layout *layout)
{
	return layout->image_end + 4096;
}

/* Writes the page tables into `area`, which has the size of the program area and is zero. Every gpa up to the end of the memory is
 * mapped to itself by pages of 2 MiB that CPL 3 may use. */
void layout_page_tables(const struct layout *layout, unsigned char *area);

#endif
