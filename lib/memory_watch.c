/* SPDX-License-Identifier: MIT */
/* What memory knows of the endpoint that watches it. */
#include "memory.h"

#include "err.h"
#include "sys.h"

int gmemi_watch_begin(struct gmem *mem, struct gmemi_watch *watch)
{
	bool taken;

	gmemi_lock(&mem->lock);
	taken = mem->watch != NULL;
	if (!taken)
		mem->watch = watch;
	gmemi_unlock(&mem->lock);
	return taken ? gmemi_refuse(-EBUSY, "another endpoint watches this memory") : 0;
}

void gmemi_watch_end(struct gmem *mem)
{
	uint32_t calls;

	gmemi_lock(&mem->lock);
	mem->watch = NULL;
	gmemi_unlock(&mem->lock);
	while ((calls = atomic_load(&mem->watch_calls)))
		(void)gmemi_sys_wait(&mem->watch_calls, calls, UINT64_MAX);
}

/* The watch, which does not end before it is left; NULL = there is none. */
static struct gmemi_watch *enter(struct gmem *mem)
{
	struct gmemi_watch *watch;

	gmemi_lock(&mem->lock);
	watch = mem->watch;
	if (watch)
		atomic_fetch_add(&mem->watch_calls, 1);
	gmemi_unlock(&mem->lock);
	return watch;
}

static void leave(struct gmem *mem)
{
	gmemi_lock(&mem->lock);
	if (atomic_fetch_sub(&mem->watch_calls, 1) == 1 && !mem->watch)
		gmemi_sys_wake(&mem->watch_calls);
	gmemi_unlock(&mem->lock);
}

void gmemi_watch_settle(struct gmem *mem)
{
	struct gmemi_watch *watch = enter(mem);

	if (!watch)
		return;
	watch->settle(watch);
	leave(mem);
}

void gmemi_watch_tell_filled(struct gmem *mem, uint64_t offset, uint64_t length)
{
	struct gmemi_watch *watch = enter(mem);

	if (!watch)
		return;
	watch->filled(watch, offset, length);
	leave(mem);
}
