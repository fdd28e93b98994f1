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

static const char help[] =
	"Usage: microvm [options] IMAGE\n"
	"Puts the file IMAGE into guest memory made by libgmem, lets a vCPU compute a checksum over it, and compares that\n"
	"with the checksum of the file. Where KVM cannot be used, a host thread reads the memory instead.\n"
	"\n"
	"  --backing auto|guest_memfd|memfd  what the memory is made of (default: auto)\n"
	"  --no-kvm       do not use KVM\n"
	"  --flip OFFSET  after populating, flip one bit of the 64-bit word at OFFSET of guest memory\n"
	"  --json         print the report as one JSON object; everything else goes to stderr\n"
	"  --help         print this\n"
	"  --version      print the version\n"
	"\n"
	"Exit status: 0 the checksum is right; 1 it is wrong, or something failed; 2 bad options.\n";

static const struct option long_options[] = {
	{ "backing", required_argument, NULL, 'b' },
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
	for (uint32_t i = GMEM_BACKING_AUTO; i <= GMEM_BACKING_MEMFD; i++) {
		if (!strcmp(text, backings[i])) {
			options->backing = i;
			return GO_ON;
		}
	}
	fail("--backing %s: must be auto, guest_memfd or memfd", text);
	return bad_usage();
}

static int parse_flip(struct options *options, const char *text)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 0);
	/* strtoull() takes "-1" and leading blanks; an offset has neither. */
	if (text[0] < '0' || text[0] > '9' || *end || errno) {
		fail("--flip %s: must be an offset in bytes, such as 4096 or 0x1000", text);
		return bad_usage();
	}
	options->flip = true;
	options->flip_offset = value;
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
