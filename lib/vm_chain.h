/* SPDX-License-Identifier: MIT */
/* Floor 2: the fallback chains as data. A row names a mechanism and what it needs; the function that does it belongs to the
 * floor above. */
#ifndef GMEMI_VM_CHAIN_H
#define GMEMI_VM_CHAIN_H

#include "vm.h"

#define GMEMI_ABSENT_CODES 4

struct gmemi_chain_row {
	enum gmem_task task;
	enum gmem_mechanism mechanism;
	enum gmem_feature feature; /* must be present, 0 = none */
	uint32_t backings;	   /* GMEMI_ON(): what it works on, or what it makes; 0 = all */
	uint32_t kind;		   /* enum gmem_vm_kind it is for, 0 = any */
	int absent[GMEMI_ABSENT_CODES]; /* what it says at run time when it is not there after all */
};

#define GMEMI_ON(backing) (1u << GMEM_BACKING_##backing)

/* What a chain is walked for. */
struct gmemi_wish {
	uint64_t need;	       /* GMEM_NEED_*, not 0 */
	enum gmem_backing backing; /* of the memory; for GMEM_TASK_CREATE: the one asked for, AUTO = any */
	enum gmem_mechanism forced; /* 0 = none */
	bool splices;		    /* GMEM_TASK_POPULATE: whoever populates can use splice() */
	bool mappable;		    /* known of the memory itself, which may come from elsewhere: no VM needs to be asked */
};

/* What is thought of a row. */
struct gmemi_judgement {
	bool usable;
	enum gmem_feature feature; /* that decided, 0 = none did */
	enum gmem_state state;
	int error;	 /* of the feature's probe */
	const char *why; /* when not usable */
};

/* Row number index of a task's chain, NULL past the end. */
const struct gmemi_chain_row *gmemi_chain_row(enum gmem_task task, uint32_t index);
struct gmemi_judgement gmemi_chain_judge(struct gmem_vm *vm, const struct gmemi_chain_row *row, const struct gmemi_wish *wish);
/* The best usable row behind `after` (NULL = from the beginning), NULL if there is none. */
const struct gmemi_chain_row *gmemi_chain_pick(struct gmem_vm *vm, enum gmem_task task, const struct gmemi_wish *wish,
					       const struct gmemi_chain_row *after);
/* The same for what is chosen for good, which must not hang on a shortage of the moment: NULL with *shortage, a code with a
 * sentence, when a row on the way could not be asked for want of fds or memory. */
const struct gmemi_chain_row *gmemi_chain_pick_for_good(struct gmem_vm *vm, enum gmem_task task, const struct gmemi_wish *wish,
							const struct gmemi_chain_row *after, int *shortage);
/* Does this failure of a row at run time mean that the mechanism is absent? */
bool gmemi_chain_means_absent(const struct gmemi_chain_row *row, int error);
/* A row failed at run time: true = with a code that means absent; it is then out of use for this VM, and the next may go on. */
bool gmemi_chain_demote(struct gmem_vm *vm, const struct gmemi_chain_row *row, int error);
/* A sentence that says of each row what is missing. -EOPNOTSUPP, or the code that withholds the first row that only needs
 * leave. */
int gmemi_chain_refuse(struct gmem_vm *vm, enum gmem_task task, const struct gmemi_wish *wish);

/* Does this way of creating serve these needs here? 0, or a code with a sentence. */
int gmemi_chain_serves(struct gmem_vm *vm, enum gmem_mechanism way, uint64_t need);

/* What the row is for, where that is one backing; else 0. */
enum gmem_backing gmemi_chain_backing(const struct gmemi_chain_row *row);
enum gmem_backing gmemi_backing_of(enum gmem_mechanism made_by);

/* vm_need.c: the feature with which a way to create memory serves a need; GMEM_FEATURE_NONE = it does by itself. Returns NULL,
 * or why that way never serves it. */
const char *gmemi_need_feature(enum gmem_mechanism way, uint64_t need, enum gmem_feature *feature);
/* Checks what a caller asks for. 0 becomes GMEM_NEED_MAPPABLE, and huge pages by name become those of 2 MiB. */
int gmemi_need_check(uint64_t *need, enum gmem_backing backing);

#endif
