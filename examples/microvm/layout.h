/* SPDX-License-Identifier: MIT */
/* Where things are in guest memory: the image from gpa 0 on, then the program area, which is not part of the checksum, then the
 * rest of the last page, if pages are large:
 *
 *	image | code, 1 page | TSS, 1 page | PML4, 1 page | PDPTs, 1 page for 512 GiB | directories, 1 page for 1 GiB | rest |
 *	      ^ image_end                                                                                 program_end ^
 *	                                                                                                              length ^
 */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#define LAYOUT_PAGE UINT64_C(4096) /* of x86, whatever the host has */

struct layout {
	uint64_t words;       /* of the image, the last one padded with zeros */
	uint64_t image_end;   /* gpa where the pages of the image end and the program area, if any, begins */
	uint64_t program_end; /* gpa where the program area ends */
	uint64_t length;      /* of the memory in bytes, a multiple of its page size */
	uint64_t pdpts;       /* page directory pointer tables */
	uint64_t directories; /* page directories */
};

/* Without a vCPU there is no program area: layout->program_end is layout->image_end. layout->length is the next
 * multiple of `page_size`. Returns -1 and says so if the image is too large. */
int layout_plan(struct layout *layout, uint64_t image_length, bool with_program, uint64_t page_size);

static inline uint64_t layout_code(const struct layout *layout)
{
	return layout->image_end;
}

/* The TSS, a page of zeros. */
static inline uint64_t layout_tss(const struct layout *layout)
{
	return layout->image_end + LAYOUT_PAGE;
}

static inline uint64_t layout_pml4(const struct layout *layout)
{
	return layout->image_end + 2 * LAYOUT_PAGE;
}

/* Writes the page tables into `area`, which has the size of the program area and is zero. Every gpa up to the end of that area
 * is mapped to itself by pages of 2 MiB that CPL 3 may use. */
void layout_page_tables(const struct layout *layout, unsigned char *area);

#endif
