/* SPDX-License-Identifier: MIT */
/* The library keeps nothing that grows with the guest's memory, but two bits a page where a page map is asked for. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "machine.h"
#include "trap.h"
#include "world.h"

#define MIB ((double)(1 << 20))
#define SPARSE ((size_t)1 << 30)
#define SPARSE_STEP ((size_t)16 << 20) /* one block of content in each */
#define MOST_MIB 8.0
#define SMALL ((size_t)2 << 20)
#define ENDPOINTS 100

struct growth {
	struct machine_private before;
	size_t most;
};

static int sample(void *user, uint64_t done, uint64_t length)
{
	struct growth *growth = user;
	size_t now = machine_private_growth(&growth->before);

	(void)done, (void)length;
	if (now > growth->most)
		growth->most = now;
	return 0;
}

/* MiB, at the worst moment of populating world->size from a file. */
static double growth_while_populating(struct world *world, int fd)
{
	struct growth growth = { 0 };
	struct gmem_populate_opts opts = { .size = sizeof(opts), .progress = sample, .user = &growth };

	(void)machine_private(); /* whatever reading it needs itself is there before */
	growth.before = machine_private();
	world_guest_memfd(world);
	must(gmem_populate_fd(world->mem, 0, world->size, fd, 0, NULL, &opts), "gmem_populate_fd()");
	sample(&growth, 0, 0);
	world_drop(world);
	return (double)growth.most / MIB;
}

static double growth_dense(struct world *world, const char **why)
{
	*why = NULL;
	return growth_while_populating(world, world->content.fd);
}

static int sparse_file(void)
{
	static unsigned char block[CONTENT_BLOCK] = { 1 };
	int fd = memfd_create("bench-sparse", MFD_CLOEXEC);

	must_errno(fd, "memfd_create()");
	must_errno(ftruncate(fd, (off_t)SPARSE), "ftruncate()");
	for (size_t at = 0; at < SPARSE; at += SPARSE_STEP)
		must_errno(pwrite(fd, block, sizeof(block), (off_t)at), "pwrite()");
	return fd;
}

static double growth_sparse(struct world *world, const char **why)
{
	size_t size = world->size;
	double most;

	*why = NULL;
	world->raw = sparse_file();
	world->size = SPARSE;
	most = growth_while_populating(world, world->raw);
	world->size = size;
	return most;
}

/* Bits a page of the file that is the page map. */
static double page_map(struct world *world, const char **why)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_LAZY };
	struct gmem_info info = { .size = sizeof(info) };
	struct stat file;

	*why = gmem_create(world->vm, SPARSE, &world->mem, &opts) < 0 ? gmem_last_error() : NULL;
	if (*why)
		return 0;
	must(gmem_query(world->mem, &info), "gmem_query()");
	must_errno(fstat(gmem_get_fd(world->mem, GMEM_FD_PAGE_MAP), &file), "fstat() of the page map");
	world_drop(world);
	return (double)file.st_size * 8 / (double)(info.length / info.page_size);
}

static double endpoint(struct world *world, size_t watched, const char **why)
{
	return *why ? 0 : fault_bytes_of_endpoint(world, watched, ENDPOINTS) / (1 << 10);
}

static double small_endpoint(struct world *world, const char **why)
{
	return endpoint(world, SMALL, why);
}

static double large_endpoint(struct world *world, const char **why)
{
	return endpoint(world, SPARSE, why);
}

static const char *open_memory(struct world *world)
{
	const char *why = world_with_guest_memfd(world);

	if (why)
		return why;
	content_begin(&world->content, PATTERN_DENSE, world->size);
	content_make_file(&world->content);
	return NULL;
}

static const struct row rows[] = {
	{ .goal = "memory", .what = "private memory while populating dense memory", .kind = ROW_VALUE, .value = growth_dense,
	  .unit = "MiB", .gate = MOST_MIB },
	{ .goal = "memory", .what = "private memory while populating 1 GiB, sparse", .kind = ROW_VALUE, .value = growth_sparse,
	  .unit = "MiB", .gate = MOST_MIB },
	{ .goal = "memory", .what = "page map of lazy memory, a page", .kind = ROW_VALUE, .value = page_map, .unit = "bits",
	  .gate = 2 },
	{ .goal = "memory", .what = "private memory of a VM of 2 MiB that is served, of 100", .kind = ROW_VALUE,
	  .value = small_endpoint, .unit = "KiB", .no_gate = true },
	{ .goal = "memory", .what = "private memory of a VM of 1 GiB that is served, of 100", .kind = ROW_VALUE,
	  .value = large_endpoint, .unit = "KiB", .no_gate = true },
};

const struct group bench_memory = {
	.open = open_memory,
	.rows = rows,
	.n_rows = COUNT(rows),
};
