/* SPDX-License-Identifier: MIT */
/* Huge pages of 2 MiB: how many can be had is a matter of the machine's settings. */
#ifndef HUGE_H
#define HUGE_H

#include <stddef.h>

#define HUGE_PAGE ((size_t)2 << 20)

/* Bytes on pages that nobody has or has been promised: at most `most`, at least one page. */
size_t huge_length(size_t most);

#endif
