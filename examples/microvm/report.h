/* SPDX-License-Identifier: MIT */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stdint.h>

struct microvm;

/* The report on stdout, as a table for people or as one JSON object. */
void report_table(const struct microvm *m);
void report_json(const struct microvm *m);

/* What the report says of the job. */
bool report_right(const struct microvm *m);

/* `bytes` in pages of the memory, a partial one counted as one. */
uint64_t report_pages(const struct microvm *m, uint64_t bytes);

#endif
