/* SPDX-License-Identifier: MIT */
/* gmem-info: the command line. */
#include "gmem-info.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char usage[] =
	"Usage: gmem-info [OPTION]...\n"
	"Tells what this machine, this kind of VM and this user can do for guest memory.\n"
	"\n"
	"      --vm-type TYPE   ask about a VM of this type: plain (the default),\n"
	"                       sw-protected, sev, snp, tdx; none = ask without a VM\n"
	"      --task TASK      show the chain of mechanisms for a task: create, populate,\n"
	"                       populate-private, prefault, resolve, convert, discard, all\n"
	"      --need LIST      what the memory must be able to do, separated by commas:\n"
	"                       mappable (the default), private, lazy, hidden, huge-2m,\n"
	"                       huge-1g\n"
	"      --feature NAME   show one feature; exit status 0 if it is present, else 1\n"
	"      --rfc-ioctls     also try ioctl numbers that were proposed, never merged and\n"
	"                       used again since; for kernels whose patches you know\n"
	"      --json           print one JSON object\n"
	"      --help           print this text and exit\n"
	"      --version        print versions and exit\n"
	"\n"
	"Exit status: 0 the report was made, 1 it could not be made, 2 wrong usage.\n";

static bool refuse(const char *what, const char *word)
{
	fprintf(stderr, "gmem-info: %s%s%s%s\nTry 'gmem-info --help'.\n", what, word ? " '" : "", word ? word : "",
		word ? "'" : "");
	return false;
}

static bool set_vm_type(struct info_request *request, const char *word)
{
	request->type = info_vm_type(word);
	return request->type || refuse("this architecture has no VM type", word);
}

static bool set_task(struct info_request *request, const char *word)
{
	request->all_tasks = strcmp(word, "all") == 0;
	request->task = info_task(word);
	return request->all_tasks || request->task || refuse("unknown task", word);
}

static bool set_needs(struct info_request *request, const char *list)
{
	const char *word = list;

	for (;;) {
		size_t length = strcspn(word, ",");
		uint64_t need = info_need(word, length);

		if (!need)
			return refuse("unknown need in", list);
		request->need |= need;
		if (!word[length])
			return true;
		word += length + 1;
	}
}

static bool set_feature(struct info_request *request, const char *word)
{
	const char *name;

	if (request->feature)
		return refuse("--feature can be given once only", NULL);
	for (int number = 1; (name = gmem_feature_name((enum gmem_feature)number)); number++) {
		if (strcasecmp(name, word) == 0) {
			request->feature = (enum gmem_feature)number;
			return true;
		}
	}
	return refuse("this library has no feature", word);
}

static bool is_consistent(const struct info_request *request)
{
	if (request->feature && (request->task || request->all_tasks))
		return refuse("--feature and --task exclude each other", NULL);
	return true;
}

enum option_letter { OPT_TYPE = 't', OPT_TASK = 'k', OPT_NEED = 'n', OPT_FEATURE = 'f', OPT_RFC = 'r', OPT_JSON = 'j' };
enum option_stop { OPT_HELP = 'h', OPT_VERSION = 'v' };

static const struct option options[] = {
	{ "vm-type", required_argument, NULL, OPT_TYPE },
	{ "task", required_argument, NULL, OPT_TASK },
	{ "need", required_argument, NULL, OPT_NEED },
	{ "feature", required_argument, NULL, OPT_FEATURE },
	{ "rfc-ioctls", no_argument, NULL, OPT_RFC },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static bool set_option(struct info_request *request, int letter, const char *value)
{
	switch (letter) {
	case OPT_TYPE:
		return set_vm_type(request, value);
	case OPT_TASK:
		return set_task(request, value);
	case OPT_NEED:
		return set_needs(request, value);
	case OPT_FEATURE:
		return set_feature(request, value);
	case OPT_RFC:
		request->vm_flags |= GMEM_VM_RFC_IOCTLS;
		return true;
	case OPT_JSON:
		request->json = true;
		return true;
	default: /* getopt_long() has said what is wrong */
		fputs("Try 'gmem-info --help'.\n", stderr);
		return false;
	}
}

static bool stops(int letter)
{
	if (letter == OPT_HELP)
		fputs(usage, stdout);
	else if (letter == OPT_VERSION)
		printf("gmem-info %s (libgmem %s)\n", GMEM_VERSION, gmem_version());
	else
		return false;
	return true;
}

bool info_parse(int argc, char **argv, struct info_request *request, int *status)
{
	int letter;

	*request = (struct info_request){ .type = info_vm_type("plain") };
	*status = INFO_EXIT_USAGE;
	while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (stops(letter)) {
			*status = INFO_EXIT_DONE;
			return false;
		}
		if (!set_option(request, letter, optarg))
			return false;
	}
	if (optind < argc)
		return refuse("unexpected argument", argv[optind]);
	return is_consistent(request);
}
