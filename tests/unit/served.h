/* SPDX-License-Identifier: MIT */
/* What most tests of the pager begin with: one memory that one pager serves, page by page, from a source that is told what to
 * answer. */
#ifndef UNIT_SERVED_H
#define UNIT_SERVED_H

#include "pagers.h"

extern struct feeder feeder;
extern struct events events;
extern struct paged paged;
extern struct paging paging;
extern unsigned char *content; /* of the feeder */

typedef int answer_fn(struct feeder *feeder, uint64_t offset, uint64_t length, void *buffer);

void begin_served(enum way way, uint64_t pages, answer_fn *answer, gmem_pager_fn event, uint64_t deadline_ns);
void end_served(void);
void touch_page(struct toucher *toucher, uint64_t number, const unsigned char *expected);

#endif
