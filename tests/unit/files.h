/* SPDX-License-Identifier: MIT */
/* Files that did not come from the library, which it takes or refuses. All are the caller's to close. */
#ifndef UNIT_FILES_H
#define UNIT_FILES_H

#include <stdint.h>

#include <gmem/memory.h>

#define WITHOUT_SEALS 0x80000000u /* among the flags of memfd_of(): it takes none */

/* A memfd of this many bytes, with MFD_* flags and seals. */
int memfd_of(uint64_t length, unsigned int flags, int seals);
/* A file without a name on a tmpfs mount; skips where there is none. */
int tmpfs_file(uint64_t length);
/* The same file, opened anew. */
int reopened(int fd, int flags);

#define UNTOUCHED ((void *)0x5a5a) /* what an output was before the call */

/* gmem_import() with the options in a row: it must succeed, or fail with this code, this word in its sentence, and *mem as it
 * was. */
struct gmem *imported(struct gmem_vm *vm, int fd, uint64_t length, uint64_t need, uint64_t flags);
void refused(struct gmem_vm *vm, int fd, uint64_t length, uint64_t need, uint64_t flags, int code, const char *word);

#endif
