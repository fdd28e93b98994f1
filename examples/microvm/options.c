/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gmem.h>

#include "options.h"
#include "say.h"

#define GO_ON (-1)
#define EXIT_USAGE 2
#define THREADS_MAX 64 /* as the library has it */
#define AROUND_MAX (UINT64_C(2) << 20)
#define DEADLINE_MAX 3600 /* seconds */

static const char help[] =
	"Usage: microvm [options] IMAGE\n"
	"Puts the file IMAGE into guest memory made by libgmem, lets a vCPU compute a checksum over it, and compares that\n"
	"with the checksum of the file. Where KVM cannot be used, a host thread reads the memory instead.\n"
	"\n"
	"  --backing auto|guest_memfd|memfd|hugetlb\n"
	"                 what the memory is made of (default: auto); hugetlb: reserved huge pages of 2 MiB\n"
	"  --threads N    populate and prefault with N threads besides the main one (default: 0); with --lazy: N threads\n"
	"                 of the pager, of which there is one at least\n"
	"  --no-prefault  do not allocate and map all of the memory before it is read\n"
	"  --no-kvm       do not use KVM\n"
	"  --flip OFFSET  flip one bit of the 64-bit word at OFFSET of guest memory before it is read\n"
	"  --json         print the report as one JSON object; everything else goes to stderr\n"
	"  --lazy         restore on demand: run the guest at once, and bring in each page when it is touched\n"
	"  --help         print this\n"
	"  --version      print the version\n"
	"\n"
	"With --lazy:\n"
	"  --around adaptive|none|SIZE\n"
	"                 how much comes in with a page: SIZE is a power of two up to 2m, such as 64k (default: adaptive)\n"
	"  --background RATE|max\n"
	"                 meanwhile bring in the rest, at RATE bytes a second, such as 100m, or as fast as it goes, and stop\n"
	"                 paging when all is in (default: what nobody touches stays out)\n"
	"  --deadline S   how long content is tried to be had, in seconds (default: 10)\n"
	"  --lose OFFSET  act as if the image had lost what is behind OFFSET: touching it is an error\n"
	"\n"
	"Exit status: 0 the checksum is right; 1 it is wrong, or something failed; 2 bad options.\n";

static const struct option long_options[] = {
	{ "backing", required_argument, NULL, 'b' },
	{ "threads", required_argument, NULL, 't' },
	{ "no-prefault", no_argument, NULL, 'p' },
	{ "no-kvm", no_argument, NULL, 'n' },
	{ "flip", required_argument, NULL, 'f' },
	{ "json", no_argument, NULL, 'j' },
	{ "lazy", no_argument, NULL, 'l' },
	{ "around", required_argument, NULL, 'a' },
	{ "background", required_argument, NULL, 'g' },
	{ "deadline", required_argument, NULL, 'd' },
	{ "lose", required_argument, NULL, 'o' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'v' },
	{ NULL, 0, NULL, 0 },
};

static const char *const backings[] = {
	[GMEM_BACKING_AUTO] = "auto",
	[GMEM_BACKING_GUEST_MEMFD] = "guest_memfd",
	[GMEM_BACKING_MEMFD] = "memfd",
	[GMEM_BACKING_HUGETLB] = "hugetlb",
};

static int bad_usage(void)
{
	fputs("Try 'microvm --help'.\n", stderr);
	return EXIT_USAGE;
}

static int parse_backing(struct options *options, const char *text)
{
	for (uint32_t i = GMEM_BACKING_AUTO; i <= GMEM_BACKING_HUGETLB; i++) {
		if (!strcmp(text, backings[i])) {
			options->backing = i;
			return GO_ON;
		}
	}
	fail("--backing %s: must be auto, guest_memfd, memfd or hugetlb", text);
	return bad_usage();
}

/* strtoull() takes "-1" and leading blanks too; nothing here has either. */
static bool parse_number(const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	return text[0] >= '0' && text[0] <= '9' && !*end && !errno;
}

static int parse_offset(const char *option, const char *text, bool *given, uint64_t *offset)
{
	if (!parse_number(text, offset)) {
		fail("--%s %s: must be an offset in bytes, such as 4096 or 0x1000", option, text);
		return bad_usage();
	}
	*given = true;
	return GO_ON;
}

/* A number of bytes, with k, m or g behind it or not. */
static bool parse_size(const char *text, uint64_t *value)
{
	static const char units[] = "kmg";
	size_t length = strlen(text);
	const char *unit = length ? strchr(units, text[length - 1]) : NULL;
	unsigned int shift = unit && *unit ? 10 * (unsigned int)(unit - units + 1) : 0;
	char number[24];

	if (!shift)
		return parse_number(text, value);
	if (length > sizeof(number))
		return false;
	memcpy(number, text, length - 1);
	number[length - 1] = '\0';
	if (!parse_number(number, value) || *value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	return true;
}

static int parse_around(struct options *options, const char *text)
{
	uint64_t size;

	if (!strcmp(text, "adaptive")) {
		options->around_mode = GMEM_AROUND_ADAPTIVE;
	} else if (!strcmp(text, "none")) {
		options->around_mode = GMEM_AROUND_NONE;
	} else if (parse_size(text, &size) && size && !(size & (size - 1)) && size <= AROUND_MAX) {
		options->around_mode = GMEM_AROUND_FIXED;
		options->around = size;
		return GO_ON;
	} else {
		fail("--around %s: must be adaptive, none, or a power of two up to 2m, such as 64k", text);
		return bad_usage();
	}
	options->around = 0;
	return GO_ON;
}

static int parse_background(struct options *options, const char *text)
{
	if (!strcmp(text, "max")) {
		options->background = UINT64_MAX;
	} else if (!parse_size(text, &options->background) || !options->background) {
		fail("--background %s: must be max or bytes a second, such as 100m", text);
		return bad_usage();
	}
	return GO_ON;
}

static int parse_deadline(struct options *options, const char *text)
{
	uint64_t seconds;

	if (!parse_number(text, &seconds) || !seconds || seconds > DEADLINE_MAX) {
		fail("--deadline %s: must be a number of seconds from 1 to %d", text, DEADLINE_MAX);
		return bad_usage();
	}
	options->deadline_ns = seconds * 1000000000;
	return GO_ON;
}

static int parse_threads(struct options *options, const char *text)
{
	uint64_t value;

	if (!parse_number(text, &value) || value > THREADS_MAX) {
		fail("--threads %s: must be a number from 0 to %d", text, THREADS_MAX);
		return bad_usage();
	}
	options->threads = (uint32_t)value;
	return GO_ON;
}

static int print_version(void)
{
	printf("microvm of libgmem %s, running with libgmem %s\n", GMEM_VERSION, gmem_version());
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int print_help(void)
{
	return fputs(help, stdout) < 0 || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int parse_of_lazy(struct options *options, int option)
{
	switch (option) {
	case 'a':
		return parse_around(options, optarg);
	case 'g':
		return parse_background(options, optarg);
	case 'd':
		return parse_deadline(options, optarg);
	case 'o':
		return parse_offset("lose", optarg, &options->lose, &options->lose_offset);
	default:
		return bad_usage(); /* getopt_long() has said what is wrong */
	}
}

static int parse_one(struct options *options, int option)
{
	switch (option) {
	case 'b':
		return parse_backing(options, optarg);
	case 't':
		return parse_threads(options, optarg);
	case 'p':
		options->no_prefault = true;
		return GO_ON;
	case 'n':
		options->no_kvm = true;
		return GO_ON;
	case 'f':
		return parse_offset("flip", optarg, &options->flip, &options->flip_offset);
	case 'j':
		options->json = true;
		return GO_ON;
	case 'l':
		options->lazy = true;
		return GO_ON;
	case 'h':
		return print_help();
	case 'v':
		return print_version();
	default:
		return parse_of_lazy(options, option);
	}
}

static int check_together(const struct options *options)
{
	bool paging = options->lose || options->around_mode || options->background || options->deadline_ns;

	if (!paging || options->lazy)
		return GO_ON;
	fail("--around, --background, --deadline and --lose go with --lazy");
	return bad_usage();
}

int options_parse(struct options *options, int argc, char **argv)
{
	int option, status;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		status = parse_one(options, option);
		if (status != GO_ON)
			return status;
	}
	if (argc - optind != 1) {
		fail(argc == optind ? "no image given" : "more than one image given");
		return bad_usage();
	}
	options->image = argv[optind];
	return check_together(options);
}
