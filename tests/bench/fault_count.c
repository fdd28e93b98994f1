/* SPDX-License-Identifier: MIT */
/* What counting costs: the statistics of a fault, beside a fault that the pager serves. */
#include "fault.h"

#include <time.h>

#include "../../lib/fault.h"
#include "../../lib/sys.h"
#include "trap.h"
#include "world.h"

#define TURNS 5
#define COUNTED 100000

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* A page that was missing and got content: what is counted when it is read, when it is made, and when its request ends, and both
 * looks at the clock. */
static void count_one(struct gmem_uffd *uffd)
{
	struct gmemi_fault_counters *c = &uffd->counters;
	uint64_t since = gmemi_sys_now();

	gmemi_count(&c->missing, 1);
	gmemi_count(&c->pending, 1);
	gmemi_count(&c->filled, 1);
	gmemi_count(&c->bytes, FAULT_PAGE);
	atomic_fetch_sub_explicit(&c->pending, 1, memory_order_relaxed);
	gmemi_uffd_count_latency(uffd, gmemi_sys_now() - since + 8192);
}

static double time_counting(void)
{
	static struct gmem_uffd uffd;
	double began = seconds();

	for (int i = 0; i < COUNTED; i++)
		count_one(&uffd);
	return (seconds() - began) / COUNTED;
}

static double time_fault(struct world *world, size_t pages)
{
	static const struct fault_setup setup = { .server = &fault_by_pager, .way = &pager_auto };
	double took;

	fault_before(world, &setup);
	fault_settle(world);
	took = seconds();
	fault_touch(world);
	took = seconds() - took;
	fault_after(world);
	return took / (double)pages;
}

double fault_share_of_statistics(struct world *world, size_t size)
{
	double counting = 1, fault = 1;

	for (int i = 0; i < TURNS; i++) {
		double once = time_counting(), served = time_fault(world, size / FAULT_PAGE);

		counting = once < counting ? once : counting;
		fault = served < fault ? served : fault;
	}
	return counting / fault * 100;
}
