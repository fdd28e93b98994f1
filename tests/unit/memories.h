/* SPDX-License-Identifier: MIT */
/* Memories of every make, for tests that do the same with all of them, and looks at what is in them. */
#ifndef UNIT_MEMORIES_H
#define UNIT_MEMORIES_H

#include <stdint.h>

#include <gmem/memory.h>
#include <gmem/vm.h>

enum make {
	MEMFD,
	FAKE_GUEST_MEMFD,    /* of the stand-in: populated through its mapping */
	FAKE_WITH_WRITE,     /* ... by write() */
	REAL_GUEST_MEMFD,    /* GT_NEEDS_GUEST_MEMFD */
	HUGETLB,	     /* GT_NEEDS_HUGETLB_2M for each page */
	LAZY_MEMFD	     /* with a page map; the stand-in has the userfaultfd that it takes */
};

#define WITHOUT_NEEDS 3 /* the first makes, which every machine has */

struct memory {
	int vm_fd; /* -1 = none */
	struct gmem_vm *vm;
	struct gmem *mem;
	uint64_t length;
};

struct memory make_memory(enum make make, uint64_t length);
void end_memory(struct memory *memory);

/* Asks gmem_query_run(): memory that nobody has been given a mapping or fd of stays so. */
uint64_t absent_bytes(struct gmem *mem, uint64_t offset, uint64_t length);
/* Every page of the range is in this state. */
void assert_state(struct gmem *mem, uint64_t offset, uint64_t length, uint64_t state);

/* Reads through gmem_map(), which allocates what is absent: a last look. */
void assert_reads(struct gmem *mem, uint64_t offset, const unsigned char *content, uint64_t length);
/* ... `length` bytes of content at offset, zeros in the rest. */
void assert_reads_only(const struct memory *memory, uint64_t offset, const unsigned char *content, uint64_t length);

/* `pages` of content that is nowhere zero, different in every page, but pages of zeros where number % of == 0 (of 0: nowhere).
 * free()d by the caller. */
unsigned char *pages_of_content(uint64_t pages, uint64_t of);
/* A file with this content and nothing else. The fd is the caller's. */
int file_of(const unsigned char *content, uint64_t length);

#endif
