/* SPDX-License-Identifier: MIT */
#include "gt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fakekvm.h"
#include "gt_int.h"
#include "inject.h"

/* A program that does without the wrapped calls does not link these. */
#pragma weak fakekvm_disable
#pragma weak inject_reset

static const char *filter;
static const char *running; /* the test whose result has not been printed yet */

/* Whole lines at once: a crash right after must not swallow one. */
static void say(const char *what, const char *name, const char *reason)
{
	printf("# %s %s%s%s\n", what, name, reason ? ": " : "", reason ? reason : "");
	fflush(stdout);
}

/* cmocka leaves a failing test by longjmp and tells nobody: what is still running when the next one begins has failed. */
static void settle(void)
{
	if (running)
		say("FAIL", running, NULL);
	running = NULL;
}

/* A test that failed half-way may have left the stand-in kernel on and the injector armed. */
static void calm_down(void)
{
	if (inject_reset)
		inject_reset();
	if (fakekvm_disable)
		fakekvm_disable();
}

static void run_one(void **state)
{
	const struct gt_test *test = *state;
	struct gt_snapshot *before;
	void *own = NULL;

	settle();
	calm_down();
	running = test->name;
	say("RUN", test->name, NULL);
	gt_require(test->needs);
	before = gt_snapshot();
	test->fn(&own);
	calm_down();
	gt_assert_nothing_leaked(before);
	running = NULL;
	say("PASS", test->name, NULL);
}

void gt_skip(const char *format, ...)
{
	char reason[256];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	gt_child_must_not("skip", reason);
	say("SKIP", running, reason);
	running = NULL;
	skip();
	abort(); /* skip() does not return, but its prototype does not say so */
}

void gt_require(unsigned int needs)
{
	const char *missing = gt_missing(needs);

	if (missing)
		gt_skip("needs %s", missing);
}

void gt_set_filter(const char *part)
{
	filter = part;
}

static size_t choose(const struct gt_test *tests, size_t count, struct CMUnitTest *chosen)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		if (filter && !strstr(tests[i].name, filter))
			continue;
		chosen[n].name = tests[i].name;
		chosen[n].test_func = run_one;
		chosen[n++].initial_state = (void *)(uintptr_t)&tests[i];
	}
	return n;
}

int gt_main(const char *group, const struct gt_test *tests, size_t count)
{
	struct CMUnitTest *chosen = calloc(count + 1, sizeof(*chosen));
	size_t n;
	int failed;

	if (!chosen)
		return 1;
	/* A child that is killed must not leave a part of a line before the next result. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	n = choose(tests, count, chosen);
	printf("# PLAN %zu\n", n);
	fflush(stdout);
	failed = n ? _cmocka_run_group_tests(group, chosen, n, NULL, NULL) : 0;
	settle();
	free(chosen);
	return failed != 0;
}
