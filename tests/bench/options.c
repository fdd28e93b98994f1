/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define LEAST_ROUNDS 9
#define QUICK_ROUNDS 2

static _Noreturn void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: bench [--goal N] [--rounds N] [--size MIB] [--quick] [--json] [-v]\n"
		"  --goal N     one of 1 to 12, 14, 16, ranges, peer, call, memory; without it all\n"
		"  --rounds N   %u or more; a gate that is missed is tried again with more\n"
		"  --size MIB   of memory to populate, 2 to 256\n"
		"  --quick      see that everything runs: little memory, %u rounds, no gate\n"
		"  --json       one object instead of a table\n"
		"  -v           absolute times too\n"
		"Exit status: 0, or 1 if a gate was missed or something broke.\n",
		LEAST_ROUNDS, QUICK_ROUNDS);
	exit(status);
}

static unsigned int number(const char *text, unsigned int least, unsigned int most)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value < least || value > most) {
		fprintf(stderr, "bench: %s is not a number from %u to %u\n", text, least, most);
		exit(2);
	}
	return (unsigned int)value;
}

struct options options_read(int argc, char **argv)
{
	static const struct option known[] = {
		{ "goal", 1, NULL, 'g' }, { "rounds", 1, NULL, 'r' }, { "size", 1, NULL, 's' }, { "quick", 0, NULL, 'q' },
		{ "json", 0, NULL, 'j' }, { "help", 0, NULL, 'h' },   { 0 },
	};
	struct options options = { 0 };
	int o;

	while ((o = getopt_long(argc, argv, "v", known, NULL)) != -1)
		switch (o) {
		case 'g': options.goal = optarg; break;
		case 'r': options.rounds = number(optarg, LEAST_ROUNDS, 999); break;
		case 's': options.size = (size_t)number(optarg, 2, 256) << 20; break;
		case 'q': options.quick = true; break;
		case 'j': options.json = true; break;
		case 'v': options.verbose = true; break;
		default: usage(o == 'h' ? 0 : 2);
		}
	if (!options.rounds)
		options.rounds = options.quick ? QUICK_ROUNDS : LEAST_ROUNDS;
	if (!options.size)
		options.size = (size_t)(options.quick ? 4 : 256) << 20;
	return options;
}
