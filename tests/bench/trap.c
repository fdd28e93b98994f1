/* SPDX-License-Identifier: MIT */
#include "trap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem.h>

static struct {
	jmp_buf out;
	bool armed, child;
	char reason[400];
} trap;

void give_up(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(trap.reason, sizeof(trap.reason), format, arguments);
	va_end(arguments);
	if (trap.armed)
		longjmp(trap.out, 1);
	fprintf(stderr, "bench: %s\n", trap.reason);
	if (trap.child)
		_exit(2); /* what is buffered is the parent's to print */
	exit(2);
}

void must(int result, const char *call)
{
	if (result < 0)
		give_up("%s: %d, %s", call, result, gmem_last_error());
}

void must_errno(long result, const char *call)
{
	if (result < 0)
		give_up("%s: %s", call, strerror(errno));
}

void trap_in_child(void)
{
	trap.armed = false;
	trap.child = true;
}

bool trap_run(void (*fn)(void *), void *argument, char *reason, size_t room)
{
	trap.armed = true;
	if (setjmp(trap.out) == 0) {
		fn(argument);
		trap.armed = false;
		return true;
	}
	trap.armed = false;
	snprintf(reason, room, "%s", trap.reason);
	return false;
}
