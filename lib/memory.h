/* SPDX-License-Identifier: MIT */
/* Floor 3: guest memory. Creation in memory_create.c, mappings in memory_map.c, memslots in memory_bind.c. */
#ifndef GMEMI_MEMORY_H
#define GMEMI_MEMORY_H

#include <gmem/memory.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "pagemap.h"
#include "vm.h"

struct gmemi_mapping {
	struct gmemi_mapping *next;
	uint64_t offset, length;
	unsigned char *address;
	bool writable;
	bool placed;	    /* over a reservation of the caller, which gets it back */
	bool own;	    /* made by the library for itself */
	bool told;	    /* the caller has an address in it */
	unsigned int users; /* memslots, and calls that are using it */
};

struct gmem {
	struct gmem_vm *vm;
	int fd;
	int shared_fd; /* -1, or the memfd of a pair */
	uint64_t length, page_size, need;
	enum gmem_backing backing;
	enum gmem_mechanism mechanism;
	struct gmemi_pagemap *map; /* NULL without GMEM_NEED_LAZY */
	pthread_mutex_t lock;	   /* guards the mappings */
	struct gmemi_mapping *mappings;
	atomic_uint slots;	   /* memslots bound */
	_Atomic uint64_t populated, skipped;
	atomic_uint populate_mechanism;
};

/* 0, -EINVAL for NULL, -ESTALE after fork; with a sentence. */
int gmemi_memory_check(const struct gmem *mem);

/* The file that the host may touch, and what it is made of. */
int gmemi_memory_shared_fd(const struct gmem *mem);
enum gmem_backing gmemi_memory_shared_backing(const struct gmem *mem);
/* Memory that nobody needed to be mappable may be so all the same. */
bool gmemi_memory_mappable(const struct gmem *mem);

/* memory_create.c: makes the file or files by the chain. */
int gmemi_memory_make(struct gmem *mem, enum gmem_backing backing, const char *name);

/* memory_map.c */
/* A writable mapping that covers [offset, offset + length), made if there is none, that nobody unmaps before
 * gmemi_mapping_drop(). */
int gmemi_mapping_hold(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **mapping);
/* The same for as much as one mapping covers from offset on; where there is none, one of the whole memory is made if it can
 * be. */
int gmemi_mapping_hold_some(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **mapping);
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

#endif
