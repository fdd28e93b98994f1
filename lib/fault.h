/* SPDX-License-Identifier: MIT */
/* Floor 4: userfault endpoints. fault.c makes and ends them, fault_index.c knows which page an address is, fault_register.c
 * watches ranges, fault_read.c reads events, fault_resolve.c makes pages be there, fault_kernel.c has the kernel do it. */
#ifndef GMEMI_FAULT_H
#define GMEMI_FAULT_H

#include <gmem/fault.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "fill.h"
#include "gate.h"
#include "memory.h"
#include "sys.h"
#include "uapi/userfaultfd.h"

/* Pointers in the order of some key. */
struct gmemi_table {
	void **items;
	size_t count, room;
};

/* A mapping of a part of a region in the owner's address space: what the kernel watches. */
struct gmemi_view {
	struct gmemi_view *next; /* of the region */
	struct gmemi_region *region;
	uint64_t hva, offset, length;  /* offset: as the region's */
	struct gmemi_mapping *mapping; /* held; NULL = the peer's */
};

#define GMEMI_GONE (UINT32_C(1) << 31)

/* One registration. What does not change needs no lock. */
struct gmemi_region {
	struct gmemi_watched *watched;
	uint64_t offset, length, content, gpa, page_size;
	uint32_t page_shift; /* its logarithm: divisions would be a tenth of what is done here for a fault */
	enum gmem_strategy strategy; /* FILL or COPY */
	atomic_bool copies; /* FILL, but new pages may be copied in: there is one view, and no process else moves pages */
	atomic_uint copy_misses;
	bool minor;    /* registered for minor faults too: UFFDIO_CONTINUE works */
	bool zeropage; /* UFFDIO_ZEROPAGE works */
	bool protects, peer;
	struct gmemi_fill fill; /* how its file is filled; without one, nothing */
	struct gmemi_pagemap *map;
	uint64_t map_first;       /* the region's first page in it */
	struct gmemi_view *views; /* under the endpoint's index lock */
	atomic_uint claims;       /* the index's, and of those who remember it */
	bool own_map;             /* the map goes with the region */
	bool told;                /* another process has been told of it; under the index lock */
	_Atomic uint32_t busy;    /* calls under way that touch its pages, and GMEMI_GONE: none begins any more */
};

/* A memory, or all that is without a file here, as far as the endpoint watches it. */
struct gmemi_watched {
	struct gmemi_watch watch;
	struct gmem_uffd *uffd;
	struct gmem *mem;            /* NULL = without a file here */
	struct gmemi_table regions;  /* by offset; under the index lock */
	struct gmemi_claims content; /* for what has no memory to claim in */
	atomic_uint claims;          /* the memory's, and of calls under way */
};

struct gmemi_fault_counters {
	_Atomic uint64_t missing, minor, write, protect, removed, filled, zeroed, present, duplicate, poisoned, retries,
		source_errors, bytes, pending, throttled, latency[GMEM_LATENCY_BUCKETS];
};

#define GMEMI_BATCH 16
#define GMEMI_CHILDREN 64

/* Who hands the endpoint out, and tells another process of ranges that come and go. Called with no lock of the endpoint but one
 * that keeps the listener. */
struct gmemi_uffd_listener {
	int (*may_add)(struct gmemi_uffd_listener *listener); /* 0, or a code with a sentence */
	void (*added)(struct gmemi_uffd_listener *listener);  /* some that are not told yet */
	/* All that was told in this range; last: of the memory, or what has no file here. */
	void (*removed)(struct gmemi_uffd_listener *listener, const struct gmem *mem, uint64_t offset, uint64_t length,
			bool last);
};

/* Regions that were told, and are gone: from the first to the last of them. */
struct gmemi_untold {
	uint64_t start, end; /* equal = none */
	bool last;
};

struct gmem_uffd {
	struct gmem_vm *vm;
	int fd;
	atomic_uint claims;    /* the program's, one for each memory watched, and the pager's */
	atomic_uint users;     /* of these, the program's and the pager's */
	struct gmem **brought; /* memories that came with it: they go with the last user */
	uint32_t brought_count;
	bool user_mode, imported;
	atomic_bool owner_gone;
	atomic_uintptr_t server;       /* the pager that serves it, or the guard that hands it out */
	pthread_mutex_t listener_lock; /* guards the next, also while it is called */
	struct gmemi_uffd_listener *listener;
	pthread_mutex_t register_lock; /* held while regions come and go */
	struct gmemi_lock index_lock;  /* guards the tables, for a moment at a time */
	/* Entered from the look at the page map to the end of the kernel's call, and closed from reading an event to having marked
	 * what it says: whoever was told of pages that are given up may use them anew at once. */
	struct gmemi_gate events;
	struct gmemi_table views; /* by hva */
	struct gmemi_watched fileless;
	_Atomic uint64_t ranges, length;
	/* Changed with `events` closed. */
	struct uffdi_message batch[GMEMI_BATCH];
	uint32_t batch_next, batch_known, batch_count; /* told, and known to page maps and tables */
	uint64_t batch_at;                             /* of a message about a range: how far it has been told */
	int children[GMEMI_CHILDREN]; /* of owners that forked, where nothing can be poisoned: as long as they are open, nothing
					is zero */
	uint32_t child_count;
	struct gmemi_fault_counters counters;
};

/* fault.c */
int gmemi_uffd_check(const struct gmem_uffd *uffd);
void gmemi_uffd_claim(struct gmem_uffd *uffd);
void gmemi_uffd_release(struct gmem_uffd *uffd);
/* The same of who uses the endpoint, and not only watches a memory by it. */
void gmemi_uffd_hold(struct gmem_uffd *uffd);
void gmemi_uffd_let_go(struct gmem_uffd *uffd);
/* The memory goes with the endpoint from now on: -ENOMEM, and it is the caller's. One thread at a time. */
int gmemi_uffd_bring(struct gmem_uffd *uffd, struct gmem *mem);
uint64_t gmemi_uffd_remaining(struct gmem_uffd *uffd); /* bytes that are empty in the page map */
/* A search for pages that are empty: where it is, which each call takes on by so much that a fault can wait for it. Begins with
 * zeros. */
struct gmemi_search {
	uint64_t address, page; /* of the region, as gmemi_region_next() has it; in its page map, 0 = its first */
	bool whole;             /* it has begun at the beginning, and found none since */
};
enum gmemi_found { GMEMI_FOUND_NONE, GMEMI_FOUND_SOME, GMEMI_FOUND_NOT_YET };
enum gmemi_found gmemi_uffd_search_empty(struct gmem_uffd *uffd, struct gmemi_search *search);
/* The mark of the one pager that serves it: false = there is another. NULL gives it back. */
bool gmemi_uffd_serve(struct gmem_uffd *uffd, const void *server, const void *instead_of);
/* A fault was resolved so many nanoseconds after it was read. */
void gmemi_uffd_count_latency(struct gmem_uffd *uffd, uint64_t ns);
static inline void gmemi_count(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* fault_index.c: the caller holds the index lock, unless it says otherwise. */
void gmemi_table_end(struct gmemi_table *table);
int gmemi_index_add_view(struct gmem_uffd *uffd, struct gmemi_view *view);
void gmemi_index_remove_view(struct gmem_uffd *uffd, struct gmemi_view *view);
int gmemi_index_add_region(struct gmemi_watched *watched, struct gmemi_region *region);
void gmemi_index_remove_region(struct gmemi_watched *watched, struct gmemi_region *region);
/* Out of the index, no lock held: gives its mapping back. */
void gmemi_view_free(struct gmemi_view *view);
/* The first view that ends behind the address, NULL = none; it need not contain it. */
struct gmemi_view *gmemi_index_view(const struct gmem_uffd *uffd, uint64_t address);
/* The first region that ends behind the offset, NULL = none. */
struct gmemi_region *gmemi_index_region(const struct gmemi_watched *watched, uint64_t offset);
/* That of a memory, or NULL; no lock. It stays as long as the register lock is held. */
struct gmemi_watched *gmemi_index_watched(struct gmem_uffd *uffd, struct gmem *mem);
/* The same, and it stays until it is let go. */
struct gmemi_watched *gmemi_watched_hold(struct gmem_uffd *uffd, struct gmem *mem);
void gmemi_watched_let_go(struct gmemi_watched *watched);

/* To touch pages of a region: the one at `offset` of the memory, or NULL. Takes the lock itself. */
struct gmemi_region *gmemi_region_enter(struct gmem_uffd *uffd, struct gmemi_watched *watched, uint64_t offset);
/* The one that the owner has at this address. */
struct gmemi_region *gmemi_region_enter_at(struct gmem_uffd *uffd, uint64_t hva);
/* All of them in turn, each once, by their first views: begin with *address = 0; NULL = no more. */
struct gmemi_region *gmemi_region_next(struct gmem_uffd *uffd, uint64_t *address);
/* One that is remembered: false = it is gone. */
static inline bool gmemi_region_reenter(struct gmemi_region *region)
{
	uint32_t busy = atomic_load(&region->busy);

	while (!(busy & GMEMI_GONE)) /* who ends it sets that, and then waits for those who are in it */
		if (atomic_compare_exchange_weak(&region->busy, &busy, busy + 1))
			return true;
	return false;
}
static inline void gmemi_region_leave(struct gmemi_region *region)
{
	if (atomic_fetch_sub(&region->busy, 1) == (GMEMI_GONE | 1))
		gmemi_sys_wake(&region->busy); /* the address alone: it may be freed by now */
}
static inline void gmemi_region_claim(struct gmemi_region *region)
{
	atomic_fetch_add_explicit(&region->claims, 1, memory_order_relaxed);
}
void gmemi_region_release(struct gmemi_region *region);
static inline uint64_t gmemi_region_pages(const struct gmemi_region *region, uint64_t bytes)
{
	return bytes >> region->page_shift;
}
/* Pages of the region in the page map. */
static inline uint64_t gmemi_region_page(const struct gmemi_region *region, uint64_t offset)
{
	return region->map_first + gmemi_region_pages(region, offset - region->offset);
}

/* fault_kernel.c: each takes the pages of a region from `offset` on in all its views, as far as they have them, and makes
 * sure that whoever waits for them wakes. *done bytes without a gap. 0, -EAGAIN (the address space is changing), -ESRCH (the
 * owner is gone), or a code with a sentence. The region is entered. */
/* Maps what the file has; *done < length with -EFAULT: the file has nothing there. */
int gmemi_kernel_continue(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length,
			  uint64_t *done);
/* Makes pages of a buffer, or of zeros (data NULL), in one view, as far as it reaches; those that are there stay: *there counts them.
 * -ENOENT, without a sentence: the page behind *done is not mapped in the owner any more. */
int gmemi_kernel_copy(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length,
		      const unsigned char *data, uint64_t *done, uint64_t *there);
/* The same in a region with one view, up to the first page that is there (-EEXIST) or not mapped (-ENOENT): no sentence. */
int gmemi_kernel_copy_new(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length,
			  const unsigned char *data, uint64_t *done);
int gmemi_kernel_poison(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length, uint64_t *done);
int gmemi_kernel_protect(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length, bool on);
void gmemi_kernel_wake(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length);

/* fault_resolve.c: what is wanted of a range of one region, which is entered. Pages outside of `needed` that are discarded are
 * left as they are, and pages of zeros there become discarded instead of being made. */
struct gmemi_wanted {
	enum gmem_resolve how; /* DATA, ZERO, PRESENT or POISON */
	const unsigned char *data;
	uint64_t needed, needed_length;
	bool ages;    /* the content is of a source that was asked at `age` */
	uint64_t age; /* gmemi_content_age() */
	bool along;   /* ... but in a sequence of faults they are mapped all the same */
};
int gmemi_region_resolve(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length,
			 const struct gmemi_wanted *wanted, uint64_t *done);

/* fault_read.c */
/* Parts that were read and not told yet: the fd does not become readable for them. */
bool gmemi_uffd_has_untold(struct gmem_uffd *uffd);
int gmemi_uffd_read(struct gmem_uffd *uffd, struct gmem_fault *faults, uint32_t count);

/* fault_owner.c */
/* Whoever waits for any page of it tries again. */
void gmemi_uffd_wake_all(struct gmem_uffd *uffd);
/* NULL = nobody listens any more, and nobody is in it. */
void gmemi_uffd_listen(struct gmem_uffd *uffd, struct gmemi_uffd_listener *listener);
int gmemi_uffd_may_add(struct gmem_uffd *uffd);
void gmemi_uffd_tell_added(struct gmem_uffd *uffd);
void gmemi_uffd_tell_removed(struct gmem_uffd *uffd, const struct gmem *mem, const struct gmemi_untold *gone);
/* This region is about to go. */
void gmemi_untold_note(struct gmemi_untold *gone, const struct gmemi_region *region);
/* Has the process whose memory it watches not ended? True also where that cannot be found out. */
bool gmemi_uffd_owner_lives(struct gmem_uffd *uffd);

/* fault_strategy.c: of a region of this process, and of a peer's, of which nothing can be asked. */
int gmemi_region_choose_strategy(struct gmemi_region *region, struct gmem *mem, enum gmem_strategy wanted);
void gmemi_region_believe_strategy(struct gmemi_region *region, const struct gmem *mem, enum gmem_strategy wanted);

/* fault_unregister.c: the peer has given up these regions of its own, with what is mapped there: they are not remembered any
 * more. As gmem_uffd_unregister() otherwise. */
int gmemi_uffd_forget(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length);

/* fault_region.c: the register lock is held, but by gmemi_region_end() of what has no file here */
/* The memory's entry, made if there is none. */
int gmemi_watched_for(struct gmem_uffd *uffd, struct gmem *mem, struct gmemi_watched **watched);
void gmemi_watched_drop_if_unused(struct gmemi_watched *watched);
int gmemi_view_unregister(struct gmem_uffd *uffd, const struct gmemi_view *view);
void gmemi_views_free(struct gmemi_view *views);
/* Out of the index: no call on it begins any more, and none is under way. Its views are the caller's. */
struct gmemi_view *gmemi_region_take_out(struct gmem_uffd *uffd, struct gmemi_region *region);
/* Frees what the file has of pages in one state, and with it what is mapped of them, the guest's too. */
int gmemi_region_punch(struct gmemi_region *region, enum gmemi_page_state unwanted);
/* Lets a region go, whatever its pages are; close: first nobody can touch them any more. */
void gmemi_region_end(struct gmem_uffd *uffd, struct gmemi_region *region, bool close);

#endif
