/* SPDX-License-Identifier: MIT */
/*
 * Puts a file into guest memory: with threads, with progress, and going on where a call stopped.
 *
 *	cc populate-from-file.c $(pkg-config --cflags --libs libgmem) -o populate-from-file
 *	./populate-from-file FILE [THREADS]
 *
 * FILE may be a pipe too, of which 1 GiB is taken: zcat image.gz | ./populate-from-file /dev/stdin. THREADS are those besides
 * the main one.
 *
 * Prints how much went in, by which mechanism, and what was left out since it is zero; on a terminal the progress too. Exits
 * 0. Needs nothing: without /dev/kvm it makes memory that no VM is needed for, and says so.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmem.h>

#define UNIT (UINT64_C(64) << 10)        /* a multiple of it is a good length without huge pages */
#define OF_A_PIPE (UINT64_C(1024) << 20) /* room for what does not say how long it is; untouched memory costs nothing */

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* A negative result is a failure; the sentence says which call it was, what failed, and what to check. */
static void check_gmem(int result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s\n", gmem_last_error());
	exit(1);
}

/* The fd of a new VM, or -1: then the library makes memory without one. */
static int make_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0)
		printf("No VM (/dev/kvm: %s): making memory without one.\n", strerror(errno));
	if (kvm >= 0)
		close(kvm);
	return vm;
}

static uint64_t length_for(int fd)
{
	struct stat st;

	check(fstat(fd, &st) == 0, "fstat");
	return S_ISREG(st.st_mode) ? ((uint64_t)st.st_size / UNIT + 1) * UNIT : OF_A_PIPE;
}

/* Called between steps, in this thread. Anything but 0 would end the call with -ECANCELED. */
static int tell(void *user, uint64_t done, uint64_t length)
{
	const uint64_t *before = user;

	fprintf(stderr, "\r%" PRIu64 " MiB of at most %" PRIu64 " ", (*before + done) >> 20, (*before + length) >> 20);
	return 0;
}

/* Returns how many bytes went in. `done` is exact however a call ends, and all before it is in, so the next one goes on there.
 * -EINTR: a signal came while it waited for a pipe. -ENODATA: the file ended before the memory, which here is the good end. */
static uint64_t populate(struct gmem *ram, uint64_t length, int fd, uint32_t threads)
{
	uint64_t at = 0, done;
	const struct gmem_populate_opts opts = {
		.size = sizeof(opts),
		.threads = threads,
		.progress = isatty(STDERR_FILENO) ? tell : NULL,
		.user = &at,
	};
	int r;

	do {
		r = gmem_populate_fd(ram, at, length - at, fd, at, &done, &opts);
		at += done;
	} while (r == -EINTR && at < length);
	if (opts.progress)
		fputc('\n', stderr);
	if (r != -ENODATA)
		check_gmem(r);
	return at;
}

static uint32_t number(const char *word)
{
	char *end;
	unsigned long value = strtoul(word, &end, 10);

	if (end != word && !*end && value <= UINT32_MAX)
		return (uint32_t)value; /* too many threads are refused by the library */
	fprintf(stderr, "%s is no number of threads\n", word);
	exit(2);
}

static void print_result(const struct gmem *ram, uint64_t bytes)
{
	struct gmem_info info = { .size = sizeof(info) };

	check_gmem(gmem_query(ram, &info));
	printf("%" PRIu64 " bytes in %s by %s: %" PRIu64 " populated, %" PRIu64 " skipped as zero\n", bytes,
	       gmem_backing_name((enum gmem_backing)info.backing),
	       gmem_mechanism_name((enum gmem_mechanism)info.populate_mechanism), info.populated, info.skipped);
}

int main(int argc, char **argv)
{
	uint32_t threads = argc > 2 ? number(argv[2]) : 0;
	int fd, vm_fd;
	uint64_t length;
	struct gmem_vm *vm;
	struct gmem *ram;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: %s FILE [THREADS]\n", argv[0]);
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	check(fd >= 0, argv[1]);
	length = length_for(fd);

	vm_fd = make_vm();
	check_gmem(gmem_vm_open(vm_fd, &vm, NULL));
	if (vm_fd >= 0)
		close(vm_fd); /* the library has a duplicate */
	check_gmem(gmem_create(vm, length, &ram, NULL));
	print_result(ram, populate(ram, length, fd, threads));

	gmem_destroy(ram);
	gmem_vm_close(vm);
	close(fd);
	return fflush(stdout) ? 1 : 0;
}
