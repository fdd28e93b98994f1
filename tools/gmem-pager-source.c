/* SPDX-License-Identifier: MIT */
/* gmem-pager: who may come, what his name is, and the files that belong to it. */
#include "gmem-pager.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As the kernel lays it out; not every C library has it. */
struct open_how_words {
	uint64_t flags, mode, resolve;
};

#define OPENAT2 437 /* on every architecture */
#define RESOLVE_MAGICLINKS_NOT 0x02u
#define RESOLVE_SYMLINKS_NOT 0x04u
#define RESOLVE_BELOW 0x08u

int pager_open_root(const char *path, int *root)
{
	*root = AT_FDCWD;
	if (!path)
		return 0;
	*root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *root < 0 ? pager_complain(-errno, "--root %s: %s", path, strerror(errno)) : 0;
}

bool pager_is_allowed(const struct pager_request *request, uid_t uid)
{
	if (!request->allowed_count)
		return uid == 0 || uid == geteuid();
	for (uint32_t i = 0; i < request->allowed_count; i++)
		if (request->allowed[i] == uid)
			return true;
	return false;
}

/* What is configured counts more than what the peer says. Without either the name is empty. */
int pager_name_of(const struct pager_request *request, const struct gmem_channel_info *peer, char name[PAGER_NAME + 1])
{
	const char *chosen = peer->identity;

	for (uint32_t i = 0; i < request->identity_count; i++)
		if (request->identities[i].uid == peer->uid)
			chosen = request->identities[i].name;
	if (*chosen && !pager_is_name(chosen))
		return -EACCES;
	memcpy(name, chosen, strlen(chosen) + 1);
	return 0;
}

/* A template with its names put in. */
static int fill_in(const char *template, const char *name, uid_t uid, char path[PATH_MAX])
{
	size_t used = 0;

	for (; *template; template ++) {
		size_t room = PATH_MAX - used;
		int n;

		if (*template != '%')
			n = snprintf(path + used, room, "%c", *template);
		else if (*++template == 'u')
			n = snprintf(path + used, room, "%u", uid);
		else
			n = snprintf(path + used, room, "%s", *template == 'i' ? name : "%");
		if (*template == 'i' && template[-1] == '%' && !*name)
			return -EACCES;
		if (n < 0 || (size_t)n >= room)
			return -ENAMETOOLONG;
		used += (size_t)n;
	}
	path[used] = '\0';
	return 0;
}

/* O_NONBLOCK: a pipe that was put there must not hold up whoever looks at what it is. */
static int open_regular(int root, const char *path)
{
	struct open_how_words how = { .flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY };
	struct stat status;
	int fd;

	how.resolve = root == AT_FDCWD ? RESOLVE_MAGICLINKS_NOT : RESOLVE_BELOW | RESOLVE_SYMLINKS_NOT | RESOLVE_MAGICLINKS_NOT;
	fd = (int)syscall(OPENAT2, root, path, &how, sizeof(how));
	if (fd < 0)
		return -errno;
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	return fd;
}

static int open_layer(const struct pager_daemon *daemon, const struct pager_layer *layer, const char *name, uid_t uid,
		      struct gmem_source **source)
{
	struct gmem_extent extent = { .offset = layer->offset };
	char path[PATH_MAX];
	int r;

	if (!layer->path)
		return gmem_source_create_zero(source);
	r = fill_in(layer->path, name, uid, path);
	if (r < 0)
		return pager_complain(r, "source %s: %s", layer->path, r == -EACCES ? "the VM has no name" : strerror(-r));
	extent.fd = open_regular(daemon->root, path);
	if (extent.fd < 0)
		return pager_complain(extent.fd, "source %s: %s", path,
				      extent.fd == -EINVAL ? "not a regular file" : strerror(-extent.fd));
	r = gmem_source_create_file(&extent, 1, source);
	close(extent.fd);
	return r < 0 ? pager_complain(r, "source %s: %s", path, gmem_last_error()) : 0;
}

int pager_open_source(const struct pager_daemon *daemon, const char *name, uid_t uid, struct gmem_source **source)
{
	struct gmem_source *layers[PAGER_LAYERS] = { NULL };
	uint32_t count = daemon->request->layer_count, opened = 0;
	int r = 0;

	while (r == 0 && opened < count) {
		r = open_layer(daemon, &daemon->request->layers[opened], name, uid, &layers[opened]);
		opened += r == 0;
	}
	if (r == 0 && count == 1) {
		*source = layers[0];
		return 0;
	}
	if (r == 0)
		r = gmem_source_create_overlay(layers, count, source);
	while (opened)
		gmem_source_destroy(layers[--opened]); /* the overlay has its own claims */
	return r;
}
