/* SPDX-License-Identifier: MIT */
/* gmem-pager: what its parts share. */
#ifndef GMEM_PAGER_TOOL_H
#define GMEM_PAGER_TOOL_H

#include <gmem.h>

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#define PAGER_EXIT_DONE 0
#define PAGER_EXIT_NOT 1
#define PAGER_EXIT_USAGE 2
#define PAGER_EXIT_LEFT 3 /* VMs were let go that still had empty pages */

#define PAGER_LAYERS 64
#define PAGER_UIDS 256
#define PAGER_CPU_WORDS 16
#define PAGER_NAME 64 /* longest name of a VM, without its end */

/* One --source. */
struct pager_layer {
	const char *path; /* a template, NULL = zeros everywhere */
	uint64_t offset;  /* where the file begins in the memory's content */
};

struct pager_identity {
	uid_t uid;
	const char *name;
};

/* The command line. */
struct pager_request {
	const char *socket, *control, *root, *user;
	struct pager_layer layers[PAGER_LAYERS];
	struct pager_identity identities[PAGER_UIDS];
	uid_t allowed[PAGER_UIDS];
	uint32_t layer_count, identity_count, allowed_count;
	uint32_t protocol, threads, around_mode, max_vms, max_ranges, max_memories, max_faults, mode;
	uint64_t cpus[PAGER_CPU_WORDS];
	uint64_t around, background, deadline_ns, finish_ns, handshake_ns, max_bytes;
	bool has_cpus, waits_on_failure, status, json, no_seccomp;
};

/* Sockets to listen on; -1 = none. */
struct pager_sockets {
	int vms, control;
	bool bound_vms, bound_control; /* made here, not handed in: taken away at the end */
};

/* What was served, and to whom. */
struct pager_vms;
struct pager_daemon {
	const struct pager_request *request;
	struct gmem_pager *pager;
	struct gmem_server *server;
	struct pager_vms *vms;
	struct pager_sockets sockets;
	int root;    /* directory of the sources, or AT_FDCWD */
	int signals; /* signalfd */
	uint64_t started_ns;
};

/* gmem-pager-args.c; false: exit with *status */
bool pager_parse(int argc, char **argv, struct pager_request *request, int *status);

/* gmem-pager-values.c: words of the command line; false: not such a word */
bool pager_read_count(const char *word, uint64_t most, uint32_t *value);
bool pager_read_bytes(const char *word, uint64_t *value);
bool pager_read_time(const char *word, uint64_t *ns);
bool pager_read_cpus(const char *word, uint64_t words[PAGER_CPU_WORDS]);
bool pager_read_uid(const char *word, uid_t *uid);
bool pager_read_mode(const char *word, uint32_t *mode);
bool pager_read_layer(const char *word, struct pager_layer *layer);
bool pager_is_name(const char *text);
bool pager_template_is_good(const char *path);
bool pager_template_has_names(const char *path);

/* gmem-pager-source.c: negative errno, the sentence in pager_why() */
int pager_open_root(const char *path, int *root);
bool pager_is_allowed(const struct pager_request *request, uid_t uid);
int pager_name_of(const struct pager_request *request, const struct gmem_channel_info *peer, char name[PAGER_NAME + 1]);
int pager_open_source(const struct pager_daemon *daemon, const char *name, uid_t uid, struct gmem_source **source);

/* gmem-pager-vms.c */
int pager_vms_create(struct pager_vms **vms);
void pager_vms_destroy(struct pager_vms *vms);
int pager_meet(void *user, const struct gmem_channel_info *peer);
int pager_admit(void *user, const struct gmem_channel_info *peer, struct gmem_uffd *uffd, struct gmem_source **source,
		struct gmem_pager_add_opts *opts);
void pager_leave(void *user, struct gmem_uffd *uffd, int reason);
int pager_event(void *user, const struct gmem_pager_event *event);
/* From now on nobody is admitted. */
void pager_vms_close(struct pager_vms *vms);
/* Fills each VM for a moment. Returns how many there are still. */
uint32_t pager_vms_finish_some(struct pager_daemon *daemon);
/* VMs that were let go with empty pages. */
uint64_t pager_vms_unfinished(const struct pager_vms *vms);

struct pager_vm_report {
	char name[PAGER_NAME + 1];
	uint32_t pid, uid, protocol;
	struct gmem_uffd_info info;
};
/* Calls fn for every VM, with a lock held: fn must not wait for anybody. */
void pager_vms_each(struct pager_vms *vms, void (*fn)(void *user, const struct pager_vm_report *vm), void *user);

/* gmem-pager-report.c */
int pager_print_table(FILE *out, struct pager_daemon *daemon);
int pager_print_json(FILE *out, struct pager_daemon *daemon);
/* One line about all VMs. */
void pager_summary(struct pager_daemon *daemon, char *text, size_t room);

/* gmem-pager-status.c: the control socket, both ends */
void pager_answer_status(struct pager_daemon *daemon);
int pager_ask_status(const struct pager_request *request);

/* gmem-pager-listen.c */
int pager_listen(const struct pager_request *request, struct pager_sockets *sockets);
/* That of the VMs alone. */
void pager_sockets_close_vms(const struct pager_request *request, struct pager_sockets *sockets);
void pager_sockets_close(const struct pager_request *request, struct pager_sockets *sockets);
int pager_address(const char *path, void *address);

/* gmem-pager-system.c */
void pager_notify_open(void);
bool pager_notifies(void);
void pager_notify(const char *text);
int pager_become(const char *user);
int pager_no_new_privileges(void);

/* gmem-pager-seccomp.c: the process may call from now on only what serving needs */
int pager_confine(void);

/* gmem-pager.c: a sentence on stderr; returns code */
__attribute__((format(printf, 2, 3))) int pager_complain(int code, const char *format, ...);

#endif
