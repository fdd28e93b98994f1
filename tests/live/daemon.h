/* SPDX-License-Identifier: MIT */
/* A gmem-pager of its own for a test, as a service manager would start it. GMEM_PAGER and PAGER_TOOLS say where programs are. */
#ifndef LIVE_DAEMON_H
#define LIVE_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct daemon {
	pid_t pid;
	int notify; /* what it is told over */
	int said;   /* memfd: its standard error */
	bool confined;
	char dir[32], socket[48], image[48];
};

/* Its source is a file with this content. Returns when it is ready. */
struct daemon daemon_start(const unsigned char *content, size_t length);
/* Another one in its place, when it was killed. */
void daemon_start_next(struct daemon *daemon);
int daemon_connect(const struct daemon *daemon);
void daemon_kill(struct daemon *daemon);
/* Tells it to stop; its exit status must be this one. */
void daemon_end(struct daemon *daemon, int status);
/* Runs a program of PAGER_TOOLS with the socket and the image: it must find everything right. */
void daemon_serves(const struct daemon *daemon, const char *tool, const char *mode);

#endif
