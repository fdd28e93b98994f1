/* SPDX-License-Identifier: MIT */
#ifndef EXPLAIN_H
#define EXPLAIN_H

struct microvm;

/* Tells how guest memory will be created and filled, and why so. Returns -1 and says so on stderr if it cannot. */
int explain(const struct microvm *m);

#endif
