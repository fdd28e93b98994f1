/* SPDX-License-Identifier: MIT */
/* What the parts of gmem-info share: the request, the throw-away VM, the answers, and how they are printed. */
#ifndef GMEM_INFO_H
#define GMEM_INFO_H

#include <gmem.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum info_exit {
	INFO_EXIT_DONE = 0, /* the report was made; with --feature: it is present */
	INFO_EXIT_NOT = 1,  /* no report; with --feature: it is not known to be present */
	INFO_EXIT_USAGE = 2
};

/* One word of --vm-type. */
struct info_vm_type {
	const char *name;
	unsigned long number; /* for KVM_CREATE_VM */
	uint32_t kind;        /* enum gmem_vm_kind */
	bool made;            /* false: ask without a VM */
};

/* What the command line asks for. */
struct info_request {
	const struct info_vm_type *type;
	uint64_t vm_flags;         /* GMEM_VM_* */
	uint64_t need;             /* GMEM_NEED_* */
	enum gmem_task task;       /* 0 = none named */
	enum gmem_feature feature; /* 0 = all */
	bool all_tasks;
	bool json;
};

/* Why the VM or its vCPU could not be had. */
struct info_trouble {
	const char *step; /* NULL = no trouble */
	int error;        /* positive errno */
	char advice[512];
};

/* The throw-away VM as the library sees it, or the absence of one. */
struct info_machine {
	struct gmem_vm *vm;
	struct gmem_vcpu *vcpu;
	bool has_vm;
	struct info_trouble vm_trouble;
	struct info_trouble vcpu_trouble;
};

struct info_feature {
	enum gmem_feature number;
	const char *name;
	enum gmem_state state;
	struct gmem_probe probe;
};

#define INFO_STEPS 32 /* far more rows than a chain has */

struct info_chain {
	enum gmem_task task;
	size_t count;
	struct gmem_step steps[INFO_STEPS];
};

#define INFO_TASKS 7

struct info_report {
	const struct info_request *request;
	const struct info_machine *machine;
	struct info_feature *features; /* all, or the one that was asked for */
	size_t feature_count;
	struct info_chain chains[INFO_TASKS]; /* empty when one feature was asked for */
};

/* gmem-info-args.c: true = go on with the request; false = stop with *status. */
bool info_parse(int argc, char **argv, struct info_request *request, int *status);

/* gmem-info-machine.c: 0 or a negative errno with a sentence in gmem_last_error(). Having no VM is no failure. */
int info_machine_open(struct info_machine *machine, const struct info_request *request);
void info_machine_close(struct info_machine *machine);

/* gmem-info-collect.c: 0 or a negative errno with a sentence in gmem_last_error(). */
int info_collect(struct info_report *report, const struct info_machine *machine, const struct info_request *request);
void info_collect_free(struct info_report *report);
const struct gmem_step *info_chosen(const struct info_chain *chain);

/* gmem-info-names.c */
enum info_topic {
	INFO_TOPIC_KVM,
	INFO_TOPIC_GUEST_MEMFD,
	INFO_TOPIC_PREFAULT,
	INFO_TOPIC_VM_TYPES,
	INFO_TOPIC_HOST,
	INFO_TOPIC_UFFD,
	INFO_TOPIC_OTHER
};

const struct info_vm_type *info_vm_type(const char *name); /* NULL = not on this architecture, or unknown */
enum gmem_task info_task(const char *name);                /* 0 = unknown */
uint64_t info_need(const char *name, size_t length); /* 0 = unknown */
const char *info_need_name(size_t index);            /* of bit number index; NULL past the last */
const char *info_error_name(int error); /* positive errno; NULL = not in the table */
void info_error_text(int error, char *text, size_t size);
enum info_topic info_topic(const struct info_feature *feature);
const char *info_topic_name(enum info_topic topic);

/* gmem-info-layout.c: a row of cells, each wrapped at words within its width. */
#define INFO_CELLS 6
#define INFO_GAP 2    /* spaces between cells */
#define INFO_LEAST 24 /* narrower, a column of text is not worth having */
#define INFO_STATE 12 /* width of "undetermined" */

struct info_cell {
	const char *text;
	size_t width;       /* 0 only for an empty text: it indents what follows by the gap */
	const char *colour; /* escape sequence, or NULL */
};

struct info_screen {
	size_t width;
	bool wide; /* enough room for everything in columns */
	bool colours;
};

void info_screen(struct info_screen *screen);
void info_row(const struct info_screen *screen, const struct info_cell *cells, size_t count);
void info_heading(const struct info_screen *screen, const char *text);
void info_below(const struct info_screen *screen, const char *mark, const char *text);
struct info_cell info_state_cell(enum gmem_state state);
size_t info_columns(const char *text);

/* One file each: gmem-info-summary.c, -features.c, -chains.c and -json.c. */
void info_print_summary(const struct info_report *report, const struct info_screen *screen);
void info_print_features(const struct info_report *report, const struct info_screen *screen);
void info_print_chains(const struct info_report *report, const struct info_screen *screen);
void info_print_json(const struct info_report *report);

#endif
