/* SPDX-License-Identifier: MIT */
#include "points.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gt.h"
#include "inject.h"
#include "wrap.h" /* inject_describe() */

unsigned long each(int (*body)(void *arg), void *arg)
{
	static unsigned long points;

	points += inject_each(body, arg);
	printf("  %lu failure points so far\n", points);
	return points;
}

unsigned long point_of(void (*body)(void *arg), void *arg, const char *call, unsigned int k)
{
	for (unsigned long nth = 1;; nth++) {
		inject_arm(nth, 0);
		body(arg);
		inject_disarm();
		if (!inject_fired())
			return 0;
		if (strcmp(inject_where(), call) == 0 && --k == 0)
			return nth;
	}
}

bool was_transient(void)
{
	static const int errors[] = { ENOMEM, EINTR, EAGAIN, EMFILE, ENFILE };

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strstr(inject_describe(), strerror(errors[i])))
			return true;
	return !inject_fired();
}

int explain_rows(struct gmem_vm *vm, enum gmem_task task)
{
	int chosen = 0, r = 1;

	for (uint32_t row = 0; r == 1; row++) {
		struct gmem_step step = { .size = sizeof(step) };

		r = gmem_vm_explain(vm, task, 0, 0, row, &step);
		assert_true(r == 0 || (r == 1 && step.why && step.state <= GMEM_PRESENT));
		chosen += step.chosen != 0;
	}
	assert_true(chosen <= 1);
	return r;
}
