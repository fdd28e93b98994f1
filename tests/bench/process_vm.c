/* SPDX-License-Identifier: MIT */
#include "process.h"

#include <unistd.h>

#include "trap.h"

void handed_make(struct handed *vm, struct gmem_vm *of, size_t size, const struct pager_way *way)
{
	void *at;

	*vm = (struct handed){ .size = size };
	pager_memory(of, size, &vm->mem);
	must(gmem_map(vm->mem, 0, size, &at, NULL), "gmem_map()");
	vm->at = at;
	pager_watch(of, size, way, vm->mem, &vm->uffd);
	must(gmem_guard_create(vm->uffd, &vm->guard, NULL), "gmem_guard_create()");
}

void handed_over(struct handed *vm, const struct pager_process *process, enum gmem_protocol protocol)
{
	const struct gmem_channel_open_opts opts = { .size = sizeof(opts), .protocol = protocol };
	int r, fd = process_connect(process);

	r = gmem_channel_open(fd, &vm->channel, &opts);
	close(fd);
	must(r, "gmem_channel_open()");
	must(gmem_guard_attach(vm->guard, vm->channel), "gmem_guard_attach()");
}

void handed_end(struct handed *vm)
{
	gmem_guard_destroy(vm->guard);
	gmem_channel_close(vm->channel);
	gmem_uffd_destroy(vm->uffd);
	if (vm->mem)
		gmem_destroy(vm->mem);
	*vm = (struct handed){ 0 };
}
