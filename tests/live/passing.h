/* SPDX-License-Identifier: MIT */
/* Files that come from another process. */
#ifndef PASSING_H
#define PASSING_H

/* An fd over a socket. The receiver's is close-on-exec. */
void pass_fd(int socket, int fd);
int receive_fd(int socket);

/* The fd that `make`, in a child that has ended since, returned. */
int fd_from_child(int (*make)(void *arg), void *arg);

#endif
