/* SPDX-License-Identifier: MIT */
/* A pager in another process as a server of faults. */
#include "process.h"

#include <stdlib.h>

#include "trap.h"
#include "world.h"

#define IDLE ((size_t)2 << 20) /* bytes of a VM that does nothing */

const struct process_way process_fill = { &pager_fill, GMEM_PROTOCOL_NATIVE, PROCESS_ALONE };
const struct process_way process_copy = { &pager_copy, GMEM_PROTOCOL_FIRECRACKER, PROCESS_ALONE };
const struct process_way process_ten = { &pager_fill, GMEM_PROTOCOL_NATIVE, PROCESS_TEN };
const struct process_way process_hundred = { &pager_fill, GMEM_PROTOCOL_NATIVE, PROCESS_HUNDRED };

/* VMs of this process that the other one serves, beside the one that is measured. */
static const unsigned int idle[PROCESSES] = { [PROCESS_TEN] = 9, [PROCESS_HUNDRED] = 99 };

static void end_vm(struct processes *processes, const struct process_way *way)
{
	rescue_forget(&processes->rescue);
	if (way->protocol == GMEM_PROTOCOL_FIRECRACKER)
		process_let_go(&processes->pagers[way->role]);
	handed_end(&processes->fresh);
}

/* --- the server --------------------------------------------------------------------------------------------------------- */

static void begin(struct fault_run *run)
{
	struct processes *processes = run->processes;
	const struct process_way *way = run->setup->way;
	struct handed *vm = run->state = &processes->fresh;

	handed_make(vm, run->vm, run->size, way->pager);
	run->at = vm->at;
	rescue_expect(&processes->rescue, vm, run);
	handed_over(vm, &processes->pagers[way->role], way->protocol);
}

static void end(struct fault_run *run)
{
	end_vm(run->processes, run->setup->way);
}

const struct fault_server fault_by_process = { begin, end, NULL };

/* --- the group ---------------------------------------------------------------------------------------------------------- */

static void make_idle(struct world *world, struct processes *processes, enum process_role role)
{
	for (unsigned int i = 0; i < idle[role]; i++) {
		struct handed *vm = &processes->idle[processes->n_idle++];

		handed_make(vm, world->vm, IDLE, &pager_fill);
		handed_over(vm, &processes->pagers[role], GMEM_PROTOCOL_NATIVE);
	}
}

static void make_all(struct world *world, struct processes *processes)
{
	for (unsigned int i = 0; i < PROCESSES; i++)
		process_begin(&processes->pagers[i], &world->content);
	rescue_begin(&processes->rescue, processes->pagers);
	for (unsigned int i = 0; i < PROCESSES; i++)
		make_idle(world, processes, i);
	processes->bytes = process_growth(&processes->pagers[PROCESS_HUNDRED]) / idle[PROCESS_HUNDRED];
}

const char *processes_open(struct world *world, size_t most)
{
	const char *why = fault_open(world, most);
	struct processes *processes;
	unsigned int n = 0;

	if (why)
		return why;
	for (unsigned int i = 0; i < PROCESSES; i++)
		n += idle[i];
	processes = world->fault->processes = calloc(1, sizeof(*processes));
	if (!processes)
		give_up("out of memory");
	processes->idle = calloc(n, sizeof(*processes->idle));
	if (!processes->idle)
		give_up("out of memory");
	make_all(world, processes);
	return NULL;
}

void processes_end(struct processes *processes)
{
	if (!processes)
		return;
	if (processes->rescue.started)
		rescue_forget(&processes->rescue);
	rescue_end(&processes->rescue);
	handed_end(&processes->fresh);
	for (unsigned int i = 0; i < processes->n_idle; i++)
		handed_end(&processes->idle[i]);
	for (unsigned int i = 0; i < PROCESSES; i++)
		process_end(&processes->pagers[i]);
	free(processes->idle);
	free(processes);
}

static double cpu_of_all(const struct processes *processes)
{
	double seconds = 0;

	for (unsigned int i = 0; i < PROCESSES; i++)
		seconds += process_cpu(&processes->pagers[i]);
	return seconds;
}

void processes_settle(struct world *world)
{
	struct processes *processes = world->fault->processes;

	fault_settle(world);
	processes->cpu = cpu_of_all(processes);
}

void processes_tell(struct world *world, double times[MEASURE_WAYS])
{
	const struct processes *processes = world->fault->processes;

	times[MEASURE_CPU] += cpu_of_all(processes) - processes->cpu;
	fault_tell(world, times);
}

double processes_handshake(struct world *world, const struct process_way *way)
{
	struct processes *processes = world->fault->processes;
	struct handed *vm = &processes->fresh;
	double took;
	bool right;

	handed_make(vm, world->vm, world->size, way->pager);
	rescue_expect(&processes->rescue, vm, NULL);
	took = measure_real_clock.wall();
	handed_over(vm, &processes->pagers[way->role], way->protocol);
	right = *(const volatile uint64_t *)(const void *)vm->at == content_word(0);
	took = measure_real_clock.wall() - took;
	end_vm(processes, way);
	if (!right)
		give_up("a pager's process has ended, or brought no page within %d s", RESCUE_AFTER);
	return took;
}
