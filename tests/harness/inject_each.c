/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gt.h"
#include "inject.h"
#include "wrap.h"

#define MOST_POINTS 20000 /* no call of the library makes so many: a body that never ends */
#define SECONDS_A_RUN 60

struct driver {
	int (*body)(void *arg);
	void *arg;
	unsigned long nth;
	unsigned long failures;
};

static char stuck[256];
static bool leak_allowed;

void inject_allow_leak(void)
{
	leak_allowed = true;
}

/* Only what a signal handler may do: the text was made before. */
static void give_up(int signal)
{
	ssize_t ignored = write(STDERR_FILENO, stuck, strlen(stuck));

	(void)signal;
	(void)ignored;
	_exit(1);
}

static void check(const struct driver *driver, struct gt_snapshot *before, int result)
{
	size_t leaks = gt_leaks(before);

	if (leaks && !leak_allowed)
		fail_msg("failure point %lu, %s: %zu leaked or lost, listed on stdout", driver->nth, inject_describe(), leaks);
	if (!inject_fired() && result)
		fail_msg("the body returned %d though no call was made to fail (after %lu failures)", result, driver->failures);
}

/* One run with one failure. True if the failure was reached. */
static bool run(struct driver *driver, unsigned int variant)
{
	struct gt_snapshot *before = gt_snapshot();
	int result;

	snprintf(stuck, sizeof(stuck), "inject_each: no end within %d s: failure point %lu, variant %u\n", SECONDS_A_RUN,
		 driver->nth, variant);
	leak_allowed = false;
	alarm(SECONDS_A_RUN);
	inject_arm_variant(driver->nth, variant);
	result = driver->body(driver->arg);
	inject_disarm();
	alarm(0);
	check(driver, before, result);
	driver->failures += inject_fired();
	return inject_fired();
}

/* All plausible errors at one point. False when the body ended before it. */
static bool run_point(struct driver *driver)
{
	unsigned int variant = 0;

	do {
		if (!run(driver, variant))
			return variant > 0;
	} while (++variant < inject_variants());
	return true;
}

unsigned long inject_each(int (*body)(void *arg), void *arg)
{
	struct driver driver = { .body = body, .arg = arg };
	void (*old)(int) = signal(SIGALRM, give_up);

	run(&driver, 0); /* point 0 is never reached: the body must be sound by itself */
	do {
		if (++driver.nth > MOST_POINTS)
			fail_msg("more than %d failure points", MOST_POINTS);
	} while (run_point(&driver));
	signal(SIGALRM, old);
	if (--driver.nth == 0)
		fail_msg("no failure point at all: is the program linked with the wrapped calls, the library statically?");
	printf("# POINTS %lu\n  %lu failures injected at them\n", driver.nth, driver.failures);
	fflush(stdout);
	return driver.nth;
}
