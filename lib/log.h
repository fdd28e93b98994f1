/* SPDX-License-Identifier: MIT */
/* Floor 0: the log sink, the only state of the process that the library has. */
#ifndef GMEMI_LOG_H
#define GMEMI_LOG_H

#include <gmem/base.h>

#include <stdarg.h>

/* Says one line to the sink if it wants this level, unless this thread is in the sink already. No lock is held while the sink
 * runs. */
void gmemi_log(enum gmem_log_level level, const char *format, va_list arguments);

#endif
