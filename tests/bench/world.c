/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <sys/mman.h>
#include <unistd.h>

#include "fault.h"
#include "hand.h"
#include "machine.h"
#include "trap.h"

/* Beside the memory itself a run needs page tables and the file's index of its pages. */
#define BESIDES 64

void world_begin(struct world *world, const struct options *options)
{
	*world = (struct world){ .options = options, .size = options->size, .vm_fd = -1, .file = -1, .raw = -1 };
	content_begin(&world->content, PATTERN_DENSE, 0);
}

void world_end(struct world *world)
{
	fault_end(world);
	world_drop(world);
	if (world->raw_at)
		munmap(world->raw_at, world->size);
	if (world->raw >= 0)
		close(world->raw);
	content_end(&world->content);
	gmem_vcpu_close(world->vcpu);
	gmem_vm_close(world->vm);
	if (world->guest)
		guest_end(world->guest);
	if (world->vm_fd >= 0)
		close(world->vm_fd);
}

const char *world_with_vm(struct world *world)
{
	world->vm_fd = hand_vm();
	if (world->vm_fd < 0)
		return "no VM can be made here";
	must(gmem_vm_open(world->vm_fd, &world->vm, NULL), "gmem_vm_open()");
	return NULL;
}

const char *world_with_guest_memfd(struct world *world)
{
	const char *why = world_with_vm(world);

	if (why)
		return why;
	if (gmem_vm_probe(world->vm, GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED, NULL) != GMEM_PRESENT)
		return "this kernel has no guest_memfd that can be mapped and touched";
	return NULL;
}

const char *world_with_memfd(struct world *world)
{
	must(gmem_vm_open(-1, &world->vm, NULL), "gmem_vm_open()");
	return NULL;
}

void world_memory(struct world *world, enum gmem_backing backing)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = backing };

	must(gmem_create(world->vm, world->size, &world->mem, &opts), "gmem_create()");
}

void world_map(struct world *world)
{
	void *at;

	must(gmem_map(world->mem, 0, world->size, &at, NULL), "gmem_map()");
	world->at = at;
}

void world_memory_by_hand(struct world *world, enum gmem_backing backing)
{
	world->file = backing == GMEM_BACKING_MEMFD ? hand_memfd(world->size) : hand_guest_memfd(world->vm_fd, world->size);
	world->at = hand_map(world->file, world->size);
}

void world_guest_memfd(struct world *world)
{
	world_memory(world, GMEM_BACKING_GUEST_MEMFD);
}

void world_guest_memfd_mapped(struct world *world)
{
	world_guest_memfd(world);
	world_map(world);
}

void world_guest_memfd_by_hand(struct world *world)
{
	world_memory_by_hand(world, GMEM_BACKING_GUEST_MEMFD);
}

void world_memfd(struct world *world)
{
	world_memory(world, GMEM_BACKING_MEMFD);
}

void world_memfd_by_hand(struct world *world)
{
	world_memory_by_hand(world, GMEM_BACKING_MEMFD);
}

void world_drop(struct world *world)
{
	if (world->view)
		munmap(world->view, world->size);
	if (world->mem)
		gmem_destroy(world->mem);
	else if (world->at)
		munmap(world->at, world->size);
	if (world->file >= 0)
		close(world->file);
	world->view = world->at = NULL;
	world->mem = NULL;
	world->file = -1;
}

void world_check_and_drop(struct world *world)
{
	if (!world->at)
		world_map(world);
	if (!content_is(&world->content, world->at))
		give_up("the memory has not got the content that was put into it");
	world_drop(world);
}

void world_prime(struct world *world)
{
	machine_prime(world->size + world->size / BESIDES);
}

void world_settle(struct world *world)
{
	content_warm(&world->content);
	world_prime(world);
}

void world_forget_mapping(struct world *world)
{
	must_errno(madvise(world->at, world->size, MADV_DONTNEED), "madvise(MADV_DONTNEED)");
}
