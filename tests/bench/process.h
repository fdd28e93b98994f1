/* SPDX-License-Identifier: MIT */
/* Pagers in processes of their own, and memory of this process that is handed over to them. A pager's process may end at any
 * moment: whoever then waits for a page is let go by a thread that watches them all, and sees that it got no content. */
#ifndef PROCESS_H
#define PROCESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <gmem.h>

#include "content.h"
#include "fault.h"

struct world;

/* How many VMs a process serves at a time. */
enum process_role { PROCESS_ALONE, PROCESS_TEN, PROCESS_HUNDRED, PROCESSES };

/* --- process_pager.c: a pager, on the first core, that brings a page at a time --- */

struct pager_process {
	pid_t pid; /* 0 = none */
	int line;
	clockid_t clock;
	struct sockaddr_un name;
	socklen_t name_length;
};

/* Before this process has a second thread. `process` is all zeros. */
void process_begin(struct pager_process *process, const struct content *content);
void process_end(struct pager_process *process);
int process_connect(const struct pager_process *process); /* a socket */
double process_cpu(const struct pager_process *process);  /* seconds */
/* Private bytes more than when it began. */
double process_growth(const struct pager_process *process);
/* Has it let go the VM that came last, and waits for that. With Firecracker's protocol it hears of no end but that of the
 * process that the memory is of, which is this one. */
void process_let_go(const struct pager_process *process);

/* --- process_vm.c: a VM --- */

struct handed {
	struct gmem *mem; /* NULL = none, and so on */
	struct gmem_uffd *uffd;
	struct gmem_guard *guard;
	struct gmem_channel *channel;
	unsigned char *at;
	size_t size;
};

/* Ready to be handed over. May give up in the middle: what there is ends all the same. */
void handed_make(struct handed *vm, struct gmem_vm *of, size_t size, const struct pager_way *way);
void handed_over(struct handed *vm, const struct pager_process *process, enum gmem_protocol protocol);
void handed_end(struct handed *vm);

/* --- process_rescue.c --- */

#define RESCUE_AFTER 30 /* seconds for what takes less than one */

struct rescue {
	pthread_t thread;
	bool started;
	int lines[PROCESSES]; /* of the processes; -1 = it has ended */
	int timer, stop;
	pthread_mutex_t lock;  /* guards what follows */
	struct handed *waits;  /* whose pages are waited for */
	struct fault_run *run; /* ... and told of it, or NULL */
};

void rescue_begin(struct rescue *rescue, const struct pager_process *processes);
void rescue_end(struct rescue *rescue);
/* From before it is handed over, until it needs no rescue any more. */
void rescue_expect(struct rescue *rescue, struct handed *vm, struct fault_run *run);
void rescue_forget(struct rescue *rescue);

/* --- fault_process.c: such a pager as a server of faults, and what a group has --- */

struct processes {
	struct pager_process pagers[PROCESSES];
	struct rescue rescue;
	struct handed fresh, *idle;
	unsigned int n_idle;
	double bytes; /* private ones of a VM in the process that has most of them */
	double cpu;   /* of all of them, when the clock was started */
};

struct process_way {
	const struct pager_way *pager;
	enum gmem_protocol protocol;
	enum process_role role;
};

extern const struct fault_server fault_by_process;
extern const struct process_way process_fill, process_copy, process_ten, process_hundred;

/* As fault_open(), with processes for VMs that are idle. */
const char *processes_open(struct world *world, size_t most);
void processes_end(struct processes *processes); /* may be NULL */
/* With the CPU time of the pagers' processes. */
void processes_settle(struct world *world);
void processes_tell(struct world *world, double times[MEASURE_WAYS]);
/* Seconds from before it connects until it has its first page. */
double processes_handshake(struct world *world, const struct process_way *way);

#endif
