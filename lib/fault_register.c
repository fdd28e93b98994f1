/* SPDX-License-Identifier: MIT */
/* Watching ranges of memory. */
#include "fault.h"

#include <sys/mman.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "range.h"
#include "sys.h"

#define LARGEST_PAGE (UINT64_C(1) << 30)

typedef unsigned long long ull;

static const char *why_not(const struct gmemi_region *region, int error)
{
	if (error == -EBUSY)
		return "another userfaultfd watches the mapping";
	return error == -EINVAL && region->protects
		       ? "GMEM_REGISTER_WRITE_PROTECT, of a kind of memory that this kernel cannot protect?"
		       : NULL;
}

static int register_view(struct gmem_uffd *uffd, const struct gmemi_view *view)
{
	const struct gmemi_region *region = view->region;
	struct uffdi_register call = { .start = view->hva, .length = view->length, .mode = UFFDI_REGISTER_MISSING };
	int r = gmemi_sys_advise((void *)(uintptr_t)view->hva, view->length, MADV_DONTFORK);

	if (r < 0)
		return gmemi_failed(r, "madvise(MADV_DONTFORK)", NULL);
	call.mode |= (region->minor ? UFFDI_REGISTER_MINOR : 0) | (region->protects ? UFFDI_REGISTER_WP : 0);
	r = gmemi_sys_ioctl(uffd->fd, UFFDI_REGISTER, &call);
	return r < 0 ? gmemi_failed(r, "UFFDIO_REGISTER", why_not(region, r)) : 0;
}

static int check_new(const struct gmem_uffd *uffd, const struct gmemi_watched *watched, const struct gmemi_region *wanted,
		     uint64_t hva)
{
	const struct gmemi_region *other = gmemi_index_region(watched, wanted->offset);
	const struct gmemi_view *view = wanted->peer ? gmemi_index_view(uffd, hva) : NULL;

	if (other && other->offset < wanted->offset + wanted->length)
		return gmemi_refuse(-EEXIST, "a part of the range is watched already, from 0x%llx on", (ull)other->offset);
	if (view && view->hva < hva + wanted->length)
		return gmemi_refuse(-EEXIST, "the addresses overlap those of another region, from 0x%llx on", (ull)view->hva);
	return 0;
}

static int add_region(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t hva)
{
	int r;

	gmemi_lock(&uffd->index_lock);
	r = check_new(uffd, region->watched, region, hva);
	if (r == 0)
		r = gmemi_index_add_region(region->watched, region);
	gmemi_unlock(&uffd->index_lock);
	if (r < 0)
		return r;
	atomic_fetch_add(&uffd->ranges, 1);
	atomic_fetch_add(&uffd->length, region->length);
	return 0;
}

static int add_view(struct gmem_uffd *uffd, struct gmemi_region *region, const struct gmemi_view *wanted)
{
	struct gmemi_view *view = gmemi_alloc(1, sizeof(*view));
	int r;

	if (!view)
		return -ENOMEM;
	*view = *wanted;
	view->region = region;
	gmemi_lock(&uffd->index_lock);
	r = gmemi_index_add_view(uffd, view);
	gmemi_unlock(&uffd->index_lock);
	if (r < 0)
		gmemi_free(view);
	return r;
}

/* The part of the region that a mapping has; the hold on it is the view's from then on. */
static int watch_mapping(struct gmem_uffd *uffd, struct gmemi_region *region, struct gmemi_mapping *m)
{
	struct gmemi_view view = { .region = region, .mapping = m };
	int r;

	view.offset = m->offset > region->offset ? m->offset : region->offset;
	view.length = gmemi_min(m->offset + m->length, region->offset + region->length) - view.offset;
	view.hva = (uintptr_t)gmemi_mapping_at(m, view.offset);
	r = add_view(uffd, region, &view);
	if (r < 0) {
		gmemi_mapping_drop(region->watched->mem, m);
		return r;
	}
	return register_view(uffd, &view);
}

static int watch_mappings(struct gmem_uffd *uffd, struct gmemi_region *region)
{
	struct gmem *mem = region->watched->mem;
	struct gmemi_mapping **mappings;
	uint32_t count;
	int r = gmemi_mapping_hold_all(mem, region->offset, region->length, &mappings, &count);

	if (r < 0)
		return r;
	if (count > 1)
		atomic_store(&region->copies, false);
	for (uint32_t i = 0; i < count; i++) {
		if (r == 0)
			r = watch_mapping(uffd, region, mappings[i]);
		else
			gmemi_mapping_drop(mem, mappings[i]);
	}
	gmemi_free(mappings);
	return r;
}

static int watch_region(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t hva)
{
	struct gmemi_view view = { .hva = hva, .offset = region->offset, .length = region->length };
	int r;

	if (region->peer)
		return add_view(uffd, region, &view);
	r = watch_mappings(uffd, region);
	return r < 0 ? r
		     : gmemi_region_punch(region,
					  GMEMI_PAGE_EMPTY); /* those of a prefault are mapped, and would raise no fault */
}

static int set_up_map(struct gmemi_region *region, const struct gmem *mem)
{
	if (mem) {
		region->map = mem->map;
		region->map_first = gmemi_region_pages(region, region->offset);
		return 0;
	}
	region->own_map = true;
	return gmemi_pagemap_create_here(gmemi_region_pages(region, region->length), &region->map);
}

/* Where the guest has it, if all of it is in one memslot. */
static uint64_t gpa_of(struct gmem *mem, uint64_t offset, uint64_t length)
{
	uint64_t rest = length;
	struct gmemi_bound bound = gmemi_slot_at(mem, offset, &rest);

	return bound.length >= length ? bound.gpa : UINT64_MAX;
}

static struct gmemi_region *new_region(struct gmem *mem, uint64_t offset, uint64_t length,
				       const struct gmem_uffd_register_opts *opts)
{
	struct gmemi_region *region = gmemi_alloc(1, sizeof(*region));

	if (!region)
		return NULL;
	region->offset = offset;
	region->length = length;
	region->content = opts->flags & GMEM_REGISTER_CONTENT ? opts->content : offset;
	region->page_size = mem ? mem->page_size : opts->page_size;
	region->page_shift = (uint32_t)__builtin_ctzll(region->page_size);
	region->protects = opts->flags & GMEM_REGISTER_WRITE_PROTECT;
	region->peer = opts->flags & GMEM_REGISTER_BY_PEER;
	region->gpa = region->peer ? opts->gpa : gpa_of(mem, offset, length);
	atomic_init(&region->claims, 1);
	if (set_up_map(region, mem) < 0) {
		gmemi_free(region);
		return NULL;
	}
	return region;
}

/* A registration that failed half-way: everything as before. */
static void undo(struct gmem_uffd *uffd, struct gmemi_region *region)
{
	struct gmemi_view *views = gmemi_region_take_out(uffd, region);

	for (const struct gmemi_view *view = views; view && !region->peer; view = view->next)
		(void)gmemi_view_unregister(uffd, view); /* fails for the one that could not be registered */
	gmemi_views_free(views);
	gmemi_region_release(region);
}

static int enlist(struct gmem_uffd *uffd, struct gmem *mem, struct gmemi_region *region, uint64_t hva)
{
	int r = gmemi_watched_for(uffd, mem, &region->watched);

	if (r < 0)
		return r;
	r = add_region(uffd, region, hva);
	if (r < 0)
		gmemi_watched_drop_if_unused(region->watched);
	return r;
}

static int do_register(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length,
		       const struct gmem_uffd_register_opts *opts)
{
	struct gmemi_region *region = new_region(mem, offset, length, opts);
	struct gmemi_watched *watched;
	int r = 0;

	if (!region)
		return -ENOMEM;
	if (region->peer)
		gmemi_region_believe_strategy(region, mem, (enum gmem_strategy)opts->strategy);
	else
		r = gmemi_region_choose_strategy(region, mem, (enum gmem_strategy)opts->strategy);
	if (r == 0 && mem)
		r = gmemi_fill_begin(&region->fill, mem, 0, false);
	if (r == 0)
		r = enlist(uffd, mem, region, opts->hva);
	if (r < 0) {
		gmemi_region_release(region);
		return r;
	}
	watched = region->watched;
	r = watch_region(uffd, region, opts->hva);
	if (r < 0) {
		undo(uffd, region);
		gmemi_watched_drop_if_unused(watched);
	}
	return r;
}

static int check_peer(const struct gmem_uffd *uffd, const struct gmem *mem, uint64_t length,
		      struct gmem_uffd_register_opts *opts)
{
	bool peer = opts->flags & GMEM_REGISTER_BY_PEER;
	uint64_t align = mem ? mem->page_size : opts->page_size;

	if (!mem && !peer)
		return gmemi_refuse(-EINVAL, "mem is NULL, without GMEM_REGISTER_BY_PEER");
	if (peer != uffd->imported)
		return gmemi_refuse(-EBADFD, peer ? "GMEM_REGISTER_BY_PEER is for endpoints that gmem_uffd_import() took over"
						  : "the endpoint is another process's: GMEM_REGISTER_BY_PEER is missing");
	if (!peer && (opts->hva || opts->gpa))
		return gmemi_refuse(-EINVAL, "opts->hva and opts->gpa are for GMEM_REGISTER_BY_PEER");
	if (peer && (!gmemi_aligned(opts->hva, align) || opts->hva > UINT64_MAX - length))
		return gmemi_refuse(-EINVAL, "opts->hva 0x%llx is not a multiple of the page size, or leaves no room",
				    (ull)opts->hva);
	return 0;
}

static int check_page_size(const struct gmem *mem, struct gmem_uffd_register_opts *opts)
{
	uint64_t least = gmemi_sys_page_size();

	if (mem && opts->page_size)
		return gmemi_refuse(-EINVAL, "opts->page_size is for memory without a file here");
	if (!opts->page_size)
		opts->page_size = least;
	if (opts->page_size < least || opts->page_size > LARGEST_PAGE || opts->page_size & (opts->page_size - 1))
		return gmemi_refuse(-EINVAL, "opts->page_size 0x%llx is no page size", (ull)opts->page_size);
	return 0;
}

static int check_opts(const struct gmem *mem, uint64_t length, struct gmem_uffd_register_opts *opts)
{
	int r = gmemi_opts_flags(opts->flags, GMEM_REGISTER_WRITE_PROTECT | GMEM_REGISTER_BY_PEER | GMEM_REGISTER_CONTENT,
				 "opts->flags");

	if (r == 0)
		r = gmemi_opts_reserved(opts->reserved);
	if (r == 0)
		r = check_page_size(mem, opts);
	if (r < 0)
		return r;
	if (opts->strategy > GMEM_STRATEGY_COPY)
		return gmemi_refuse(-EINVAL, "opts->strategy %u is unknown", opts->strategy);
	if (!mem && opts->strategy == GMEM_STRATEGY_FILL)
		return gmemi_refuse(-EINVAL, "GMEM_STRATEGY_FILL needs a file to fill");
	if (opts->content && !(opts->flags & GMEM_REGISTER_CONTENT))
		return gmemi_refuse(-EINVAL, "opts->content is set, without GMEM_REGISTER_CONTENT");
	if (opts->content > UINT64_MAX - length)
		return gmemi_refuse(-EINVAL, "opts->content + length wraps around");
	return 0;
}

static int check_memory(const struct gmem_uffd *uffd, const struct gmem *mem)
{
	int r = mem ? gmemi_memory_check(mem) : 0;

	if (r < 0 || !mem)
		return r;
	if (mem->vm != uffd->vm)
		return gmemi_refuse(-EINVAL, "the memory is of another VM than the endpoint");
	return mem->map ? 0 : gmemi_refuse(-EBADFD, "the memory has no page map: make it with GMEM_NEED_LAZY");
}

int gmem_uffd_register(struct gmem_uffd *uffd, struct gmem *mem, uint64_t offset, uint64_t length,
		       const struct gmem_uffd_register_opts *opts)
{
	struct gmem_uffd_register_opts o;
	int r;

	GMEMI_CALL();
	r = gmemi_uffd_check(uffd);
	if (r == 0)
		r = check_memory(uffd, mem);
	if (r == 0)
		r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = check_opts(mem, length, &o);
	if (r == 0)
		r = gmemi_range_check(offset, length, mem ? mem->page_size : o.page_size, mem ? mem->length : UINT64_MAX);
	if (r == 0)
		r = check_peer(uffd, mem, length, &o);
	if (r == 0)
		r = gmemi_uffd_may_add(uffd);
	if (r < 0)
		return r;
	pthread_mutex_lock(&uffd->register_lock);
	r = do_register(uffd, mem, offset, length, &o);
	pthread_mutex_unlock(&uffd->register_lock);
	if (r == 0)
		gmemi_uffd_tell_added(uffd);
	return r;
}
