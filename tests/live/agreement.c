/* SPDX-License-Identifier: MIT */
#include "agreement.h"

#include <stdio.h>

#include "gt.h"

bool agreement(const struct raw_machine *machine, const char *feature, int state, const char *whose)
{
	enum raw_state raw;

	if (!raw_probe(machine, feature, &raw))
		fail_msg("%s: no raw probe is written for it in tests/live/rawprobe.c", feature);
	if ((int)raw == state)
		return true;
	printf("  %s: %s says %s, the raw probe %s\n", feature, whose,
	       state < 0 ? "an error" : raw_state_name((enum raw_state)state), raw_state_name(raw));
	return false;
}
