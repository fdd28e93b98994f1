/* SPDX-License-Identifier: MIT */
/* Goals 9 to 12: what a page fault costs that the library serves, beside handlers written by hand. Everything is on one core: a
 * thread that wakes another core waits for that most of all (goal 14), and it would be all that is compared. */
#include "fault.h"
#include "trap.h"
#include "world.h"

#define MOST ((size_t)32 << 20)
#define MOST_SCATTERED ((size_t)256 << 20) /* 16 MiB of it are touched */
#define KIB(n) ((size_t)(n) << 10)

#define HAND(function, ...) FAULT_SETUP(function, .server = &fault_by_hand, __VA_ARGS__)
#define PAGER(function, ...) FAULT_SETUP(function, .server = &fault_by_pager, __VA_ARGS__)

static const char *open_all(struct world *world)
{
	return fault_open(world, MOST);
}

static const char *open_scattered(struct world *world)
{
	return fault_open(world, MOST_SCATTERED);
}

static double share_of_statistics(struct world *world, const char **why)
{
	(void)why;
	return fault_share_of_statistics(world, world->size);
}

enum { SIMPLE, FILL, COPY, PEER, PEER_FILE, OURS, OURS_FILL, OURS_COPY, OURS_RANGES };

HAND(loop_simple, .way = &hand_simple)
HAND(loop_fill, .way = &hand_fill)
HAND(loop_copy, .way = &hand_copy)
HAND(loop_peer, .way = &hand_firecracker)
HAND(loop_peer_file, .way = &hand_firecracker_file)
PAGER(loop_ours, .way = &pager_auto)
PAGER(loop_ours_fill, .way = &pager_fill)
PAGER(loop_ours_copy, .way = &pager_copy)
PAGER(loop_ours_ranges, .way = &pager_ranges)

static const struct measure_case loop_cases[] = {
	[SIMPLE] = FAULT_CASE("by hand: poll, read one, pread to an alias, UFFDIO_CONTINUE", loop_simple),
	[FILL] = FAULT_CASE("by hand: epoll, read many, pread, pwrite, UFFDIO_CONTINUE", loop_fill),
	[COPY] = FAULT_CASE("by hand: epoll, read many, pread, UFFDIO_COPY to a memfd", loop_copy),
	[PEER] = FAULT_CASE("Firecracker's example: poll, read one, UFFDIO_COPY, anonymous", loop_peer),
	[PEER_FILE] = FAULT_CASE("the same, a memfd", loop_peer_file),
	[OURS] = FAULT_CASE("pager, a page", loop_ours),
	[OURS_FILL] = FAULT_CASE("pager, a page, GMEM_STRATEGY_FILL", loop_ours_fill),
	[OURS_COPY] = FAULT_CASE("pager, a page, GMEM_STRATEGY_COPY", loop_ours_copy),
	[OURS_RANGES] = FAULT_CASE("pager, a page, registered page by page", loop_ours_ranges),
};

static const struct row loop_rows[] = {
	{ .goal = "9", .what = "pager 4K / the simplest correct loop", .of = CASE(OURS), .to = CASE(SIMPLE), .gate = 0.95,
	  .gate_cpu = 0.95 },
	{ .goal = "9", .what = "pager's way by hand / the simplest correct loop", .of = CASE(FILL), .to = CASE(SIMPLE),
	  .no_gate = true },
	{ .goal = "10", .what = "pager 4K, fill / the same by hand: p50", .by = MEASURE_P50, .of = CASE(OURS_FILL),
	  .to = CASE(FILL), .gate = 1.05, .gate_cpu = 1.05 },
	{ .goal = "10", .what = "pager 4K, UFFDIO_COPY / the same by hand: p50", .by = MEASURE_P50, .of = CASE(OURS_COPY),
	  .to = CASE(COPY), .no_gate = true },
	{ .goal = "ranges", .what = "pager 4K, a range for each of 8192 pages / one range: p50", .by = MEASURE_P50,
	  .of = CASE(OURS_RANGES), .to = CASE(OURS), .gate = 1.10 },
	{ .goal = "counting", .what = "statistics of a fault, of a fault that is served", .kind = ROW_VALUE,
	  .value = share_of_statistics, .unit = "%", .gate = 2 },
	{ .goal = "peer", .what = "pager 4K / Firecracker's example handler, anonymous memory", .of = CASE(OURS),
	  .to = CASE(PEER), .no_gate = true },
	{ .goal = "peer", .what = "pager 4K, UFFDIO_COPY / the same handler, a memfd", .of = CASE(OURS_COPY),
	  .to = CASE(PEER_FILE), .no_gate = true },
	{ .goal = "peer", .what = "pager's way by hand / Firecracker's example handler", .of = CASE(FILL), .to = CASE(PEER),
	  .no_gate = true },
	{ .goal = "peer", .what = "by hand, UFFDIO_COPY / Firecracker's example handler, a memfd", .of = CASE(COPY),
	  .to = CASE(PEER_FILE), .no_gate = true },
};

const struct group bench_fault_loop = {
	.open = open_all,
	.cases = loop_cases,
	.n_cases = COUNT(loop_cases),
	.settle = fault_settle,
	.tell = fault_tell,
	.rows = loop_rows,
	.n_rows = COUNT(loop_rows),
};

enum { ROUND_TRIP, READY, OURS_READY };

FAULT_SETUP(ready_round_trip, .server = &fault_by_eventfd)
HAND(ready_ready, .way = &hand_ready, .ready = true)
PAGER(ready_ours_ready, .way = &pager_fill, .ready = true)

static const struct measure_case ready_cases[] = {
	[ROUND_TRIP] = FAULT_CASE("an eventfd there and one back", ready_round_trip),
	[READY] = FAULT_CASE("content ready, by hand: UFFDIO_CONTINUE", ready_ready),
	[OURS_READY] = FAULT_CASE("content ready, pager", ready_ours_ready),
};

static const struct row ready_rows[] = {
	{ .goal = "11", .what = "pager, content ready / eventfd there and back: p50", .by = MEASURE_P50, .of = CASE(OURS_READY),
	  .to = CASE(ROUND_TRIP), .gate = 1.70 },
	{ .goal = "11", .what = "by hand, content ready / eventfd there and back: p50", .by = MEASURE_P50, .of = CASE(READY),
	  .to = CASE(ROUND_TRIP), .no_gate = true },
};

const struct group bench_fault_ready = {
	.open = open_all,
	.cases = ready_cases,
	.n_cases = COUNT(ready_cases),
	.settle = fault_settle,
	.tell = fault_tell,
	.rows = ready_rows,
	.n_rows = COUNT(ready_rows),
};

enum { PAGE, AROUND, OURS_PAGE, OURS_AROUND, OURS_ADAPTIVE };

HAND(around_page, .way = &hand_fill)
HAND(around_around, .way = &hand_fill, .around = KIB(64))
PAGER(around_ours_page, .way = &pager_auto)
PAGER(around_ours_around, .way = &pager_auto, .around = KIB(64))
PAGER(around_ours_adaptive, .way = &pager_auto, .around = FAULT_ADAPTIVE)

static const struct measure_case around_cases[] = {
	[PAGE] = FAULT_CASE("forward, by hand: a page", around_page),
	[AROUND] = FAULT_CASE("forward, by hand: 64 KiB", around_around),
	[OURS_PAGE] = FAULT_CASE("forward, pager: a page", around_ours_page),
	[OURS_AROUND] = FAULT_CASE("forward, pager: 64 KiB", around_ours_around),
	[OURS_ADAPTIVE] = FAULT_CASE("forward, pager: adaptive", around_ours_adaptive),
};

static const struct row around_rows[] = {
	{ .goal = "12", .what = "forward: pager 64K / pager 4K", .of = CASE(OURS_AROUND), .to = CASE(OURS_PAGE), .gate = 0.30,
	  .gate_cpu = 0.30 },
	{ .goal = "12", .what = "forward: pager, adaptive / pager 4K", .of = CASE(OURS_ADAPTIVE), .to = CASE(OURS_PAGE),
	  .no_gate = true },
	{ .goal = "12", .what = "forward: pager 64K / the same by hand", .of = CASE(OURS_AROUND), .to = CASE(AROUND),
	  .no_gate = true },
	{ .goal = "12", .what = "forward: by hand 64K / by hand 4K", .of = CASE(AROUND), .to = CASE(PAGE), .no_gate = true },
};

const struct group bench_fault_around = {
	.open = open_all,
	.cases = around_cases,
	.n_cases = COUNT(around_cases),
	.settle = fault_settle,
	.tell = fault_tell,
	.rows = around_rows,
	.n_rows = COUNT(around_rows),
};

#define RUNS .order = ORDER_RUNS

HAND(scattered_page, .way = &hand_fill, RUNS)
HAND(scattered_around, .way = &hand_fill, RUNS, .around = KIB(16))
PAGER(scattered_ours_page, .way = &pager_auto, RUNS)
PAGER(scattered_ours_around, .way = &pager_auto, RUNS, .around = KIB(16))
PAGER(scattered_ours_adaptive, .way = &pager_auto, RUNS, .around = FAULT_ADAPTIVE)

static const struct measure_case scattered_cases[] = {
	[PAGE] = FAULT_CASE("scattered, by hand: a page", scattered_page),
	[AROUND] = FAULT_CASE("scattered, by hand: 16 KiB", scattered_around),
	[OURS_PAGE] = FAULT_CASE("scattered, pager: a page", scattered_ours_page),
	[OURS_AROUND] = FAULT_CASE("scattered, pager: 16 KiB", scattered_ours_around),
	[OURS_ADAPTIVE] = FAULT_CASE("scattered, pager: adaptive", scattered_ours_adaptive),
};

static const struct row scattered_rows[] = {
	{ .goal = "12", .what = "scattered runs: pager 16K / pager 4K", .of = CASE(OURS_AROUND), .to = CASE(OURS_PAGE),
	  .gate = 0.85, .gate_cpu = 0.85 },
	{ .goal = "12", .what = "scattered runs: pager, adaptive / pager 4K", .of = CASE(OURS_ADAPTIVE), .to = CASE(OURS_PAGE),
	  .no_gate = true },
	{ .goal = "12", .what = "scattered runs: by hand 16K / by hand 4K", .of = CASE(AROUND), .to = CASE(PAGE),
	  .no_gate = true },
};

const struct group bench_fault_scattered = {
	.open = open_scattered,
	.cases = scattered_cases,
	.n_cases = COUNT(scattered_cases),
	.settle = fault_settle,
	.tell = fault_tell,
	.rows = scattered_rows,
	.n_rows = COUNT(scattered_rows),
};
