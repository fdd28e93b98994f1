/* SPDX-License-Identifier: MIT */
/* A server and its pager in one process, and VMs in others, which do as they are told. Processes are made before threads: VMs
 * begin with a listening socket alone. */
#ifndef UNIT_STATION_H
#define UNIT_STATION_H

#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <gmem.h>

/* --- where VMs connect to --- */

struct address {
	int listener, type;
	struct sockaddr_un name;
	socklen_t length;
};

/* SOCK_STREAM or SOCK_SEQPACKET; without a file. */
struct address address_make(int type);
int address_connect(const struct address *address); /* a socket, or a negative errno */
void address_end(struct address *address);

/* --- who serves them --- */

#define MOST_NOTES 256

struct station {
	struct gmem_pager *pager;
	struct gmem_server *server;
	int refuse;              /* what `admit` answers, if it is not 0 */
	int (*admit)(struct station *station, const struct gmem_channel_info *peer); /* called first, if not NULL */
	int (*meet)(struct station *station, const struct gmem_channel_info *peer);  /* NULL = nobody is asked */
	uint64_t background;
	pthread_mutex_t lock;    /* guards what follows */
	pthread_cond_t changed;
	uint64_t asked, left, released;
	int reasons[MOST_NOTES]; /* of those who left, in order */
	int answer;              /* of the source, if it is not 0 */
	uint32_t held;           /* 1 = a source does not answer, until it is 0 */
	uint32_t holding;        /* threads that wait for that, or for the next */
	uint32_t open;           /* 1 = nobody waits in `admit` any more */
};

/* Content is content_at() everywhere. Begins to serve. */
void station_open(struct station *station, const struct address *address, uint32_t threads,
		  const struct gmem_server_create_opts *opts);
void station_close(struct station *station);
/* Waits until so many have left, and says why the last of these did. */
int station_await_left(struct station *station, uint64_t count);
void station_await_asked(struct station *station, uint64_t count);
/* Waits until nobody is there any more, and nothing of anybody. */
void station_await_quiet(const struct station *station);
struct gmem_server_info station_info(const struct station *station);
/* Sources do not answer any more, or do again. */
void station_hold(struct station *station, uint32_t on);
/* What the source says from now on: a code, or 0 for content. */
void station_answer(struct station *station, int answer);
/* From now on there is no `admit` of the test's. */
void station_admit_all(struct station *station);
/* An `admit`: a VM by the name "slow" waits until the gate is open, and is refused then. */
int station_let_slow_wait(struct station *station, const struct gmem_channel_info *peer);
void station_open_gate(struct station *station);
void station_await_holding(struct station *station, uint32_t count);

/* --- a VM --- */

struct vm_spec {
	uint64_t pages;
	uint32_t backing, strategy, protocol;
	uint32_t parts; /* ranges of its memory; half of them are registered before the first attaching, if there are several */
	const char *identity;
};

enum vm_order {
	VM_END = 0,
	VM_ATTACH = 1, /* connects to the address, and hands its memory over: what gmem_guard_attach() says */
	VM_CHECK,      /* pages a to a + b - 1: 0 = all as they should be, else 1 + the first wrong page */
	VM_TOUCH,      /* begins to read page a in a thread */
	VM_TOUCHED,    /* waits for that: the same as VM_CHECK of it */
	VM_IS_BLOCKED, /* 1 = that thread has not come back */
	VM_RUN,        /* waits for the guard's next event, and says it */
	VM_STATE,      /* of the guard */
	VM_DISCARD,    /* pages a to a + b - 1 */
	VM_ADD,        /* registers range a */
	VM_REMOVE,     /* and takes it away */
	VM_LET_GO,     /* destroys the guard */
	VM_POISON,     /* what has not come: whoever waits for it gets SIGBUS, which VM_TOUCHED says as -1 */
	VM_HANG_UP,    /* closes the connection, and not the guard (Firecracker's protocol) */
	VM_ASK,        /* the pager: what gmem_guard_ask() says */
	VM_FORWARD,    /* pages a to a + b - 1, with the cookie a: what gmem_guard_forward() says */
	VM_FORWARDED,  /* runs the guard until that is told: what became of it */
	VM_PAGE,       /* what page a is, in the page map */
	VM_COUNTED     /* what the pager has said: enum counted */
};

enum counted { COUNTED_ANSWERS, COUNTED_FAULTS, COUNTED_BYTES, COUNTED_ZEROED, COUNTED_POISONED, COUNTED_REMAINING, COUNTED_ERRORS };

struct vm {
	pid_t pid;
	int line;
};

/* A process. */
struct vm vm_make(const struct address *address, const struct vm_spec *spec);
void vm_tell(struct vm *vm, enum vm_order order, uint64_t a, uint64_t b);
int64_t vm_answer(struct vm *vm);
int64_t vm_do(struct vm *vm, enum vm_order order, uint64_t a, uint64_t b);
void vm_kill(struct vm *vm);
void vm_end(struct vm *vm); /* it ends well */

/* --- in the process itself --- */
struct owner;
struct owner *owner_make(const struct vm_spec *spec);
int64_t owner_obey(struct owner *owner, const struct address *address, enum vm_order order, uint64_t a, uint64_t b);
void owner_end(struct owner *owner);

#endif
