/* SPDX-License-Identifier: MIT */
#include "process.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"
#include "trap.h"

#define QUEUE 128
#define WORD 64

enum question { HOW_BIG, LET_GO };

/* --- there -------------------------------------------------------------------------------------------------------------- */

struct station {
	const struct content *content;
	struct gmem_pager *pager;
	pthread_mutex_t lock;
	struct gmem_uffd *last; /* that came, while it is served */
};

static int admit(void *user, const struct gmem_channel_info *peer, struct gmem_uffd *uffd, struct gmem_source **source,
		 struct gmem_pager_add_opts *opts)
{
	struct station *station = user;
	struct gmem_extent extent = { .length = station->content->size, .fd = station->content->fd };

	(void)peer, (void)opts;
	pthread_mutex_lock(&station->lock);
	station->last = uffd;
	pthread_mutex_unlock(&station->lock);
	return gmem_source_create_file(&extent, 1, source);
}

static void leave(void *user, struct gmem_uffd *uffd, int reason)
{
	struct station *station = user;

	(void)reason;
	pthread_mutex_lock(&station->lock);
	if (station->last == uffd)
		station->last = NULL;
	pthread_mutex_unlock(&station->lock);
}

/* It is valid as long as leave() has not returned. */
static void let_go(struct station *station)
{
	pthread_mutex_lock(&station->lock);
	if (station->last)
		must(gmem_pager_remove(station->pager, station->last, NULL), "gmem_pager_remove()");
	pthread_mutex_unlock(&station->lock);
}

static void make_pager(struct gmem_pager **pager)
{
	uint64_t words[CPU_SETSIZE / WORD] = { 0 };
	struct gmem_pager_create_opts opts = {
		.size = sizeof(opts), .cpus = words, .cpu_words = CPU_SETSIZE / WORD, .around_mode = GMEM_AROUND_NONE
	};
	int cores[2];

	machine_cores(cores);
	words[cores[0] / WORD] |= UINT64_C(1) << cores[0] % WORD;
	must(gmem_pager_create(pager, &opts), "gmem_pager_create()");
	must(gmem_pager_start(*pager), "gmem_pager_start()");
}

/* Says how much it has grown: once when it is ready, and then after whatever it is asked. */
static void answer(struct station *station, int line)
{
	struct machine_private before;
	char question = HOW_BIG;

	(void)machine_private(); /* whatever reading it needs itself is there before */
	before = machine_private();
	do {
		double grown = (double)machine_private_growth(&before);

		if (question == LET_GO)
			let_go(station);
		must_errno(send(line, &grown, sizeof(grown), MSG_NOSIGNAL), "send()");
	} while (read(line, &question, 1) == 1);
}

__attribute__((noreturn)) static void live(int listener, int line, const struct content *content, pid_t parent)
{
	const struct gmem_server_ops ops = { .size = sizeof(ops), .admit = admit, .leave = leave };
	struct station station = { .content = content, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct gmem_server *server;

	trap_in_child();
	must_errno(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl(PR_SET_PDEATHSIG)");
	if (getppid() != parent)
		_exit(0);
	make_pager(&station.pager);
	must(gmem_server_create(station.pager, listener, &ops, &station, &server, NULL), "gmem_server_create()");
	close(listener);
	answer(&station, line);
	gmem_server_destroy(server);
	gmem_pager_destroy(station.pager);
	_exit(0);
}

/* --- here --------------------------------------------------------------------------------------------------------------- */

/* Without a file: the kernel chooses a name, which goes with the socket. */
static int listen_anywhere(struct pager_process *process)
{
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must_errno(listener, "socket()");
	process->name.sun_family = AF_UNIX;
	process->name_length = sizeof(process->name);
	must_errno(bind(listener, (struct sockaddr *)&process->name, sizeof(sa_family_t)), "bind()");
	must_errno(listen(listener, QUEUE), "listen()");
	must_errno(getsockname(listener, (struct sockaddr *)&process->name, &process->name_length), "getsockname()");
	return listener;
}

static bool hear(const struct pager_process *process, double *grown)
{
	return recv(process->line, grown, sizeof(*grown), MSG_WAITALL) == sizeof(*grown);
}

static bool ask(const struct pager_process *process, enum question question, double *grown)
{
	char word = (char)question;

	return send(process->line, &word, 1, MSG_NOSIGNAL) == 1 && hear(process, grown);
}

void process_begin(struct pager_process *process, const struct content *content)
{
	const struct timeval patience = { .tv_sec = RESCUE_AFTER };
	int ends[2], listener = listen_anywhere(process);
	double grown;
	pid_t self = getpid();

	must_errno(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair()");
	process->pid = fork();
	if (process->pid == 0)
		live(listener, ends[1], content, self);
	close(ends[1]);
	close(listener);
	if (process->pid < 0) {
		process->pid = 0;
		close(ends[0]);
		give_up("fork() failed");
	}
	process->line = ends[0];
	must_errno(setsockopt(process->line, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), "SO_RCVTIMEO");
	if (!hear(process, &grown))
		give_up("a pager's process does not begin");
	if (clock_getcpuclockid(process->pid, &process->clock) != 0)
		give_up("the CPU time of a pager's process cannot be had");
}

/* It has nothing that would have to be put away. */
void process_end(struct pager_process *process)
{
	if (!process->pid)
		return;
	kill(process->pid, SIGKILL);
	waitpid(process->pid, NULL, 0);
	close(process->line);
	process->pid = 0;
}

int process_connect(const struct pager_process *process)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must_errno(fd, "socket()");
	if (connect(fd, (const struct sockaddr *)&process->name, process->name_length) == 0)
		return fd;
	close(fd);
	give_up("a pager's process does not listen any more");
}

double process_cpu(const struct pager_process *process)
{
	struct timespec time;

	must_errno(clock_gettime(process->clock, &time), "the CPU time of a pager's process");
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

double process_growth(const struct pager_process *process)
{
	double grown;

	if (!ask(process, HOW_BIG, &grown))
		give_up("a pager's process does not answer");
	return grown;
}

/* Also when all is ended since a process does not answer. */
void process_let_go(const struct pager_process *process)
{
	double grown;

	(void)ask(process, LET_GO, &grown);
}
