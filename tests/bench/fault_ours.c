/* SPDX-License-Identifier: MIT */
/* The library as a server of faults. */
#include "fault.h"

#include <stdlib.h>

#include "machine.h"
#include "trap.h"
#include "world.h"

#include <gmem/fault.h>
#include <gmem/pager.h>
#include <gmem/source.h>

struct pager_way {
	enum gmem_strategy strategy;
	size_t range; /* bytes of a registration, 0 = one for all of it */
};

/* What one VM needs. */
struct served {
	struct gmem *mem;
	struct gmem_uffd *uffd;
	struct gmem_source *source;
};

struct ours {
	struct fault_run *run;
	struct gmem_pager *pager;
	struct served served;
};

const struct pager_way pager_auto = { GMEM_STRATEGY_AUTO, 0 }, pager_fill = { GMEM_STRATEGY_FILL, 0 };
const struct pager_way pager_copy = { GMEM_STRATEGY_COPY, 0 }, pager_ranges = { GMEM_STRATEGY_AUTO, FAULT_PAGE };

/* Zeros, so that whoever waits goes on and sees that this is not the content. */
static int told(void *user, const struct gmem_pager_event *event)
{
	struct ours *ours = user;

	if (event->kind != GMEM_PAGER_SOURCE_FAILED)
		return 0;
	fault_failed(ours->run, "the pager's source", -event->error);
	gmem_uffd_resolve(event->uffd, event->mem, event->offset, event->length, GMEM_RESOLVE_ZERO, NULL, NULL);
	return GMEM_FAILURE_WAIT;
}

void pager_memory(struct gmem_vm *vm, size_t size, struct gmem **mem)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY,
					 .backing = GMEM_BACKING_MEMFD };

	must(gmem_create(vm, size, mem, &opts), "gmem_create()");
}

void pager_watch(struct gmem_vm *vm, size_t size, const struct pager_way *way, struct gmem *mem, struct gmem_uffd **uffd)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .strategy = way->strategy };
	size_t range = way->range ? way->range : size;

	must(gmem_uffd_create(vm, uffd, NULL), "gmem_uffd_create()");
	for (size_t at = 0; at < size; at += range)
		must(gmem_uffd_register(*uffd, mem, at, range, &opts), "gmem_uffd_register()");
}

static void make_source(int fd, size_t size, struct served *served)
{
	struct gmem_extent extent = { .offset = 0, .length = size, .file_offset = 0, .fd = fd };

	must(gmem_source_create_file(&extent, 1, &served->source), "gmem_source_create_file()");
}

/* Without a word about cores where the scheduler, or the pager, shall choose. */
static void make_pager(struct ours *ours)
{
	const struct fault_setup *setup = ours->run->setup;
	uint64_t words[CPU_SETSIZE / 64] = { 0 };
	struct gmem_pager_create_opts opts = { .size = sizeof(opts), .event = told, .user = ours,
					       .threads = setup->handlers };
	cpu_set_t cores;

	if (setup->place != PLACE_FREE) {
		fault_where(ours->run, 0, &cores);
		for (size_t core = 0; core < CPU_SETSIZE; core++)
			if (CPU_ISSET(core, &cores))
				words[core / 64] |= UINT64_C(1) << core % 64;
		opts.cpus = words;
		opts.cpu_words = CPU_SETSIZE / 64;
	}
	if (setup->around == 0) {
		opts.around_mode = GMEM_AROUND_NONE;
	} else if (setup->around != FAULT_ADAPTIVE) {
		opts.around_mode = GMEM_AROUND_FIXED;
		opts.around = setup->around;
	}
	must(gmem_pager_create(&ours->pager, &opts), "gmem_pager_create()");
}

static void begin(struct fault_run *run)
{
	struct ours *ours = run->state = calloc(1, sizeof(*ours));
	const struct pager_way *way = run->setup->way;
	struct served *served;
	void *at;

	if (!ours)
		give_up("out of memory");
	ours->run = run;
	served = &ours->served;
	pager_memory(run->vm, run->size, &served->mem);
	if (run->setup->ready)
		must(gmem_populate_fd(served->mem, 0, run->size, run->content->fd, 0, NULL, NULL), "gmem_populate_fd()");
	must(gmem_map(served->mem, 0, run->size, &at, NULL), "gmem_map()");
	run->at = at;
	pager_watch(run->vm, run->size, way, served->mem, &served->uffd);
	make_source(run->content->fd, run->size, served);
	make_pager(ours);
	must(gmem_pager_add(ours->pager, served->uffd, served->source, NULL), "gmem_pager_add()");
	must(gmem_pager_start(ours->pager), "gmem_pager_start()");
}

static void drop(struct served *served)
{
	gmem_uffd_destroy(served->uffd);
	gmem_source_destroy(served->source);
	if (served->mem)
		gmem_destroy(served->mem);
}

static void end(struct fault_run *run)
{
	struct ours *ours = run->state;

	gmem_pager_destroy(ours->pager);
	drop(&ours->served);
	free(ours);
}

double fault_bytes_of_endpoint(struct world *world, size_t watched, unsigned int n)
{
	struct served *served = calloc(n, sizeof(*served));
	struct machine_private before;
	struct gmem_pager *pager;
	double grown;

	if (!served)
		give_up("out of memory");
	must(gmem_pager_create(&pager, NULL), "gmem_pager_create()");
	must(gmem_pager_start(pager), "gmem_pager_start()");
	(void)machine_private();
	before = machine_private();
	for (unsigned int i = 0; i < n; i++) {
		pager_memory(world->vm, watched, &served[i].mem);
		pager_watch(world->vm, watched, &pager_fill, served[i].mem, &served[i].uffd);
		make_source(world->content.fd, world->content.size, &served[i]);
		must(gmem_pager_add(pager, served[i].uffd, served[i].source, NULL), "gmem_pager_add()");
	}
	grown = (double)machine_private_growth(&before);
	gmem_pager_destroy(pager);
	for (unsigned int i = 0; i < n; i++)
		drop(&served[i]);
	free(served);
	return grown / n;
}

const struct fault_server fault_by_pager = { begin, end, NULL };
