/* SPDX-License-Identifier: MIT */
/* gmem-pager: telling who started it how it is (sd_notify(3) has the rules), and giving up privileges. */
#include "gmem-pager.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int notify_fd = -1;

/* A path, or with '@' in front a name without a file. */
static bool connect_notify(int fd, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(path);

	if ((*path != '/' && *path != '@') || length >= sizeof(address.sun_path))
		return false;
	memcpy(address.sun_path, path, length);
	if (*path == '@')
		address.sun_path[0] = '\0';
	return connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0;
}

/* Before privileges are given up: the socket may be closed to the user that this becomes. */
void pager_notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (!path)
		return;
	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (notify_fd < 0 || !connect_notify(notify_fd, path))
		pager_complain(0, "NOTIFY_SOCKET %s cannot be used: nobody will know that this is ready", path);
	unsetenv("NOTIFY_SOCKET");
}

bool pager_notifies(void)
{
	return notify_fd >= 0;
}

void pager_notify(const char *text)
{
	if (notify_fd >= 0 && send(notify_fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
		pager_complain(0, "NOTIFY_SOCKET: %s", strerror(errno));
}

int pager_become(const char *user)
{
	const struct passwd *entry;
	uid_t uid;

	if (!user)
		return 0;
	entry = pager_read_uid(user, &uid) ? getpwuid(uid) : NULL;
	if (!entry)
		return pager_complain(-ENOENT, "--user %s: there is no such user", user);
	if (initgroups(entry->pw_name, entry->pw_gid) < 0 || setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) < 0 ||
	    setresuid(uid, uid, uid) < 0)
		return pager_complain(-errno, "--user %s: %s", user, strerror(errno));
	return 0;
}

int pager_no_new_privileges(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return pager_complain(-errno, "PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
	return 0;
}
