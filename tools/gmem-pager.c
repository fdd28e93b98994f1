/* SPDX-License-Identifier: MIT */
/* gmem-pager: a daemon that fills the memory of virtual machines on demand. */
#include "gmem-pager.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND_MS 1000
#define CLEAR_LINE "\r\033[K"

static bool on_terminal; /* there is a line of progress then, which others replace */

int pager_complain(int code, const char *format, ...)
{
	char line[1024];
	va_list words;

	va_start(words, format);
	vsnprintf(line, sizeof(line), format, words);
	va_end(words);
	fprintf(stderr, "%sgmem-pager: %s\n", on_terminal ? CLEAR_LINE : "", line);
	return code;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void log_line(void *user, enum gmem_log_level level, const char *text)
{
	(void)user;
	(void)level;
	pager_complain(0, "%s", text);
}

/* --- start -------------------------------------------------------------------------------------------------------------- */

/* Blocked before there is any thread, so that none of them gets one. A reader of stderr who has gone is no reason to end. */
static int take_signals(int *signals)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	*signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return *signals < 0 ? pager_complain(-errno, "signals: %s", strerror(errno)) : 0;
}

/* A VM takes several fds. */
static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		pager_complain(0, "RLIMIT_NOFILE: %s; fewer VMs can be served", strerror(errno));
}

static bool is_fixed(const struct pager_request *request)
{
	for (uint32_t i = 0; i < request->layer_count; i++)
		if (request->layers[i].path && pager_template_has_names(request->layers[i].path))
			return false;
	return true;
}

/* A mistake is better told now than to the first VM. */
static int try_sources(const struct pager_daemon *daemon)
{
	struct gmem_source *source;
	int r;

	if (!is_fixed(daemon->request))
		return 0;
	r = pager_open_source(daemon, "", geteuid(), &source);
	if (r == 0)
		gmem_source_destroy(source);
	return r;
}

static int start_pager(struct pager_daemon *daemon)
{
	const struct pager_request *request = daemon->request;
	struct gmem_pager_create_opts opts = {
		.size = sizeof(opts),
		.deadline_ns = request->deadline_ns,
		.around = request->around,
		.around_mode = request->around_mode,
		.cpus = request->has_cpus ? request->cpus : NULL,
		.cpu_words = request->has_cpus ? PAGER_CPU_WORDS : 0,
		.threads = request->threads,
		.event = pager_event,
		.user = daemon,
	};
	int r = gmem_pager_create(&daemon->pager, &opts);

	if (r == 0)
		r = gmem_pager_start(daemon->pager);
	return r < 0 ? pager_complain(r, "%s", gmem_last_error()) : 0;
}

static int start_server(struct pager_daemon *daemon)
{
	const struct pager_request *request = daemon->request;
	struct gmem_channel_open_opts channel = {
		.size = sizeof(channel),
		.timeout_ns = request->handshake_ns,
		.max_length = request->max_bytes,
		.max_regions = request->max_ranges,
		.max_memories = request->max_memories,
		.protocol = request->protocol,
		.identity = "gmem-pager",
	};
	struct gmem_server_create_opts opts = { .size = sizeof(opts), .channel = &channel, .max_vms = request->max_vms };
	const struct gmem_server_ops ops = { .size = sizeof(ops), .admit = pager_admit, .leave = pager_leave,
					    .meet = pager_meet };
	int r = gmem_server_create(daemon->pager, daemon->sockets.vms, &ops, daemon, &daemon->server, &opts);

	return r < 0 ? pager_complain(r, "%s", gmem_last_error()) : 0;
}

static int start(struct pager_daemon *daemon)
{
	const struct pager_request *request = daemon->request;
	int r = take_signals(&daemon->signals);

	raise_fd_limit();
	pager_notify_open();
	if (r == 0)
		r = pager_listen(request, &daemon->sockets);
	if (r == 0)
		r = pager_become(request->user);
	if (r == 0)
		r = pager_no_new_privileges();
	if (r == 0)
		r = pager_open_root(request->root, &daemon->root);
	if (r == 0)
		r = try_sources(daemon);
	if (r == 0)
		r = pager_vms_create(&daemon->vms);
	if (r == 0)
		r = start_pager(daemon);
	if (r == 0 && !request->no_seccomp)
		r = pager_confine();
	return r < 0 ? r : start_server(daemon);
}

/* --- running ------------------------------------------------------------------------------------------------------------ */

static void show_progress(struct pager_daemon *daemon)
{
	char text[200], status[220];

	pager_summary(daemon, text, sizeof(text));
	if (on_terminal)
		fprintf(stderr, CLEAR_LINE "%s", text);
	snprintf(status, sizeof(status), "STATUS=%s", text);
	pager_notify(status);
}

/* Nothing here can be read anew, so SIGHUP is taken and forgotten. */
static bool told_to_stop(int signals)
{
	struct signalfd_siginfo info;
	bool stop = false;

	while (read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		stop |= info.ssi_signo != SIGHUP;
	return stop;
}

/* One turn. Returns whether to stop. */
static bool turn(struct pager_daemon *daemon, int timeout_ms)
{
	struct pollfd fds[] = { { .fd = daemon->signals, .events = POLLIN },
				{ .fd = daemon->sockets.control, .events = POLLIN } };

	if (poll(fds, 2, timeout_ms) <= 0)
		return false;
	if (fds[1].revents)
		pager_answer_status(daemon);
	return fds[0].revents && told_to_stop(daemon->signals);
}

static void run(struct pager_daemon *daemon)
{
	bool shows = on_terminal || pager_notifies();

	pager_notify("READY=1");
	while (!turn(daemon, shows ? SECOND_MS : -1))
		if (shows)
			show_progress(daemon);
}

/* A second signal ends the filling. */
static void finish(struct pager_daemon *daemon)
{
	uint64_t begun = now_ns(), most = daemon->request->finish_ns;

	if (gmem_server_stop_accepting(daemon->server) == 0)
		pager_sockets_close_vms(daemon->request, &daemon->sockets);
	pager_vms_close(daemon->vms); /* who is in a handshake is told that it is busy */
	pager_notify("STOPPING=1");
	while (most && now_ns() - begun < most && pager_vms_finish_some(daemon) > 0)
		if (turn(daemon, 0))
			return;
}

static int serve(struct pager_daemon *daemon)
{
	uint64_t unfinished;

	run(daemon);
	finish(daemon);
	gmem_server_destroy(daemon->server);
	daemon->server = NULL;
	unfinished = pager_vms_unfinished(daemon->vms);
	if (unfinished)
		pager_complain(0, "%llu VMs were let go with empty pages", (unsigned long long)unfinished);
	return unfinished ? PAGER_EXIT_LEFT : PAGER_EXIT_DONE;
}

static void stop(struct pager_daemon *daemon)
{
	gmem_server_destroy(daemon->server);
	gmem_pager_destroy(daemon->pager);
	pager_vms_destroy(daemon->vms);
	pager_sockets_close(daemon->request, &daemon->sockets);
	if (daemon->root >= 0)
		close(daemon->root);
	if (daemon->signals >= 0)
		close(daemon->signals);
}

int main(int argc, char **argv)
{
	static struct pager_request request;
	struct pager_daemon daemon = {
		.request = &request, .sockets = { .vms = -1, .control = -1 }, .root = -1, .signals = -1
	};
	int status;

	if (!pager_parse(argc, argv, &request, &status))
		return status;
	if (request.status)
		return pager_ask_status(&request) < 0 ? PAGER_EXIT_NOT : PAGER_EXIT_DONE;
	daemon.started_ns = now_ns();
	on_terminal = isatty(STDERR_FILENO); /* not to be asked once confined */
	gmem_set_log(GMEM_LOG_WARNING, log_line, NULL);
	status = start(&daemon) < 0 ? PAGER_EXIT_NOT : serve(&daemon);
	stop(&daemon);
	return status;
}
