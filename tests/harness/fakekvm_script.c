/* SPDX-License-Identifier: MIT */
/* What the test wants certain calls to do, and how often calls came. */
#include <stdio.h>
#include <string.h>

#include "fakekvm_int.h"

#define MOST 64

struct script {
	char call[64];
	int error;
	bool partial;
	uint64_t limit;
	bool for_ever;
	unsigned int times;
	unsigned int after;
};

static struct script scripts[MOST];
static size_t script_count;

static struct {
	char call[64];
	unsigned int count;
} counters[MOST];
static size_t counter_count;

void fake_forget_scripts(void)
{
	script_count = 0;
	counter_count = 0;
}

static void check_name(const char *call)
{
	static const char *const others[] = {
		"open:/dev/kvm", "open:/dev/userfaultfd", "userfaultfd", "mmap", "madvise", "mincore", "fallocate", "lseek",
		"pwrite", "splice", "cachestat", "mbind", "readlink"
	};
	const char *name = strncmp(call, "probe:", 6) == 0 ? call + 6 : call;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strcmp(others[i], call) == 0)
			return;
	if (!fake_is_command(name, false))
		fake_misused("there is no call \"%s\" to script or count", call);
}

static void add(const struct script *script, const char *call)
{
	check_name(call);
	if (!fake_enabled())
		fake_misused("scripts are for an enabled stand-in");
	fake_lock();
	if (script_count == MOST)
		fake_misused("too many scripts");
	scripts[script_count] = *script;
	snprintf(scripts[script_count].call, sizeof(scripts->call), "%s", call);
	script_count++;
	fake_unlock();
}

void fakekvm_script(const char *call, int error, unsigned int times, unsigned int after)
{
	struct script script = { .error = error, .for_ever = times == 0, .times = times, .after = after };

	add(&script, call);
}

void fakekvm_script_partial(const char *call, uint64_t limit, int error, unsigned int times, unsigned int after)
{
	struct script script = { .error = error, .for_ever = times == 0, .times = times, .after = after };

	script.partial = true;
	script.limit = limit;
	add(&script, call);
}

/* Does this script apply now? Counts it down. */
static bool applies(struct script *script, const char *call)
{
	if (strcmp(script->call, call) != 0)
		return false;
	if (script->after) {
		script->after--;
		return false;
	}
	if (script->for_ever)
		return true;
	return script->times && script->times--;
}

static void count(const char *call)
{
	size_t i = 0;

	while (i < counter_count && strcmp(counters[i].call, call) != 0)
		i++;
	if (i == MOST)
		fake_misused("too many different calls to count");
	if (i == counter_count) {
		snprintf(counters[i].call, sizeof(counters->call), "%s", call);
		counters[i].count = 0;
		counter_count++;
	}
	counters[i].count++;
}

long fake_scripted_limit(const char *call, uint64_t *limit, int *error)
{
	count(call);
	for (size_t i = 0; i < script_count; i++) {
		const struct script *script = &scripts[i];

		if (!applies(&scripts[i], call))
			continue;
		if (!script->partial)
			return -script->error;
		*limit = script->limit < *limit ? script->limit : *limit;
		*error = script->error;
		return 0;
	}
	return 0;
}

long fake_scripted(const char *call)
{
	uint64_t limit = UINT64_MAX;
	int error = 0;
	long scripted = fake_scripted_limit(call, &limit, &error);

	if (limit != UINT64_MAX)
		fake_misused("%s cannot do a part of its work", call);
	return scripted;
}

unsigned int fakekvm_calls(const char *call)
{
	unsigned int result = 0;

	check_name(call);
	fake_lock();
	for (size_t i = 0; i < counter_count; i++)
		if (strcmp(counters[i].call, call) == 0)
			result = counters[i].count;
	fake_unlock();
	return result;
}
