/* SPDX-License-Identifier: MIT */
/* Makes the n-th system call or allocation of the library fail.
 *
 * The calls listed in the file `wrapped` are caught by the linker (--wrap), in every object that is linked into the program: in
 * the library's and in the test's own. Each is a *failure point* while the injector is armed and not paused, whichever thread
 * makes it; free() is watched but never fails. Calls that libc makes inside itself are not seen.
 *
 * A failing call fails as the kernel's would: close() closes all the same, munmap() leaves the mapping (inject_disarm() removes
 * it), mmap() returns MAP_FAILED, calloc() NULL, pthread_create() the error. */
#ifndef INJECT_H
#define INJECT_H

#include <stdbool.h>
#include <stddef.h>

/* In place of an errno: read, pread, pwrite and splice do half of what they were asked for, and succeed. Others are left
 * alone. */
#define INJECT_SHORT (-1)

/* The nth call from now (1 = the next one, 0 = none: count only) fails with this errno. */
void inject_arm(unsigned long nth, int error);
/* Ends it. Returns how many failure points were passed, the failing one included. */
unsigned long inject_disarm(void);

/* Of the last time it was armed: did a call fail, and which one ("" if none did)? 64-bit names are said without the
 * 64, calls through syscall() by that, but for cachestat, faccessat2, mbind and preadv2. */
bool inject_fired(void);
const char *inject_where(void);

/* Between these, calls of all threads pass uncounted: for what a body sets up and tears down. They nest. */
void inject_pause(void);
void inject_resume(void);
/* Calls of this thread never count: for helper threads of a test. */
void inject_exempt_thread(bool exempt);

/* Runs body with failure 1, 2, 3, ... and every errno that is plausible for the call which fails there, until a run passes
 * without the failure. body sets up (paused), makes the calls under test, tears down (paused, unless that is under test too),
 * and returns 0 if they succeeded; where nothing was made to fail, they must. After every run fds, shared mappings, anonymous
 * mappings and allocations must be as before: if not, says which point it was and fails the test. Returns the number of
 * points. */
unsigned long inject_each(int (*body)(void *arg), void *arg);

/* Called by a body: in this run something may stay behind, because the library says that it leaves it there on purpose. */
void inject_allow_leak(void);

/* Objects that came from calloc() and were not freed. */
size_t inject_live_allocations(void);

/* Has the pages of the books themselves there from now on, for who measures how much memory the program takes. */
void inject_touch_ledgers(void);

/* For the leak check: a point in time, and what was allocated or mapped anonymously after it and is still there (listed on
 * stdout; returns how many). */
unsigned long inject_mark(void);
size_t inject_list_since(unsigned long mark);

/* Back to not armed, not paused. */
void inject_reset(void);

#endif
