/* SPDX-License-Identifier: MIT */
/* Floor 0: error codes and the per-thread sentence behind gmem_last_error(). Allocates nothing, calls only log. */
#ifndef GMEMI_ERR_H
#define GMEMI_ERR_H

#include <errno.h>

#include <gmem/base.h>

/* The first line of every public function: names it in the sentence of a failure to come, and when it returns, with no lock
 * held any more, hands that sentence to the log. Calls nest: callbacks may call the library. */
#define GMEMI_CALL() __attribute__((cleanup(gmemi_leave), unused)) const char *gmemi_previous = gmemi_enter(__func__)
const char *gmemi_enter(const char *call);
void gmemi_leave(const char **previous);
const char *gmemi_entered(void);

/* A failure that the library decided on. code is a negative errno and is returned. */
__attribute__((format(printf, 2, 3))) int gmemi_refuse(int code, const char *format, ...);

/* A failure that the kernel reported at a step. advice says what to check, or is NULL. Returns code. */
int gmemi_failed(int code, const char *step, const char *advice);

/* The failure last reported in this call is dealt with: it is neither the caller's nor the log's. */
void gmemi_tolerated(void);

/* The sentence of a failure, on its way from the thread that met it to the one that returns it. */
struct gmemi_sentence {
	char text[400];
};
void gmemi_sentence_take(struct gmemi_sentence *sentence);
void gmemi_sentence_give(const struct gmemi_sentence *sentence);

/* Says one line to the log. The sink may call the library: the sentence and the call's name are put back after. */
__attribute__((format(printf, 2, 3))) void gmemi_note(enum gmem_log_level level, const char *format, ...);

/* "EINVAL" for -EINVAL; NULL for what is not in the table. */
const char *gmemi_error_name(int code);

#endif
