/* SPDX-License-Identifier: MIT */
/* Results for people (a table, row by row) and for programs (one JSON object). */
#ifndef REPORT_H
#define REPORT_H

#include "bench.h"

void report_head(const struct options *options);
/* With options->verbose: medians of a group's cases. */
void report_cases(const struct options *options, const struct group *group, const struct measure *measure);
void report_row(const struct options *options, const struct result *result);
/* `missed`: gates that were missed and rows that broke. */
void report_end(const struct options *options, unsigned int rows, unsigned int missed);

const char *verdict_name(enum verdict verdict);

#endif
