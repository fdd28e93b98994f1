/* SPDX-License-Identifier: MIT */
/* Memory that a pager in another process fills: how soon it begins, what a fault costs there, and with many VMs. Everything is
 * on one core, in both processes, as for the faults of one (group_fault.c). */
#include <sys/resource.h>

#include "fault.h"
#include "process.h"
#include "trap.h"
#include "world.h"

#define MOST ((size_t)32 << 20)
#define FILES 4096 /* more than the VMs take here, and less than most machines let a process have */
#define VMS 41     /* whose first page is waited for */
#define VMS_QUICK 3

#define HERE(function, ...) FAULT_SETUP(function, .server = &fault_by_pager, __VA_ARGS__)
#define THERE(function, ...) FAULT_SETUP(function, .server = &fault_by_process, __VA_ARGS__)

static const char *open_processes(struct world *world)
{
	struct rlimit files;

	must_errno(getrlimit(RLIMIT_NOFILE, &files), "getrlimit()");
	if (files.rlim_max < FILES)
		return "too few files can be open for so many VMs: see ulimit -H -n";
	if (files.rlim_cur < FILES) {
		files.rlim_cur = FILES;
		must_errno(setrlimit(RLIMIT_NOFILE, &files), "setrlimit()");
	}
	return processes_open(world, MOST);
}

/* In milliseconds. */
static double median_handshake(struct world *world, const struct process_way *way)
{
	unsigned int n = world->options->quick ? VMS_QUICK : VMS;
	double took[VMS];

	for (unsigned int i = 0; i < n; i++)
		took[i] = processes_handshake(world, way) * 1e3;
	return judge_median(took, n);
}

static double native_handshake(struct world *world, const char **why)
{
	(void)why;
	return median_handshake(world, &process_fill);
}

static double firecracker_handshake(struct world *world, const char **why)
{
	(void)why;
	return median_handshake(world, &process_copy);
}

static double kib_of_vm(struct world *world, const char **why)
{
	(void)why;
	return world->fault->processes->bytes / (1 << 10);
}

enum { HERE_AUTO, HERE_FILL, HERE_COPY, THERE_FILL, THERE_COPY, THERE_TEN, THERE_HUNDRED };

HERE(here_auto, .way = &pager_auto)
HERE(here_fill, .way = &pager_fill)
HERE(here_copy, .way = &pager_copy)
THERE(there_fill, .way = &process_fill)
THERE(there_copy, .way = &process_copy)
THERE(there_ten, .way = &process_ten)
THERE(there_hundred, .way = &process_hundred)

static const struct measure_case cases[] = {
	[HERE_AUTO] = FAULT_CASE("pager here", here_auto),
	[HERE_FILL] = FAULT_CASE("pager here, GMEM_STRATEGY_FILL", here_fill),
	[HERE_COPY] = FAULT_CASE("pager here, GMEM_STRATEGY_COPY", here_copy),
	[THERE_FILL] = FAULT_CASE("pager in another process", there_fill),
	[THERE_COPY] = FAULT_CASE("... Firecracker's protocol, GMEM_STRATEGY_COPY", there_copy),
	[THERE_TEN] = FAULT_CASE("... 9 VMs more, idle", there_ten),
	[THERE_HUNDRED] = FAULT_CASE("... 99 VMs more, idle", there_hundred),
};

static const struct row rows[] = {
	{ .goal = "process", .what = "connecting to first page, the library's protocol: median", .kind = ROW_VALUE,
	  .value = native_handshake, .unit = "ms", .gate = 1 },
	{ .goal = "process", .what = "connecting to first page, Firecracker's protocol: median", .kind = ROW_VALUE,
	  .value = firecracker_handshake, .unit = "ms", .gate = 1 },
	{ .goal = "process", .what = "pager in another process / here, fill: p50", .by = MEASURE_P50, .of = CASE(THERE_FILL),
	  .to = CASE(HERE_FILL), .no_gate = true },
	{ .goal = "process", .what = "pager in another process / here, UFFDIO_COPY: p50", .by = MEASURE_P50,
	  .of = CASE(THERE_COPY), .to = CASE(HERE_COPY), .no_gate = true },
	{ .goal = "process", .what = "pager in another process / here, each as it chooses: p50", .by = MEASURE_P50,
	  .of = CASE(THERE_FILL), .to = CASE(HERE_AUTO), .no_gate = true },
	{ .goal = "process", .what = "one of 10 VMs on a pager, the others idle / of 1: p50", .by = MEASURE_P50,
	  .of = CASE(THERE_TEN), .to = CASE(THERE_FILL), .gate = 1.10, .gate_cpu = 1.10 },
	{ .goal = "process", .what = "one of 100 VMs on a pager, the others idle / of 1: p50", .by = MEASURE_P50,
	  .of = CASE(THERE_HUNDRED), .to = CASE(THERE_FILL), .gate = 1.10, .gate_cpu = 1.10 },
	{ .goal = "process", .what = "private memory of a VM in the pager's process, of 99", .kind = ROW_VALUE,
	  .value = kib_of_vm, .unit = "KiB", .no_gate = true },
};

const struct group bench_process = {
	.open = open_processes,
	.cases = cases,
	.n_cases = COUNT(cases),
	.settle = processes_settle,
	.tell = processes_tell,
	.rows = rows,
	.n_rows = COUNT(rows),
};
