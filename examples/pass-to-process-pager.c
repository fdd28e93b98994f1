/* SPDX-License-Identifier: MIT */
/*
 * A process that fills the memory of others: VMs connect to its socket and hand their memory over, and a file is its content.
 * pass-to-process-vmm.c is the other side.
 *
 *	cc pass-to-process-pager.c $(pkg-config --cflags --libs libgmem) -o pass-to-process-pager
 *	./pass-to-process-pager SOCKET FILE [VMS]
 *
 * Serves until it is ended, or until VMS of them have come and gone; then it exits 0. Needs no privilege: the userfaultfd is
 * the VM's.
 */
#define _GNU_SOURCE 1
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <gmem.h>

struct content {
	FILE *file;
	sem_t gone; /* raised for each VM that has */
};

/* A negative result is a failure; the sentence says which call it was, what failed, and what to check. */
static void check_gmem(int result)
{
	if (result >= 0)
		return;
	fprintf(stderr, "%s\n", gmem_last_error());
	exit(1);
}

/* The file, and zeros behind its end. */
static int open_source(FILE *file, struct gmem_source **source)
{
	const struct gmem_extent whole = { .fd = fileno(file) };
	struct gmem_source *layers[2];
	int r = gmem_source_create_file(&whole, 1, &layers[0]);

	if (r < 0)
		return r;
	r = gmem_source_create_zero(&layers[1]);
	if (r == 0)
		r = gmem_source_create_overlay(layers, 2, source); /* with claims of its own on the layers */
	gmem_source_destroy(layers[0]);
	gmem_source_destroy(r == 0 ? layers[1] : NULL);
	return r;
}

/* Here a real one looks at who it is, and chooses the snapshot. */
static int admit(void *user, const struct gmem_channel_info *peer, struct gmem_uffd *uffd, struct gmem_source **source,
		 struct gmem_pager_add_opts *opts)
{
	struct content *content = user;

	(void)uffd;
	printf("a VM of user %u calls itself \"%s\"\n", peer->uid, peer->identity);
	opts->background = UINT64_C(100) << 20; /* what it does not touch comes too, 100 MiB a second at most */
	return open_source(content->file, source);
}

static void leave(void *user, struct gmem_uffd *uffd, int reason)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };
	struct content *content = user;

	check_gmem(gmem_uffd_query(uffd, &info));
	printf("it has left (%d): %" PRIu64 " faults, %" PRIu64 " bytes filled\n", reason, info.faults, info.bytes);
	fflush(stdout);
	sem_post(&content->gone);
}

static int listen_at(const char *path)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(name.sun_path))
		return -1;
	strcpy(name.sun_path, path);
	return bind(fd, (struct sockaddr *)&name, sizeof(name)) || listen(fd, 128) ? -1 : fd;
}

int main(int argc, char **argv)
{
	const struct gmem_server_ops ops = { .size = sizeof(ops), .admit = admit, .leave = leave };
	struct content content = { .file = argc >= 3 ? fopen(argv[2], "rb") : NULL };
	long vms = argc > 3 ? atol(argv[3]) : -1;
	int listener = argc >= 3 ? listen_at(argv[1]) : -1;
	struct gmem_server *server;
	struct gmem_pager *pager;

	if (!content.file || listener < 0 || sem_init(&content.gone, 0, 0)) {
		fprintf(stderr, "usage: %s SOCKET FILE [VMS]\n", argv[0]);
		return 2;
	}
	check_gmem(gmem_pager_create(&pager, NULL));
	check_gmem(gmem_pager_start(pager));
	check_gmem(gmem_server_create(pager, listener, &ops, &content, &server, NULL));
	close(listener); /* the server has its own */

	for (; vms; vms--)
		while (sem_wait(&content.gone))
			; /* a signal came */

	gmem_server_destroy(server); /* before its pager */
	gmem_pager_destroy(pager);
	unlink(argv[1]);
	return fclose(content.file) || fflush(stdout) ? 1 : 0;
}
