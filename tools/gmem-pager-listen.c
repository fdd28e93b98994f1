/* SPDX-License-Identifier: MIT */
/* gmem-pager: the sockets, made here or handed in by whoever started the program (sd_listen_fds(3) has the rules). */
#include "gmem-pager.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3

int pager_address(const char *path, void *address)
{
	struct sockaddr_un *un = address;

	*un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(un->sun_path))
		return pager_complain(-ENAMETOOLONG, "%s: a socket's path has %zu bytes at most", path,
				      sizeof(un->sun_path) - 1);
	strcpy(un->sun_path, path);
	return 0;
}

/* --- made here ---------------------------------------------------------------------------------------------------------- */

/* A socket that a predecessor has left, which nobody listens on. */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat status;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool refused;

	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED;
	close(fd);
	return refused && lstat(address->sun_path, &status) == 0 && S_ISSOCK(status.st_mode);
}

static int bind_to(int fd, const struct sockaddr_un *address, uint32_t mode)
{
	mode_t before = umask(0777 & ~(mode_t)mode); /* nobody else can connect for a moment in between */
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	if (r == -EADDRINUSE && is_stale(address) && unlink(address->sun_path) == 0)
		r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
	umask(before);
	return r;
}

static int make_socket(const char *path, uint32_t mode, int *result)
{
	struct sockaddr_un address;
	int r = pager_address(path, &address), fd;

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return pager_complain(-errno, "a socket: %s", strerror(errno));
	r = bind_to(fd, &address, mode);
	if (r == 0 && listen(fd, SOMAXCONN) < 0)
		r = -errno;
	if (r == 0) {
		*result = fd;
		return 0;
	}
	close(fd);
	return pager_complain(r, "%s: %s", path, r == -EADDRINUSE ? "somebody else listens there" : strerror(-r));
}

static void control_path(const struct pager_request *request, char path[PATH_MAX])
{
	if (request->control)
		snprintf(path, PATH_MAX, "%s", request->control);
	else
		snprintf(path, PATH_MAX, "%s.control", request->socket);
}

/* --- handed in ---------------------------------------------------------------------------------------------------------- */

static unsigned long number_in(const char *variable)
{
	const char *text = getenv(variable);

	return text ? strtoul(text, NULL, 10) : 0;
}

/* The name is "control", or any other for the socket of the VMs. */
static int take_fd(struct pager_sockets *sockets, int fd, const char *name, size_t length)
{
	bool control = length == strlen("control") && strncmp(name, "control", length) == 0;
	int *place = control ? &sockets->control : &sockets->vms;

	if (*place >= 0)
		return pager_complain(-EINVAL, "LISTEN_FDS: there is more than one socket for %s", control ? "control" : "VMs");
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		return pager_complain(-errno, "LISTEN_FDS: fd %d: %s", fd, strerror(errno));
	*place = fd;
	return 0;
}

static int take_handed(struct pager_sockets *sockets)
{
	const char *name = getenv("LISTEN_FDNAMES");
	unsigned long count = number_in("LISTEN_PID") == (unsigned long)getpid() ? number_in("LISTEN_FDS") : 0;
	int r = 0;

	for (unsigned long i = 0; r == 0 && i < count; i++) {
		size_t length = name ? strcspn(name, ":") : 0;

		r = take_fd(sockets, FIRST_FD + (int)i, name ? name : "", length);
		if (name)
			name = name[length] ? name + length + 1 : NULL;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return r;
}

/* --- both --------------------------------------------------------------------------------------------------------------- */

int pager_listen(const struct pager_request *request, struct pager_sockets *sockets)
{
	char path[PATH_MAX];
	int r = take_handed(sockets);

	if (r == 0 && sockets->vms < 0) {
		if (!request->socket)
			return pager_complain(-EINVAL, "no socket was handed in, and there is no --socket");
		r = make_socket(request->socket, request->mode, &sockets->vms);
		sockets->bound_vms = r == 0;
	}
	if (r < 0 || sockets->control >= 0 || (!request->socket && !request->control))
		return r;
	control_path(request, path);
	r = make_socket(path, 0600, &sockets->control);
	sockets->bound_control = r == 0;
	return r;
}

/* After --user the directory may be closed to this process: the socket is then stale, and the next start takes it away. */
static void take_away(const char *path)
{
	if (unlink(path) < 0 && errno != EACCES && errno != EPERM && errno != ENOENT)
		pager_complain(-errno, "%s stays: %s", path, strerror(errno));
}

void pager_sockets_close_vms(const struct pager_request *request, struct pager_sockets *sockets)
{
	if (sockets->bound_vms)
		take_away(request->socket);
	if (sockets->vms >= 0)
		close(sockets->vms);
	sockets->bound_vms = false;
	sockets->vms = -1;
}

void pager_sockets_close(const struct pager_request *request, struct pager_sockets *sockets)
{
	char path[PATH_MAX];

	pager_sockets_close_vms(request, sockets);
	if (sockets->bound_control) {
		control_path(request, path);
		take_away(path);
	}
	if (sockets->control >= 0)
		close(sockets->control);
	*sockets = (struct pager_sockets){ .vms = -1, .control = -1 };
}
