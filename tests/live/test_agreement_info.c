/* SPDX-License-Identifier: MIT */
/* gmem-info --json says of every feature what an independent raw probe finds: for each type of VM, as root and as an
 * ordinary user. */
#include <gmem.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agreement.h"
#include "gt.h"

static const char *program(void)
{
	const char *path = getenv("GMEM_INFO");

	if (!path || !*path)
		gt_skip("GMEM_INFO does not say where gmem-info is");
	return path;
}

/* The value of a member on the same line, or NULL. */
static bool member(const char *line, const char *name, char *value, size_t room)
{
	char key[64];
	const char *at;

	snprintf(key, sizeof(key), "\"%s\": \"", name);
	at = strstr(line, key);
	if (!at)
		return false;
	at += strlen(key);
	snprintf(value, room, "%.*s", (int)strcspn(at, "\""), at);
	return true;
}

static int state_number(const char *word)
{
	for (int i = RAW_UNDETERMINED; i <= RAW_PRESENT; i++)
		if (strcmp(word, raw_state_name((enum raw_state)i)) == 0)
			return i;
	return -1;
}

/* Every feature is an object on a line of its own; nothing else in the report has a name and a state. */
static unsigned int compare_report(const struct raw_machine *machine, char *text, unsigned int *seen)
{
	unsigned int wrong = 0;
	char *rest, name[64], state[64];

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (!member(line, "name", name, sizeof(name)) || !member(line, "state", state, sizeof(state)))
			continue;
		wrong += !agreement(machine, name, state_number(state), "gmem-info");
		++*seen;
	}
	fflush(stdout);
	return wrong;
}

static unsigned int count_features(void)
{
	unsigned int count = 0;

	while (gmem_feature_name((enum gmem_feature)(count + 1)))
		count++;
	return count;
}

/* What cannot be made is reported as if there were no VM; "none" is asked for without one. */
struct type {
	const char *word;
	int number; /* for KVM_CREATE_VM, -1 = none is made */
};

static const struct type types[] = {
	{ "none", -1 },        { "plain", 0 },
#ifdef __x86_64__
	{ "sw-protected", 1 }, { "sev", 2 },   { "snp", 4 }, { "tdx", 5 },
#endif
};

struct run {
	int fd; /* of the program, since the user may not come to its path */
	const struct type *type;
	bool user;
};

static int execute(void *arg)
{
	const struct run *run = arg;
	char *argv[] = { "gmem-info", "--json", "--vm-type", (char *)(uintptr_t)run->type->word, NULL };
	char *envp[] = { "PATH=/usr/bin:/bin", NULL };

	fexecve(run->fd, argv, envp);
	perror("fexecve() of gmem-info");
	return GT_CHILD_FAILED;
}

static int execute_as(void *arg)
{
	const struct run *run = arg;

	return run->user ? gt_as_user(GT_NOBODY, execute, arg) : execute(arg);
}

struct opinion {
	char *text;
	const struct type *type;
};

static int hold_against(void *arg)
{
	const struct opinion *opinion = arg;
	struct raw_machine machine =
		opinion->type->number < 0 ? NO_MACHINE : raw_machine_new((unsigned long)opinion->type->number);
	unsigned int seen = 0, wrong = compare_report(&machine, opinion->text, &seen);

	raw_machine_end(&machine);
	if (seen != count_features())
		printf("  gmem-info reports %u features, the library has %u\n", seen, count_features());
	fflush(stdout);
	return wrong || seen != count_features();
}

static void gmem_info_agrees(const struct type *type, bool user)
{
	struct run run = { .fd = open(program(), O_RDONLY | O_CLOEXEC), .type = type, .user = user };
	struct opinion opinion = { .type = type };
	int status;

	assert_true(run.fd >= 0);
	status = gt_child_output(execute_as, &run, &opinion.text);
	close(run.fd);
	if (status)
		printf("%s", opinion.text);
	else
		status = user ? gt_as_user(GT_NOBODY, hold_against, &opinion) : gt_in_child(hold_against, &opinion);
	free(opinion.text);
	if (status)
		fail_msg("gmem-info --vm-type %s: see above", type->word);
}

static void without_a_vm(void **state)
{
	(void)state;
	gmem_info_agrees(types, false);
}

static void every_type_of_vm(void **state)
{
	(void)state;
	for (size_t i = 1; i < sizeof(types) / sizeof(types[0]); i++)
		gmem_info_agrees(types + i, false);
}

static void without_a_vm_as_a_user(void **state)
{
	(void)state;
	gmem_info_agrees(types, true);
}

static void every_type_of_vm_as_a_user(void **state)
{
	(void)state;
	for (size_t i = 1; i < sizeof(types) / sizeof(types[0]); i++)
		gmem_info_agrees(types + i, true);
}

static const struct gt_test tests[] = {
	GT(without_a_vm, GT_NEEDS_NOTHING),
	GT(every_type_of_vm, GT_NEEDS_NOTHING),
	GT(without_a_vm_as_a_user, GT_NEEDS_ORDINARY_USER),
	GT(every_type_of_vm_as_a_user, GT_NEEDS_ORDINARY_USER),
};

GT_MAIN("agreement_info", tests)
