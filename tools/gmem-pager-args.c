/* SPDX-License-Identifier: MIT */
/* gmem-pager: the command line. */
#include "gmem-pager.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* The page map of so much takes 64 MiB here, and time, while the VM pays nothing: its file may have nothing in it. */
#define MAX_BYTES (UINT64_C(1) << 40)

static const char usage[] = "Usage: gmem-pager --socket PATH --source SOURCE... [OPTION]...\n"
			    "       gmem-pager --status [--json] --socket PATH | --control PATH\n"
			    "Fills the memory of virtual machines on demand: Firecracker's, or any that uses libgmem.\n"
			    "\n"
			    "      --socket PATH        where VMs connect; or a socket that systemd hands in\n"
			    "      --source SOURCE      file:PATH, file@OFFSET:PATH or zero; given again: what the\n"
			    "                           ones before have not; in PATH %i is the VM's name, %u its\n"
			    "                           user ID\n"
			    "      --root DIR           sources are below DIR, and no link leads out of it\n"
			    "      --identity UID=NAME  the name of VMs of this user; without, what a VM says it is\n"
			    "      --allow-uid USER     who may connect; the default: this user, and root\n"
			    "      --protocol WORD      auto (the default), native, firecracker\n"
			    "      --threads N          that serve, 1 to 64\n"
			    "      --cpus LIST          where they run, such as 0-3,8\n"
			    "      --around WORD        what is brought in with a page: adaptive (the default),\n"
			    "                           none, or bytes\n"
			    "      --background RATE    bytes a second that are filled unasked, or max\n"
			    "      --deadline TIME      for one page (10s); forever\n"
			    "      --on-failure WORD    a page that cannot be read: poison (the default), wait\n"
			    "      --finish TIME        when told to stop, fill what is missing for so long (0)\n"
			    "      --handshake TIME     a VM has to say who it is (5s)\n"
			    "      --max-vms N          at a time (1024)\n"
			    "      --max-ranges N       of one VM (4096)\n"
			    "      --max-bytes SIZE     of one VM (1T)\n"
			    "      --max-memories N     files that one VM brings (64)\n"
			    "      --max-faults N       of one VM in a second (no limit)\n"
			    "      --control PATH       where --status asks; the default: that of --socket, with\n"
			    "                           .control behind it\n"
			    "      --mode OCTAL         of the socket (600)\n"
			    "      --user USER          become this user once the sockets are there\n"
			    "      --no-seccomp         do not confine the system calls\n"
			    "      --status             tell what a running gmem-pager does, and exit\n"
			    "      --json               ... as one JSON object\n"
			    "      --help, --version    print this text, or versions, and exit\n"
			    "\n"
			    "SIZE and RATE take K, M, G, T; TIME ms, s, m.\n"
			    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 VMs were let go unfinished.\n";

static bool refuse(const char *what, const char *word)
{
	fprintf(stderr, "gmem-pager: %s%s%s%s\nTry 'gmem-pager --help'.\n", what, word ? " '" : "", word ? word : "",
		word ? "'" : "");
	return false;
}

/* --- options that are more than a value --------------------------------------------------------------------------------- */

static bool set_source(struct pager_request *request, const char *word)
{
	if (request->layer_count == PAGER_LAYERS)
		return refuse("there are more than 64 sources, from", word);
	if (!pager_read_layer(word, &request->layers[request->layer_count]))
		return refuse("not file:PATH, file@OFFSET:PATH (whole pages) or zero:", word);
	request->layer_count++;
	return true;
}

static bool set_identity(struct pager_request *request, const char *word)
{
	struct pager_identity *identity = &request->identities[request->identity_count];
	const char *sign = strchr(word, '=');
	char user[64];

	if (request->identity_count == PAGER_UIDS)
		return refuse("there are more than 256 identities, from", word);
	if (!sign || (size_t)(sign - word) >= sizeof(user) || !pager_is_name(sign + 1))
		return refuse("not USER=NAME with a name of letters, digits, _ and -:", word);
	memcpy(user, word, (size_t)(sign - word));
	user[sign - word] = '\0';
	if (!pager_read_uid(user, &identity->uid))
		return refuse("there is no user", user);
	identity->name = sign + 1;
	request->identity_count++;
	return true;
}

static bool set_allowed(struct pager_request *request, const char *word)
{
	if (request->allowed_count == PAGER_UIDS)
		return refuse("there are more than 256 users, from", word);
	if (!pager_read_uid(word, &request->allowed[request->allowed_count]))
		return refuse("there is no user", word);
	request->allowed_count++;
	return true;
}

static bool set_protocol(struct pager_request *request, const char *word)
{
	static const char *const names[] = { "auto", "native", "firecracker" };

	for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(word, names[i]) == 0) {
			request->protocol = i;
			return true;
		}
	}
	return refuse("unknown protocol", word);
}

static bool set_around(struct pager_request *request, const char *word)
{
	request->around = 0;
	request->around_mode = GMEM_AROUND_ADAPTIVE;
	if (strcmp(word, "adaptive") == 0)
		return true;
	request->around_mode = GMEM_AROUND_NONE;
	if (strcmp(word, "none") == 0)
		return true;
	request->around_mode = GMEM_AROUND_FIXED;
	if (pager_read_bytes(word, &request->around) && request->around >= 4096 && request->around <= 2 << 20 &&
	    !(request->around & (request->around - 1)))
		return true;
	return refuse("--around is adaptive, none, or a power of two from 4K to 2M, not", word);
}

static bool set_background(struct pager_request *request, const char *word)
{
	request->background = UINT64_MAX;
	return strcmp(word, "max") == 0 || pager_read_bytes(word, &request->background) || refuse("not a rate:", word);
}

static bool set_on_failure(struct pager_request *request, const char *word)
{
	request->waits_on_failure = strcmp(word, "wait") == 0;
	return request->waits_on_failure || strcmp(word, "poison") == 0 || refuse("--on-failure is poison or wait, not", word);
}

static bool set_cpus(struct pager_request *request, const char *word)
{
	request->has_cpus = true;
	return pager_read_cpus(word, request->cpus) || refuse("not a list of CPUs:", word);
}

static bool set_user(struct pager_request *request, const char *word)
{
	uid_t uid;

	request->user = word;
	return pager_read_uid(word, &uid) || refuse("there is no user", word);
}

static bool set_deadline(struct pager_request *request, const char *word)
{
	return (pager_read_time(word, &request->deadline_ns) && request->deadline_ns) || refuse("not a time:", word);
}

static bool set_finish(struct pager_request *request, const char *word)
{
	return pager_read_time(word, &request->finish_ns) || refuse("not a time:", word);
}

static bool set_handshake(struct pager_request *request, const char *word)
{
	return (pager_read_time(word, &request->handshake_ns) && request->handshake_ns) || refuse("not a time:", word);
}

static bool set_threads(struct pager_request *request, const char *word)
{
	return pager_read_count(word, 64, &request->threads) || refuse("--threads is 1 to 64, not", word);
}

static bool set_max_vms(struct pager_request *request, const char *word)
{
	return pager_read_count(word, 1000000, &request->max_vms) || refuse("--max-vms is 1 to 1000000, not", word);
}

static bool set_max_ranges(struct pager_request *request, const char *word)
{
	return pager_read_count(word, 1000000, &request->max_ranges) || refuse("--max-ranges is 1 to 1000000, not", word);
}

static bool set_max_memories(struct pager_request *request, const char *word)
{
	return pager_read_count(word, 64, &request->max_memories) || refuse("--max-memories is 1 to 64, not", word);
}

static bool set_max_faults(struct pager_request *request, const char *word)
{
	return pager_read_count(word, 1000000000, &request->max_faults) || refuse("--max-faults is 1 to 1000000000, not", word);
}

static bool set_max_bytes(struct pager_request *request, const char *word)
{
	return (pager_read_bytes(word, &request->max_bytes) && request->max_bytes) || refuse("not a size:", word);
}

static bool set_mode(struct pager_request *request, const char *word)
{
	return pager_read_mode(word, &request->mode) || refuse("not a mode:", word);
}

static bool set_socket(struct pager_request *request, const char *word)
{
	request->socket = word;
	return *word || refuse("--socket is empty", NULL);
}

static bool set_control(struct pager_request *request, const char *word)
{
	request->control = word;
	return *word || refuse("--control is empty", NULL);
}

static bool set_root(struct pager_request *request, const char *word)
{
	request->root = word;
	return *word || refuse("--root is empty", NULL);
}

/* --- all of them -------------------------------------------------------------------------------------------------------- */

enum { STATUS = 'A', JSON, NO_SECCOMP, HELP, VERSION, SETTERS };

static const struct {
	const char *name;
	bool (*set)(struct pager_request *request, const char *word);
} setters[] = {
	{ "socket", set_socket },       { "source", set_source },
	{ "root", set_root },           { "identity", set_identity },
	{ "allow-uid", set_allowed },   { "protocol", set_protocol },
	{ "threads", set_threads },     { "cpus", set_cpus },
	{ "around", set_around },       { "background", set_background },
	{ "deadline", set_deadline },   { "on-failure", set_on_failure },
	{ "finish", set_finish },       { "handshake", set_handshake },
	{ "max-vms", set_max_vms },     { "max-ranges", set_max_ranges },
	{ "max-bytes", set_max_bytes }, { "max-memories", set_max_memories },
	{ "control", set_control },     { "max-faults", set_max_faults },
	{ "mode", set_mode },           { "user", set_user },
};
#define SETTER_COUNT (sizeof(setters) / sizeof(setters[0]))

static const struct option flags[] = {
	{ "status", no_argument, NULL, STATUS },   { "json", no_argument, NULL, JSON },
	{ "help", no_argument, NULL, HELP },       { "no-seccomp", no_argument, NULL, NO_SECCOMP },
	{ "version", no_argument, NULL, VERSION },
};
#define FLAG_COUNT (sizeof(flags) / sizeof(flags[0]))

static bool print(int *status, int printed)
{
	*status = printed < 0 || fflush(stdout) ? PAGER_EXIT_NOT : PAGER_EXIT_DONE;
	if (*status)
		perror("gmem-pager: standard output");
	return false;
}

static bool set_flag(struct pager_request *request, int flag, int *status)
{
	switch (flag) {
	case STATUS:
		request->status = true;
		return true;
	case JSON:
		request->json = true;
		return true;
	case NO_SECCOMP:
		request->no_seccomp = true;
		return true;
	case HELP:
		return print(status, fputs(usage, stdout));
	case VERSION:
		return print(status, printf("gmem-pager %s, libgmem %s\n", GMEM_VERSION, gmem_version()));
	default:
		return refuse("an option is unknown or lacks its word", NULL);
	}
}

static bool uses_names(const struct pager_request *request)
{
	for (uint32_t i = 0; i < request->layer_count; i++)
		if (request->layers[i].path && pager_template_has_names(request->layers[i].path))
			return true;
	return false;
}

static bool fits_together(const struct pager_request *request)
{
	if (request->status)
		return request->socket || request->control || refuse("--status needs --socket or --control", NULL);
	if (request->json)
		return refuse("--json is for --status", NULL);
	if (!request->layer_count)
		return refuse("there is no --source", NULL);
	if (!request->socket && !getenv("LISTEN_FDS"))
		return refuse("there is no --socket", NULL);
	if (uses_names(request) && !request->root)
		return refuse("a --source with %i or %u needs --root", NULL);
	return true;
}

static void make_options(struct option options[SETTER_COUNT + FLAG_COUNT + 1])
{
	for (size_t i = 0; i < SETTER_COUNT; i++)
		options[i] = (struct option){ setters[i].name, required_argument, NULL, SETTERS + (int)i };
	memcpy(options + SETTER_COUNT, flags, sizeof(flags));
	options[SETTER_COUNT + FLAG_COUNT] = (struct option){ 0 };
}

bool pager_parse(int argc, char **argv, struct pager_request *request, int *status)
{
	struct option options[SETTER_COUNT + FLAG_COUNT + 1];
	int option;

	make_options(options);
	*request = (struct pager_request){ .mode = 0600, .max_bytes = MAX_BYTES };
	*status = PAGER_EXIT_USAGE;
	opterr = 0;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option < SETTERS ? !set_flag(request, option, status) : !setters[option - SETTERS].set(request, optarg))
			return false;
	}
	if (optind < argc)
		return refuse("this is no option:", argv[optind]);
	return fits_together(request);
}
