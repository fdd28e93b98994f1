/* SPDX-License-Identifier: MIT */
#include "machine.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "../../lib/uapi/mman.h"
#include "judge.h"
#include "trap.h"

/* A thread that computes, beside another one, may take that much longer: clock rates and shared parts of a core. */
#define BESIDE 1.25
#define SPINS 5
#define SPIN_STEPS 64000000u /* some 50 ms: within a few, a new thread may not have left the core it was made on */

static cpu_set_t allowed;
static int home;

void machine_pin(void)
{
	cpu_set_t one;

	must_errno(sched_getaffinity(0, sizeof(allowed), &allowed), "sched_getaffinity()");
	home = sched_getcpu();
	CPU_ZERO(&one);
	CPU_SET((size_t)home, &one);
	must_errno(sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity()");
}

void machine_unpin(void)
{
	must_errno(sched_setaffinity(0, sizeof(allowed), &allowed), "sched_setaffinity()");
}

unsigned int machine_cores(int cores[2])
{
	cores[0] = cores[1] = home;
	for (int core = 0; core < CPU_SETSIZE; core++)
		if (core != home && CPU_ISSET((size_t)core, &allowed)) {
			cores[1] = core;
			return 2;
		}
	return 1;
}

void machine_allowed(cpu_set_t *cores)
{
	*cores = allowed;
}

void machine_prime(size_t bytes)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		give_up("no memory to prime with");
	madvise(memory, bytes, MADV_NOHUGEPAGE); /* pages as the run will want them */
	if (madvise(memory, bytes, MMANI_MADV_POPULATE_WRITE) != 0)
		for (size_t i = 0; i < bytes; i += 4096)
			memory[i] = 1;
	munmap(memory, bytes);
}

/* Multiplications that wait for each other leave a core's shared parts to the neighbour: only its time is measured. */
static void *spin(void *unused)
{
	uint32_t value = 1;

	for (unsigned int steps = 0; steps < SPIN_STEPS; steps++) {
		value = value * 1664525u + 1013904223u;
		__asm__ volatile("" : "+r"(value));
	}
	return unused;
}

static double time_of_spinning(unsigned int others)
{
	double start = measure_real_clock.wall();
	pthread_t thread;

	if (others && pthread_create(&thread, NULL, spin, NULL) != 0)
		give_up("pthread_create() failed");
	spin(NULL);
	if (others)
		pthread_join(thread, NULL);
	return measure_real_clock.wall() - start;
}

const char *machine_no_second_core(void)
{
	double ratios[SPINS];

	if (CPU_COUNT(&allowed) < 2)
		return "there is no second core";
	for (int i = 0; i < SPINS; i++) {
		double alone = time_of_spinning(0);

		ratios[i] = time_of_spinning(1) / alone;
	}
	return judge_median(ratios, SPINS) > BESIDE ? "the second core is busy" : NULL;
}

static size_t private_pages(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[128];

	if (!status)
		give_up("/proc/self/status cannot be read");
	while (fgets(line, sizeof(line), status) && sscanf(line, "RssAnon: %lu", &kib) != 1)
		;
	fclose(status);
	return (size_t)kib << 10;
}

struct machine_private machine_private(void)
{
	struct mallinfo2 heap = mallinfo2();

	return (struct machine_private){ .pages = private_pages(), .heap = heap.uordblks + heap.hblkhd };
}

static size_t growth(size_t before, size_t now)
{
	return now > before ? now - before : 0;
}

size_t machine_private_growth(const struct machine_private *before)
{
	struct machine_private now = machine_private();
	size_t pages = growth(before->pages, now.pages), heap = growth(before->heap, now.heap);

	return pages > heap ? pages : heap;
}

double machine_load(void)
{
	double load = 0;

	return getloadavg(&load, 1) == 1 ? load : -1;
}
