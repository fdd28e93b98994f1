/* SPDX-License-Identifier: MIT */
/* Compares lib/uapi with the kernel's headers on the include path. compare: fails on a difference; what the headers are too old for is a
 * skip with its names, or (compare --all) a failure. */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/kvm.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "uapi/kvm.h"
#include "uapi/mman.h"
#include "uapi/userfaultfd.h"

static unsigned int compared, different, proposed, too_new;
static char names[4096];

static void same(const char *name, uint64_t ours, uint64_t theirs)
{
	compared++;
	if (ours == theirs)
		return;
	different++;
	printf("%s is 0x%llx here, 0x%llx in the header\n", name, (unsigned long long)ours, (unsigned long long)theirs);
}

/* Not called where the headers know everything. */
__attribute__((unused)) static void unknown(const char *name)
{
	size_t used = strlen(names);

	too_new++;
	snprintf(names + used, sizeof(names) - used, " %s", name);
}

static void compare(void)
{
#include "uapi_compare.inc"
}

int main(int argc, char **argv)
{
	int all = argc > 1 && strcmp(argv[1], "--all") == 0;

	(void)argv;
	compare();
	printf("# PLAN 2\n# RUN definitions are the kernel's\n# %s definitions are the kernel's\n",
	       different || compared < 20 ? "FAIL" : "PASS");
	printf("# RUN the headers know every definition\n");
	if (!too_new)
		printf("# PASS the headers know every definition\n");
	else if (all)
		printf("missing:%s\n# FAIL the headers know every definition\n", names);
	else
		printf("# SKIP the headers know every definition: the kernel headers here are too old for %u of %u:%s\n", too_new,
		       too_new + compared, names);
	printf("%u compared, %u in no release\n", compared, proposed);
	return different || compared < 20 || (all && too_new);
}
