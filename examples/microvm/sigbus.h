/* SPDX-License-Identifier: MIT */
/* Memory that is brought in on demand can fail to come: touching a page whose content cannot be had is SIGBUS. */
#ifndef SIGBUS_H
#define SIGBUS_H

/* Calls `touch`. Where that got SIGBUS, what was left of it is not done: then -1, and it is said on stderr. Any thread. */
int sigbus_guard(void (*touch)(void *argument), void *argument);

#endif
