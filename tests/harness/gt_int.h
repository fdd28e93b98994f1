/* SPDX-License-Identifier: MIT */
/* Between the files of the glue. */
#ifndef GT_INT_H
#define GT_INT_H

/* Ends a child that does what only the test itself may do. */
void gt_child_must_not(const char *what, const char *why);

#endif
