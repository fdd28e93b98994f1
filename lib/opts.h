/* SPDX-License-Identifier: MIT */
/* Floor 1: size-first structs. Options are copied in before use; information is copied out as far as the caller has room. */
#ifndef GMEMI_OPTS_H
#define GMEMI_OPTS_H

#include <stddef.h>
#include <stdint.h>

/* Copies the caller's options (NULL = defaults) into a full local struct of `known` bytes. A shorter struct reads as zeros at
 * the end; a longer one must be zero there (-E2BIG). name is that of the struct, for the sentence. */
int gmemi_opts_in(void *local, size_t known, const void *opts, const char *name);
#define GMEMI_OPTS_IN(local, opts) gmemi_opts_in(&(local), sizeof(local), (opts), #opts)

/* Refuses flag bits outside `known` (-E2BIG) and reserved words that are not zero (-EINVAL). */
int gmemi_opts_flags(uint64_t flags, uint64_t known, const char *what);
int gmemi_opts_reserved(uint64_t reserved);

/* Checks the size that the caller put into an out-struct. */
int gmemi_info_check(const void *info, const char *name);
/* Writes what fits into the caller's struct, zeros what the library does not know, leaves its size member as it is. */
void gmemi_info_out(void *info, const void *local, size_t known);

#endif
