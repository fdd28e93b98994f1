/* SPDX-License-Identifier: MIT */
#include "layout.h"
#include "say.h"

#define ENTRIES 512
#define GIB (UINT64_C(1) << 30)

#define ALIGNMENT UINT64_C(65536) /* of the image and the program area */

#define ENTRY_USABLE 7   /* present, writable, user */
#define ENTRY_LARGE 0x80 /* in a page directory: a page of 2 MiB */
#define LARGE_SHIFT 21

static uint64_t divide_up(uint64_t value, uint64_t unit)
{
	return value / unit + (value % unit != 0);
}

static uint64_t round_up(uint64_t value, uint64_t unit)
{
	return divide_up(value, unit) * unit;
}

/* The page tables must map themselves too: a larger area can need one more directory, so this is repeated until it fits. */
static void plan_program(struct layout *layout)
{
	uint64_t before;

	do {
		before = layout->program_end;
		layout->directories = divide_up(before, GIB);
		layout->pdpts = divide_up(layout->directories, ENTRIES);
		layout->program_end = layout->image_end +
				      round_up((3 + layout->pdpts + layout->directories) * LAYOUT_PAGE, ALIGNMENT);
	} while (layout->program_end != before);
}

int layout_plan(struct layout *layout, uint64_t image_length, bool with_program, uint64_t page_size)
{
	/* Half of what one PML4 maps, so that the code is below the hole of non-canonical addresses. */
	if (image_length > ENTRIES / 2 * ENTRIES * GIB - GIB)
		return fail("the image is too large: %llu bytes", (unsigned long long)image_length);
	layout->words = divide_up(image_length, 8);
	layout->image_end = round_up(image_length, ALIGNMENT);
	layout->program_end = layout->image_end;
	if (with_program)
		plan_program(layout);
	layout->length = round_up(layout->program_end, page_size);
	return 0;
}

/* Entry i of the `count` entries points to first + i * 2^shift. */
static void fill_entries(uint64_t *entries, uint64_t count, uint64_t first, unsigned int shift, uint64_t flags)
{
	for (uint64_t i = 0; i < count; i++)
		entries[i] = (first + (i << shift)) | flags;
}

void layout_page_tables(const struct layout *layout, unsigned char *area)
{
	uint64_t *pml4 = (uint64_t *)(void *)(area + layout_pml4(layout) - layout->image_end);
	uint64_t *pdpts = pml4 + ENTRIES;
	uint64_t *directories = pdpts + layout->pdpts * ENTRIES;
	uint64_t pdpts_gpa = layout_pml4(layout) + LAYOUT_PAGE;
	uint64_t directories_gpa = pdpts_gpa + layout->pdpts * LAYOUT_PAGE;

	/* Tables of one level stand side by side, so each level is one array. */
	fill_entries(pml4, layout->pdpts, pdpts_gpa, 12, ENTRY_USABLE);
	fill_entries(pdpts, layout->directories, directories_gpa, 12, ENTRY_USABLE);
	fill_entries(directories, layout->directories * ENTRIES, 0, LARGE_SHIFT, ENTRY_USABLE | ENTRY_LARGE);
}
