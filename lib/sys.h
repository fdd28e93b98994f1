/* SPDX-License-Identifier: MIT */
/* Floor 1: every system call of the library.
 *
 * All return a negative errno on failure, never -1. What the kernel should never answer becomes -EIO. fds are close-on-exec and
 * 3 or more before anybody sees them. EINTR: calls that do bounded work are made again here. Reads, which may wait for
 * somebody, return it, and so does fallocate(), which on a memfd undoes what it did and would never end under frequent
 * signals. */
#ifndef GMEMI_SYS_H
#define GMEMI_SYS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* fds */
int gmemi_sys_open(const char *path, int flags);
int gmemi_sys_dup(int fd);
/* The same fd by a number of 3 or more, or as it is where there is none. */
int gmemi_sys_raised(int fd);
void gmemi_sys_close(int fd);
/* One that takes seals and, where the kernel knows how to say that, is not to be executed. */
int gmemi_sys_memfd(const char *name, unsigned int flags);

/* files */
int gmemi_sys_resize(int fd, uint64_t length);
int gmemi_sys_seal(int fd, int seals);
/* The offset that lseek() returns; whence as there. */
int64_t gmemi_sys_seek(int fd, uint64_t offset, int whence);
/* The seals, F_SEAL_*; -EINVAL for files that take none. */
int gmemi_sys_seals(int fd);
/* O_RDONLY, O_WRONLY or O_RDWR, and the flags that the file has now: F_GETFL. */
int gmemi_sys_open_flags(int fd);
int gmemi_sys_set_flags(int fd, int flags); /* F_SETFL */

enum gmemi_file_type { GMEMI_FILE_OTHER, GMEMI_FILE_REGULAR, GMEMI_FILE_PIPE, GMEMI_FILE_BLOCK };

struct gmemi_file {
	enum gmemi_file_type type;
	uint64_t size, allocated, block_size; /* bytes */
	uid_t owner;
};

int gmemi_sys_describe(int fd, struct gmemi_file *about);
/* f_type of the file system. */
int64_t gmemi_sys_magic(int fd);
/* What /proc says the fd is, such as "/memfd:gmem (deleted)"; cut to the room. */
int gmemi_sys_name(int fd, char *name, size_t room);
/* Does mincore() tell this process the truth about the file? It makes everything present for those who may not write it
 * and do not own it (mm/mincore.c, can_do_mincore()). */
bool gmemi_sys_may_see(int fd, uid_t owner);
/* How many pages of the range the file has, in the page cache or in swap: cachestat(). */
int gmemi_sys_cached(int fd, uint64_t offset, uint64_t length, uint64_t *pages);
/* Bytes, 0 at the end, or a negative errno; at most one call of the kernel. */
int64_t gmemi_sys_read(int fd, void *buffer, size_t length);
int64_t gmemi_sys_pread(int fd, void *buffer, size_t length, uint64_t offset);
int64_t gmemi_sys_pwrite(int fd, const void *data, size_t length, uint64_t offset);
/* POSIX_FADV_* */
int gmemi_sys_fadvise(int fd, uint64_t offset, uint64_t length, int advice);
int gmemi_sys_fallocate(int fd, int mode, uint64_t offset, uint64_t length);
/* Both ends block. */
int gmemi_sys_pipe(int ends[2]);
/* Bytes, 0 at the end, or a negative errno; at most one call. An offset is NULL for the pipe, else it is not advanced. */
int64_t gmemi_sys_splice(int from, const uint64_t *from_offset, int to, const uint64_t *to_offset, size_t length);

/* mappings */
uint64_t gmemi_sys_page_size(void);
int gmemi_sys_map(void *address, uint64_t length, int protection, int flags, int fd, uint64_t offset, void **result);
int gmemi_sys_unmap(void *address, uint64_t length);
int gmemi_sys_protect(void *address, uint64_t length, int protection);
int gmemi_sys_advise(void *address, uint64_t length, int advice);
int gmemi_sys_resident(void *address, uint64_t length, unsigned char *vector);
/* mbind() without MPOL_MF_*; mode is MMANI_MPOL_*. */
int gmemi_sys_policy(void *address, uint64_t length, int mode, const uint64_t *mask, uint32_t words);

/* devices: the non-negative answer or a negative errno */
int gmemi_sys_ioctl(int fd, unsigned long request, const void *argument);
int gmemi_sys_ioctl_value(int fd, unsigned long request, unsigned long argument);
int gmemi_sys_guest_memfd(int vm_fd, uint64_t size, uint64_t flags);
/* A userfaultfd from an open /dev/userfaultfd, or (device < 0) from the system call. */
int gmemi_sys_userfaultfd(int device, int flags);

/* Does the handler behind fd know the request? It is called with an address that is never mapped: -EFAULT means it does. */
int gmemi_sys_ioctl_known(int fd, unsigned long request);

/* waiting and time (sys_event.c): nanoseconds of CLOCK_MONOTONIC; UINT64_MAX = without end */
uint64_t gmemi_sys_now(void);
/* Sleeps while *word is still what was expected: 0 = woken, or for no reason; -EAGAIN, -EINTR, -ETIMEDOUT. Threads of this
 * process only. */
int gmemi_sys_wait(const _Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);
void gmemi_sys_wake(const _Atomic uint32_t *word); /* all of them */
/* Reads that would have to wait say -EAGAIN, whatever the fd's own flags are; -EOPNOTSUPP: the file cannot tell. */
int64_t gmemi_sys_pread_now(int fd, void *buffer, size_t length, uint64_t offset);
int64_t gmemi_sys_read_now(int fd, void *buffer, size_t length);
struct epoll_event;
int gmemi_sys_epoll(void);
int gmemi_sys_epoll_add(int epoll, int fd, uint32_t events, uint64_t tag);
int gmemi_sys_epoll_change(int epoll, int fd, uint32_t events, uint64_t tag);
int gmemi_sys_epoll_remove(int epoll, int fd);
int gmemi_sys_epoll_wait(int epoll, struct epoll_event *events, int room, uint64_t timeout_ns); /* how many */
int gmemi_sys_eventfd(void);
void gmemi_sys_eventfd_raise(int fd);
void gmemi_sys_eventfd_lower(int fd);
uint32_t gmemi_sys_process(void); /* its number */
int gmemi_sys_timer(void);        /* readable from `when` on; UINT64_MAX = never */
int gmemi_sys_timer_set(int fd, uint64_t when);
bool gmemi_sys_timer_take(int fd); /* was it due, and has nobody else taken that? */

/* sockets (sys_socket.c); they never block, whatever the fd's own flags are, and send no SIGPIPE */
struct gmemi_socket {
	bool unix_domain, stream, packets, connected, listens;
	uint32_t pid, uid, gid; /* of the peer: who connected, or made the pair */
};
int gmemi_sys_socket(int fd, struct gmemi_socket *about);
#define GMEMI_RECEIVED 16
struct gmemi_received {
	int fds[GMEMI_RECEIVED]; /* the caller's, also when something is cut */
	uint32_t count;
	bool cut;        /* fds or data were lost: more came than there was room for */
	uint32_t sender; /* the process, if that was asked for; 0 = not known */
};
/* Bytes, 0 at the end, or a negative errno; what came is in `received` then. */
int64_t gmemi_sys_receive(int fd, void *buffer, size_t room, struct gmemi_received *received);
/* Bytes that were sent; the fds, at most GMEMI_RECEIVED, go with the first of them. */
int64_t gmemi_sys_send(int fd, const void *data, size_t length, const int *fds, uint32_t count);
/* What is received on it says who sent it, from now on. */
int gmemi_sys_ask_sender(int fd);
/* A fd that is readable once the process has ended that made the peer's end, or that has this number: -ESRCH if it has ended
 * already; other codes: it is not known which one that is, or the kernel cannot tell (6.5; 5.3). */
int gmemi_sys_watch_peer(int fd);
int gmemi_sys_watch_process(uint32_t process);
/* Who has connected: a fd, or -EAGAIN if the listening socket is non-blocking and nobody has. */
int gmemi_sys_accept(int fd);
/* The other end sees the end, behind what was sent. */
int gmemi_sys_shutdown(int fd);
/* ... and can be heard on. */
int gmemi_sys_shutdown_sending(int fd);
/* Until it can be read or written: 0, -ETIMEDOUT, -EINTR. */
int gmemi_sys_wait_socket(int fd, bool to_write, uint64_t timeout_ns);

/* where threads run: bit n of the words = CPU n */
int gmemi_sys_affinity(uint32_t thread, uint64_t *words, uint32_t count);
int gmemi_sys_set_affinity(const uint64_t *words, uint32_t count); /* of the calling thread */
void gmemi_sys_yield(void);

/* threads, which block all signals but those of their own faults */
int gmemi_sys_thread(pthread_t *thread, void *(*body)(void *), void *argument);
void gmemi_sys_join(pthread_t thread);
/* The first thing that such a thread does. Its name, which needs no /proc: of 15 bytes, only for those who look. */
void gmemi_sys_begin_thread(const char *name);

#endif
