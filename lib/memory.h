/* SPDX-License-Identifier: MIT */
/* Floor 3: guest memory. Creation in memory_create.c, mappings in memory_map.c, memslots in memory_bind.c. */
#ifndef GMEMI_MEMORY_H
#define GMEMI_MEMORY_H

#include <gmem/memory.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "claim.h"
#include "gate.h"
#include "pagemap.h"
#include "vm.h"

struct gmemi_mapping {
	struct gmemi_mapping *next;
	struct gmemi_mapping *next_of_vm; /* in vm->mapped */
	const struct gmem *mem;
	uint64_t offset, length;
	unsigned char *address;
	bool writable;
	bool placed;	    /* over a reservation of the caller, which gets it back */
	bool own;	    /* made by the library for itself */
	bool told;	    /* the caller has an address in it */
	bool alias;	    /* for one step of one call: nobody else finds it, so no userfaultfd watches it */
	unsigned int users; /* memslots, and calls that are using it */
};

/* Of the one endpoint that watches ranges of the memory, in its own struct: what it does when a call of a lower floor moves
 * pages. */
struct gmemi_watch {
	bool (*covers)(const struct gmemi_watch *watch, uint64_t offset, uint64_t length); /* is a part of that watched? */
	void (*filled)(struct gmemi_watch *watch, uint64_t offset, uint64_t length); /* who waits for these may go on */
	void (*settle)(struct gmemi_watch *watch); /* waits until what madvise() gave up before is marked */
	void (*leave)(struct gmemi_watch *watch); /* the memory ends: nothing of it is touched after the return */
};

/* A page that a populate call has stored a part of, and has not done with. */
struct gmemi_begun {
	struct gmemi_begun *next;
	uint64_t page; /* its number; UINT64_MAX = none */
	bool lost;     /* freed meanwhile, by who has claimed it: what is left is not to be stored, or it would be half zeros */
};

/* Ranges that were given up for new content, and not for zeros. */
#define GMEMI_REFETCHES 64
struct gmemi_refetches {
	_Atomic uint64_t count; /* so far; added to with the range claimed */
	struct {
		uint64_t offset, length;
	} last[GMEMI_REFETCHES]; /* under the memory's lock */
};

struct gmem {
	struct gmem_vm *vm;
	int fd;
	int shared_fd; /* -1, or the memfd of a pair */
	uint64_t length, page_size, need;
	enum gmem_backing backing;
	enum gmem_mechanism mechanism;
	struct gmemi_pagemap *map; /* NULL without GMEM_NEED_LAZY */
	struct gmemi_claims content; /* with a page map: of who stores and marks pages, or marks and frees them */
	struct gmemi_lock lock;	   /* guards the next six */
	struct gmemi_mapping *mappings;
	atomic_bool map_lent;	   /* others may change the page map */
	bool imported;		   /* others may have the same open file, and change its flags */
	bool exposed;		   /* somebody besides the library's own calls may touch the pages */
	struct gmemi_watch *watch; /* NULL = nobody watches */
	_Atomic uint32_t watch_calls; /* of `filled` and `settle` under way; added to under the lock */
	struct gmemi_begun *begun; /* of calls under way: the list and the page numbers in it */
	struct gmemi_refetches refetches;
	atomic_uint slots;	   /* memslots bound */
	_Atomic uint64_t populated, skipped;
	atomic_uint populate_mechanism, prefault_mechanism;
};

/* 0, -EINVAL for NULL, -ESTALE after fork; with a sentence. */
int gmemi_memory_check(const struct gmem *mem);

/* The file that the host may touch, and what it is made of. */
int gmemi_memory_shared_fd(const struct gmem *mem);
enum gmem_backing gmemi_memory_shared_backing(const struct gmem *mem);
/* Memory that nobody needed to be mappable may be so all the same. */
bool gmemi_memory_mappable(const struct gmem *mem);

/* memory.c: a memory without files, which holds a claim on the VM; and its end, whatever it has by then. */
struct gmem *gmemi_memory_new(struct gmem_vm *vm, uint64_t length, uint64_t need);
void gmemi_memory_free(struct gmem *mem);
/* The page map, if the needs want one. */
int gmemi_memory_add_map(struct gmem *mem);

/* memory_create.c: makes the file or files by the chain. */
int gmemi_memory_make(struct gmem *mem, enum gmem_backing backing, const char *name);

/* memory_import.c: a file of a peer, and its page map (-1 = none: one is made), which it goes on using. What this process may do
 * itself does not matter: the peer has found out. -EINVAL: it is not such a file, or too short. */
int gmemi_memory_import_peer(struct gmem_vm *vm, int fd, uint64_t length, int map_fd, struct gmem **mem);

/* memory_map.c */
/* A writable mapping that covers [offset, offset + length), made if there is none, that nobody unmaps before
 * gmemi_mapping_drop(). */
int gmemi_mapping_hold(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **mapping);
/* The same for as much as one mapping covers from offset on; where there is none, one of the whole memory is made if it can
 * be. */
int gmemi_mapping_hold_some(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **mapping);
/* One that there is at offset, or NULL: nothing is mapped. */
struct gmemi_mapping *gmemi_mapping_hold_present(struct gmem *mem, uint64_t offset);
/* A mapping of the range that goes with its drop: filling through it meets no fault that somebody would have to serve. */
int gmemi_mapping_hold_alias(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **mapping);
/* The one that has put offset at this address: -EINVAL if there is none. */
int gmemi_mapping_hold_at(struct gmem *mem, uint64_t offset, uint64_t length, const void *address,
			  struct gmemi_mapping **mapping);
/* All of them that have a part of the range, none of which is then without one: *mappings is an array of the caller's, who
 * drops each and frees it. */
int gmemi_mapping_hold_all(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping ***mappings, uint32_t *count);
void gmemi_mapping_drop(struct gmem *mem, struct gmemi_mapping *mapping);
static inline unsigned char *gmemi_mapping_at(const struct gmemi_mapping *mapping, uint64_t offset)
{
	return mapping->address + (offset - mapping->offset);
}
/* All of them go, except those in use. */
void gmemi_mapping_end(struct gmem *mem);

/* memory_bind.c */
/* Deletes all memslots of the memory. A mapping whose memslot cannot be deleted stays for good: the guest may run on it. */
void gmemi_slots_end(struct gmem *mem);
/* What vCPUs of the first address space see of the memory: 0 bytes if nothing at offset is bound there, and then *length
 * is cut to where something is. */
struct gmemi_bound {
	uint64_t gpa, length;
};
struct gmemi_bound gmemi_slot_at(struct gmem *mem, uint64_t offset, uint64_t *length);

/* memory_discard.c */
/* With a page map, storing and marking are one to those who free or store the same pages, and so are marking and freeing.
 * Without one, nothing is claimed. */
void gmemi_content_claim(struct gmem *mem, struct gmemi_claim *claim, uint64_t offset, uint64_t length);
void gmemi_content_leave(struct gmem *mem, struct gmemi_claim *claim);
/* What a source is asked for after this is not older than any refetch so far. */
static inline uint64_t gmemi_content_age(const struct gmem *mem)
{
	return atomic_load(&mem->refetches.count);
}
/* Was any of the range, which is claimed, given up for new content since then? Of very many since then it is not known, and said to
 * be so. */
bool gmemi_content_is_stale(struct gmem *mem, uint64_t age, uint64_t offset, uint64_t length);
/* Frees pages of the shared file, whatever the map says. */
int gmemi_memory_punch(struct gmem *mem, uint64_t offset, uint64_t length);
/* From now on pages may be in use (mapped, pinned, seen by a guest or another process) when the library does not know. */
void gmemi_memory_expose(struct gmem *mem);
bool gmemi_memory_exposed(struct gmem *mem);
/* Frees pages that hold zeros, unless the memory has been exposed meanwhile. */
bool gmemi_memory_free_unseen(struct gmem *mem, uint64_t offset, uint64_t length);

/* memory_watch.c */
/* From now on `watch` is asked and told: -EBUSY when there is another. */
int gmemi_watch_begin(struct gmem *mem, struct gmemi_watch *watch);
/* Nothing is under way in it after the return. */
void gmemi_watch_end(struct gmem *mem);
/* Pages that madvise() has given up by now are marked when it returns: what is stored and marked then stays. */
void gmemi_watch_settle(struct gmem *mem);
/* These pages have just become filled, by a call that knows of no faults. */
void gmemi_watch_tell_filled(struct gmem *mem, uint64_t offset, uint64_t length);

/* memory_run.c: how far pages from offset on are alike, within *length, which is cut; false = the kernel does not say. */
bool gmemi_run_by_seek(int fd, uint64_t page_size, uint64_t offset, uint64_t *length, bool *data);
bool gmemi_run_by_mincore(struct gmem *mem, uint64_t offset, uint64_t *length, bool *present);

#endif
