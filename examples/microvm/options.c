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

static const char help[] =
	"Usage: microvm [options] IMAGE\n"
	"Puts the file IMAGE into guest memory made by libgmem, lets a vCPU compute a checksum over it, and compares that\n"
	"with the checksum of the file. Where KVM cannot be used, a host thread reads the memory instead.\n"
	"\n"
	"  --backing auto|guest_memfd|memfd|hugetlb\n"
	"                 what the memory is made of (default: auto); hugetlb: reserved huge pages of 2 MiB\n"
	"  --threads N    populate and prefault with N threads besides the main one (default: 0)\n"
	"  --no-prefault  do not allocate and map all of the memory before it is read\n"
	"  --no-kvm       do not use KVM\n"
	"  --flip OFFSET  after populating, flip one bit of the 64-bit word at OFFSET of guest memory\n"
	"  --json         print the report as one JSON object; everything else goes to stderr\n"
	"  --help         print this\n"
	"  --version      print the version\n"
	"\n"
	"Exit status: 0 the checksum is right; 1 it is wrong, or something failed; 2 bad options.\n";

static const struct option long_options[] = {
	{ "backing", required_argument, NULL, 'b' },
	{ "threads", required_argument, NULL, 't' },
	{ "no-prefault", no_argument, NULL, 'p' },
	{ "no-kvm", no_argument, NULL, 'n' },
	{ "flip", required_argument, NULL, 'f' },
	{ "json", no_argument, NULL, 'j' },
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

static int parse_flip(struct options *options, const char *text)
{
	if (!parse_number(text, &options->flip_offset)) {
		fail("--flip %s: must be an offset in bytes, such as 4096 or 0x1000", text);
		return bad_usage();
	}
	options->flip = true;
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
		return parse_flip(options, optarg);
	case 'j':
		options->json = true;
		return GO_ON;
	case 'h':
		return print_help();
	case 'v':
		return print_version();
	default:
		return bad_usage(); /* getopt_long() has said what is wrong */
	}
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
	return GO_ON;
}
