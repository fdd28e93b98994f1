/* SPDX-License-Identifier: MIT */
/* Floor 0: error codes and the per-thread sentence behind gmem_last_error(). Allocates nothing, calls only log. */
#ifndef GMEMI_ERR_H
#define GMEMI_ERR_H

#include <errno.h>

/* A public call begins: names it in the sentence of a failure to come. Callbacks may call the library: put the name back after. */
void gmemi_enter(const char *call);
const char *gmemi_entered(void);

/* A failure that the library decided on. code is a negative errno and is returned. */
__attribute__((format(printf, 2, 3))) int gmemi_refuse(int code, const char *format, ...);

/* A failure that the kernel reported at a step. advice says what to check, or is NULL. Returns code. */
int gmemi_failed(int code, const char *step, const char *advice);

/* "EINVAL" for -EINVAL; NULL for what is not in the table. */
const char *gmemi_error_name(int code);

#endif
