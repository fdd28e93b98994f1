/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE 1
#include "sigbus.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>

#include "say.h"

struct landing {
	sigjmp_buf where;
	void *volatile address;
};

static _Thread_local struct landing *volatile landing;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	struct landing *here = landing;

	(void)context;
	if (!here) {
		signal(number, SIG_DFL); /* not foreseen: the instruction is tried again, and ends the process */
		return;
	}
	here->address = info->si_addr;
	siglongjmp(here->where, 1);
}

int sigbus_guard(void (*touch)(void *argument), void *argument)
{
	const struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	struct landing here = { .address = NULL };

	if (sigaction(SIGBUS, &action, NULL))
		return fail("sigaction: %s", strerror(errno));
	if (sigsetjmp(here.where, 1)) {
		landing = NULL;
		return fail("SIGBUS at %p: a page of guest memory cannot be had", here.address);
	}
	landing = &here;
	touch(argument);
	landing = NULL;
	return 0;
}
