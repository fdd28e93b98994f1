/* SPDX-License-Identifier: MIT */
/*
 * A pager in 60 lines: guest memory whose content is a file, brought in where it is touched.
 *
 *	cc pager.c $(pkg-config --cflags --libs libgmem) -o pager
 *	./pager FILE
 *
 * Prints a checksum of the memory, how many faults reading it has taken and how long one took, and fills what nobody has
 * touched. Exits 0. Needs a kernel with userfaultfd for shared memory (5.14); no VM and no privilege, since the one who faults
 * here is the main thread. With a VM: gmem_bind() the memory before it is registered, and let vCPUs run where this one reads.
 */
#define _GNU_SOURCE 1
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <gmem.h>

#define UNIT (UINT64_C(64) << 10) /* a multiple of it is a good length */

/* A negative result is a failure; the sentence says which call it was, what failed, and what to check. */
static void check_gmem(int result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s\n", gmem_last_error());
	exit(1);
}

/* The file, and zeros behind its end. */
static struct gmem_source *open_source(FILE *file)
{
	const struct gmem_extent whole = { .fd = fileno(file) };
	struct gmem_source *layers[2], *source;

	check_gmem(gmem_source_create_file(&whole, 1, &layers[0]));
	check_gmem(gmem_source_create_zero(&layers[1]));
	check_gmem(gmem_source_create_overlay(layers, 2, &source)); /* with claims of its own on the layers */
	gmem_source_destroy(layers[0]);
	gmem_source_destroy(layers[1]);
	return source;
}

int main(int argc, char **argv)
{
	const struct gmem_create_opts lazy = { .size = sizeof(lazy), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct gmem_uffd_info info = { .size = sizeof(info) };
	FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
	uint64_t length, sum = 0;
	struct gmem_vm *vm;
	struct gmem *ram;
	struct gmem_uffd *uffd;
	struct gmem_source *source;
	struct gmem_pager *pager;
	void *address;

	if (!file || fseek(file, 0, SEEK_END)) {
		fprintf(stderr, "usage: %s FILE\n", argv[0]);
		return 2;
	}
	length = ((uint64_t)ftell(file) + UNIT - 1) / UNIT * UNIT;
	source = open_source(file);
	check_gmem(gmem_vm_open(-1, &vm, NULL));
	check_gmem(gmem_create(vm, length, &ram, &lazy));
	check_gmem(gmem_map(ram, 0, length, &address, NULL));
	check_gmem(gmem_uffd_create(vm, &uffd, NULL));
	check_gmem(gmem_uffd_register(uffd, ram, 0, length, NULL));
	check_gmem(gmem_pager_create(&pager, NULL));
	check_gmem(gmem_pager_add(pager, uffd, source, NULL));
	check_gmem(gmem_pager_start(pager));

	for (const uint64_t *word = address; word < (uint64_t *)address + length / 2 / sizeof(*word); word++)
		sum = (sum << 5 | sum >> 59) ^ *word;
	check_gmem(gmem_uffd_query(uffd, &info));
	printf("checksum of the first half 0x%016" PRIx64 ", %" PRIu64 " faults, p50 %.1f us, p99 %.1f us\n", sum, info.faults,
	       (double)info.p50 / 1e3, (double)info.p99 / 1e3);
	printf("%" PRIu64 " bytes filled, %" PRIu64 " still to come\n", info.bytes, info.remaining);
	check_gmem(gmem_pager_finish(pager, uffd, GMEM_FOREVER)); /* from here on it is memory like any other */
	check_gmem(gmem_uffd_query(uffd, &info));
	printf("finished: %" PRIu64 " bytes filled, %" PRIu64 " still to come\n", info.bytes, info.remaining);

	gmem_pager_destroy(pager);
	gmem_uffd_destroy(uffd);
	gmem_destroy(ram);
	gmem_source_destroy(source);
	gmem_vm_close(vm);
	return fclose(file) || fflush(stdout) ? 1 : 0;
}
