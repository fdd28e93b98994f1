/* SPDX-License-Identifier: MIT */
/*
 * Memory on demand, by hand: a thread touches pages that are not there, and this one hears of each and makes it.
 *
 *	cc fault-by-hand.c $(pkg-config --cflags --libs libgmem) -o fault-by-hand
 *	./fault-by-hand
 *
 * Prints every event and what was done, then the counters. A page that is given up by madvise() is zeros afterwards: its old
 * content does not come back. Exits 0. Needs a kernel with userfaultfd for shared memory (5.14); no VM and no privilege, since
 * the one who faults here is a thread, not KVM. pager.c does the same with a source and threads of the library.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem.h>

#define LENGTH (UINT64_C(64) << 10)
#define EVENTS 8

/* What the touching thread is given, and what it has found. */
struct work {
	unsigned char *memory;
	uint64_t page_size;
	int ended; /* eventfd */
	int wrong; /* pages that were not what they should be */
};

static unsigned char content[LENGTH]; /* what the memory is to hold */

/* A negative result is a failure; the sentence says which call it was, what failed, and what to check. */
static int check_gmem(int result)
{
	if (result >= 0)
		return result;
	fprintf(stderr, "%s\n", gmem_last_error());
	exit(1);
}

/* Each first touch of a page waits in the kernel until the main thread has made it. madvise() waits too, for the event to be
 * read: a thread that reads events must never make that call. gmem_discard() does the same and waits for nobody. */
static void *touch(void *argument)
{
	struct work *work = argument;

	for (uint64_t at = 0; at < LENGTH / 2; at += work->page_size)
		work->wrong += memcmp(work->memory + at, content + at, work->page_size) != 0;
	if (madvise(work->memory, work->page_size, MADV_REMOVE))
		work->wrong++;
	for (uint64_t i = 0; i < work->page_size; i++)
		work->wrong += work->memory[i] != 0;
	if (write(work->ended, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
		work->wrong++;
	return NULL;
}

/* One page from the buffer. Had it been discarded, it would become zeros all the same: the page map goes first. -EAGAIN: the
 * address space is changing, which may be waiting for an event to be read; whoever waits for the page asks anew. */
static void bring(struct gmem_uffd *uffd, const struct gmem_fault *fault)
{
	int r = gmem_uffd_resolve(uffd, fault->mem, fault->offset, fault->length, GMEM_RESOLVE_DATA, content + fault->content, NULL);

	if (r == -EAGAIN)
		r = gmem_uffd_resolve(uffd, fault->mem, fault->offset, fault->length, GMEM_RESOLVE_WAKE, NULL, NULL);
	check_gmem(r);
}

/* A later library may add kinds: what is not known is left alone. */
static void handle(struct gmem_uffd *uffd, const struct gmem_fault *fault)
{
	switch (fault->kind) {
	case GMEM_FAULT_PAGE:
		printf("page at %3" PRIu64 " KiB: thread %" PRIu32 " waits to %s it\n", fault->offset / 1024, fault->thread,
		       fault->flags & GMEM_FAULT_WRITE ? "write" : "read");
		bring(uffd, fault);
		break;
	case GMEM_FAULT_REMOVED:
		printf("page at %3" PRIu64 " KiB: given up, %" PRIu64 " bytes\n", fault->offset / 1024, fault->length);
		break;
	}
}

/* Until the thread has ended. */
static void serve(struct gmem_uffd *uffd, int ended)
{
	struct pollfd fds[] = { { .fd = gmem_uffd_get_fd(uffd), .events = POLLIN }, { .fd = ended, .events = POLLIN } };
	struct gmem_fault faults[EVENTS];

	while (!fds[1].revents) {
		if (poll(fds, 2, -1) < 0)
			continue; /* a signal */
		for (int i = 0, count = check_gmem(gmem_uffd_read(uffd, faults, EVENTS)); i < count; i++)
			handle(uffd, &faults[i]);
	}
}

static void print_counters(const struct gmem_uffd *uffd)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };

	check_gmem(gmem_uffd_query(uffd, &info));
	printf("%" PRIu64 " faults: %" PRIu64 " pages filled with %" PRIu64 " bytes, %" PRIu64 " made zeros; %" PRIu64
	       " bytes given up, %" PRIu64 " still to come\n",
	       info.faults, info.filled, info.bytes, info.zeroed + info.present, info.removed, info.remaining);
}

int main(void)
{
	const struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct gmem_info info = { .size = sizeof(info) };
	struct work work = { .ended = eventfd(0, EFD_CLOEXEC) };
	struct gmem_vm *vm;
	struct gmem *ram;
	struct gmem_uffd *uffd;
	pthread_t thread;
	void *address;

	memset(content, 42, sizeof(content));
	check_gmem(gmem_vm_open(-1, &vm, NULL));
	check_gmem(gmem_create(vm, LENGTH, &ram, &opts));
	check_gmem(gmem_map(ram, 0, LENGTH, &address, NULL)); /* before it is watched: afterwards there are no new mappings */
	check_gmem(gmem_query(ram, &info));
	check_gmem(gmem_uffd_create(vm, &uffd, NULL));
	check_gmem(gmem_uffd_register(uffd, ram, 0, LENGTH, NULL));

	work.memory = address;
	work.page_size = info.page_size;
	if (work.ended < 0 || pthread_create(&thread, NULL, touch, &work)) {
		fputs("no eventfd, or no thread\n", stderr);
		return 1;
	}
	serve(uffd, work.ended);
	pthread_join(thread, NULL);
	print_counters(uffd);
	printf("The pages were %s\n", work.wrong ? "wrong" : "right, and zeros where they were given up");

	gmem_uffd_destroy(uffd); /* half of the memory is empty: it stays blocked, rather than read zeros, until it is gone too */
	gmem_destroy(ram);
	gmem_vm_close(vm);
	close(work.ended);
	return fflush(stdout) || work.wrong ? 1 : 0;
}
