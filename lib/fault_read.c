/* SPDX-License-Identifier: MIT */
/* Reading events: what the kernel says of addresses becomes what happened to pages. */
#include "fault.h"

#include <fcntl.h>

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "sys.h"

/* An endpoint made elsewhere may have been made to block by whoever else has it. Old kernels cannot be told for one call. */
static int64_t read_messages(const struct gmem_uffd *uffd, struct uffdi_message *messages, uint32_t count)
{
	int64_t r;
	int flags;

	if (!uffd->imported)
		return gmemi_sys_read(uffd->fd, messages, count * sizeof(*messages));
	r = gmemi_sys_read_now(uffd->fd, messages, count * sizeof(*messages));
	if (r != -EOPNOTSUPP)
		return r;
	flags = gmemi_sys_open_flags(uffd->fd);
	if (flags >= 0 && !(flags & O_NONBLOCK))
		flags = gmemi_sys_set_flags(uffd->fd, flags | O_NONBLOCK);
	return flags < 0 ? flags : gmemi_sys_read(uffd->fd, messages, count * sizeof(*messages));
}

/* 1 = there is a message at batch_next, 0 = none now. No more than are asked for: what the kernel still has keeps the fd
 * readable. */
static int next_message(struct gmem_uffd *uffd, uint32_t most)
{
	int64_t r;

	if (uffd->batch_next < uffd->batch_count)
		return 1;
	uffd->batch_next = uffd->batch_known = uffd->batch_count = 0;
	uffd->batch_at = 0;
	r = read_messages(uffd, uffd->batch, most < GMEMI_BATCH ? most : GMEMI_BATCH);
	if (r == -EAGAIN || r == 0)
		return 0;
	if (r < 0)
		return gmemi_failed((int)r, "reading the userfaultfd", NULL);
	uffd->batch_count = (uint32_t)((uint64_t)r / sizeof(*uffd->batch));
	return uffd->batch_count != 0;
}

static void message_done(struct gmem_uffd *uffd)
{
	uffd->batch_next++;
	uffd->batch_at = 0;
}

/* What is common to all events about a range of a view. */
static struct gmem_fault describe(const struct gmemi_view *view, uint64_t hva, uint64_t length, enum gmem_fault_kind kind)
{
	const struct gmemi_region *region = view->region;
	uint64_t offset = view->offset + (hva - view->hva), in_region = offset - region->offset;

	return (struct gmem_fault){
		.mem = region->watched->mem,
		.offset = offset,
		.length = length,
		.content = region->content + in_region,
		.hva = hva,
		.gpa = region->gpa == UINT64_MAX ? UINT64_MAX : region->gpa + in_region,
		.kind = kind,
	};
}

/* --- page faults ------------------------------------------------------------------------------------------------------ */

static void count_fault(struct gmem_uffd *uffd, uint64_t flags)
{
	struct gmemi_fault_counters *c = &uffd->counters;

	if (flags & UFFDI_FAULT_WP) {
		gmemi_count(&c->protect, 1);
		return;
	}
	gmemi_count(flags & UFFDI_FAULT_MINOR ? &c->minor : &c->missing, 1);
	if (flags & UFFDI_FAULT_WRITE)
		gmemi_count(&c->write, 1);
}

static uint64_t flags_of(uint64_t flags)
{
	return (flags & UFFDI_FAULT_WRITE ? GMEM_FAULT_WRITE : 0) | (flags & UFFDI_FAULT_MINOR ? GMEM_FAULT_MINOR : 0);
}

/* Of a place that is not watched any more: whoever waits there finds out by himself. */
static bool tell_nobody(struct gmem_uffd *uffd, uint64_t address)
{
	struct uffdi_range range = { .length = gmemi_sys_page_size() };

	range.start = gmemi_round_down(address, range.length);
	(void)gmemi_sys_ioctl(uffd->fd, UFFDI_WAKE, &range);
	return false;
}

static bool take_fault(struct gmem_uffd *uffd, const struct uffdi_message *message, struct gmem_fault *fault)
{
	enum gmem_fault_kind kind = message->fault.flags & UFFDI_FAULT_WP ? GMEM_FAULT_PROTECTED : GMEM_FAULT_PAGE;
	uint64_t address = message->fault.address;
	const struct gmemi_view *view;

	gmemi_lock(&uffd->index_lock);
	view = gmemi_index_view(uffd, address);
	if (view && view->hva <= address) {
		uint64_t size = view->region->page_size;

		*fault = describe(view, view->hva + gmemi_round_down(address - view->hva, size), size, kind);
		gmemi_pagemap_prefetch(view->region->map, gmemi_region_page(view->region, fault->offset));
		fault->flags = flags_of(message->fault.flags);
		fault->thread = message->fault.thread;
	} else {
		view = NULL;
	}
	gmemi_unlock(&uffd->index_lock);
	count_fault(uffd, message->fault.flags);
	return view ? true : tell_nobody(uffd, address);
}

/* --- ranges that are given up, unmapped or moved ---------------------------------------------------------------------- */

/* The part of [start, end) that the first view in it has: false = none any more. The lock is held. */
static bool first_part(struct gmem_uffd *uffd, uint64_t start, uint64_t end, struct gmemi_view **view, uint64_t *from,
		       uint64_t *length)
{
	*view = gmemi_index_view(uffd, start);
	if (start >= end || !*view || (*view)->hva >= end)
		return false;
	*from = (*view)->hva > start ? (*view)->hva : start;
	*length = gmemi_min(end, (*view)->hva + (*view)->length) - *from;
	return true;
}

/* Of a huge page that is given up in part the kernel clears that part, and it goes on to be what it was. */
static void whole_pages(const struct gmemi_view *view, uint64_t *from, uint64_t *length)
{
	uint64_t size = view->region->page_size, first = *from - view->hva, end = gmemi_round_down(first + *length, size);

	first = gmemi_round_down(first + size - 1, size);
	*from = view->hva + first;
	*length = end > first ? end - first : 0;
}

/* Zeros from now on, before anybody hears of it: the part at *start, which goes on behind it. False = there is none. */
static bool mark_removed(struct gmem_uffd *uffd, uint64_t *start, uint64_t end)
{
	uint64_t from, length, offset;
	struct gmemi_view *view;
	bool found;

	gmemi_lock(&uffd->index_lock);
	found = first_part(uffd, *start, end, &view, &from, &length);
	if (found) {
		*start = from + length;
		whole_pages(view, &from, &length);
		offset = view->offset + (from - view->hva);
		gmemi_pagemap_set(view->region->map, gmemi_region_page(view->region, offset), gmemi_region_pages(view->region, length),
				  GMEMI_PAGE_DISCARDED);
		gmemi_count(&uffd->counters.removed, length);
	}
	gmemi_unlock(&uffd->index_lock);
	return found;
}

/* A part of a view becomes a view of its own, from `hva` on. */
static int split(struct gmem_uffd *uffd, struct gmemi_view *view, uint64_t hva)
{
	struct gmemi_view *rest;
	uint64_t before = hva - view->hva;
	int r;

	if (before == 0 || before >= view->length)
		return 0;
	rest = gmemi_alloc(1, sizeof(*rest));
	if (!rest)
		return -ENOMEM;
	*rest = (struct gmemi_view){
		.region = view->region, .hva = hva, .offset = view->offset + before, .length = view->length - before
	};
	view->length = before;
	r = gmemi_index_add_view(uffd, rest);
	if (r < 0) {
		view->length += rest->length;
		gmemi_free(rest);
	}
	return r;
}

/* Cuts the view so that [from, from + length) is one by itself. */
static int cut_out(struct gmem_uffd *uffd, struct gmemi_view **view, uint64_t from, uint64_t length)
{
	int r = split(uffd, *view, from);

	if (r < 0)
		return r;
	*view = gmemi_index_view(uffd, from);
	return split(uffd, *view, from + length);
}

/* All of it, before anybody hears of a part. */
static int move(struct gmem_uffd *uffd, uint64_t start, uint64_t end, uint64_t to)
{
	struct gmemi_view *view;
	uint64_t from, length;
	int r = 0;

	gmemi_lock(&uffd->index_lock);
	while (r == 0 && first_part(uffd, start, end, &view, &from, &length)) {
		r = cut_out(uffd, &view, from, length);
		if (r < 0)
			break;
		gmemi_index_remove_view(uffd, view);
		view->hva = to + (from - start);
		r = gmemi_index_add_view(uffd, view); /* it has just left a place */
	}
	gmemi_unlock(&uffd->index_lock);
	return r;
}

/* 1 = told, 0 = nothing there any more. */
static int take_unmapped(struct gmem_uffd *uffd, uint64_t start, uint64_t end, struct gmem_fault *fault)
{
	struct gmemi_view *view;
	uint64_t from, length;
	int r = 0;

	gmemi_lock(&uffd->index_lock);
	if (first_part(uffd, start, end, &view, &from, &length)) {
		r = cut_out(uffd, &view, from, length);
		if (r == 0) {
			*fault = describe(view, from, length, GMEM_FAULT_UNMAPPED);
			gmemi_index_remove_view(uffd, view);
			r = 1;
		}
	}
	gmemi_unlock(&uffd->index_lock);
	if (r == 1)
		gmemi_view_free(view);
	return r;
}

/* Of what has been marked or moved already. */
static int tell_part(struct gmem_uffd *uffd, uint64_t start, uint64_t end, enum gmem_fault_kind kind, struct gmem_fault *fault)
{
	struct gmemi_view *view;
	uint64_t from, length = 0;

	gmemi_lock(&uffd->index_lock);
	while (length == 0 && first_part(uffd, start, end, &view, &from, &length)) {
		start = from + length;
		whole_pages(view, &from, &length);
		if (length)
			*fault = describe(view, from, length, kind);
	}
	gmemi_unlock(&uffd->index_lock);
	return length != 0;
}

/* --- fork ------------------------------------------------------------------------------------------------------------- */

/* In the child, what is not there yet must not become zeros: it is made to fail. */
static int poison_empty(int child, const struct gmemi_view *view)
{
	const struct gmemi_region *region = view->region;
	uint64_t page = gmemi_region_page(region, view->offset), end = page + gmemi_region_pages(region, view->length);
	uint64_t hva = view->hva;
	int r = 0;

	while (r == 0 && page < end) {
		enum gmemi_page_state state;
		uint64_t run = gmemi_pagemap_run(region->map, page, end, &state);
		struct uffdi_resolve call = { .start = hva, .length = run * region->page_size };

		if (state == GMEMI_PAGE_EMPTY)
			r = gmemi_sys_ioctl(child, UFFDI_POISON, &call);
		hva += call.length;
		page += run;
	}
	return r;
}

static int poison_child(struct gmem_uffd *uffd, int child)
{
	int r = 0;

	gmemi_lock(&uffd->index_lock);
	for (size_t i = 0; r == 0 && i < uffd->views.count; i++)
		r = poison_empty(child, uffd->views.items[i]);
	gmemi_unlock(&uffd->index_lock);
	return r;
}

/* The child's endpoint: either its pages are poisoned, or it is kept, and whoever touches them waits. */
static int take_forked(struct gmem_uffd *uffd, int child, struct gmem_fault *fault)
{
	int r = poison_child(uffd, child);

	*fault = (struct gmem_fault){ .hva = 0, .gpa = UINT64_MAX, .kind = GMEM_FAULT_FORKED };
	if (r == 0 || r == -ESRCH) {
		gmemi_sys_close(child);
		return 1;
	}
	if (uffd->child_count == GMEMI_CHILDREN)
		return gmemi_refuse(-EMFILE,
				    "the owner has forked more than %d times, and this kernel cannot poison pages (6.6)",
				    GMEMI_CHILDREN);
	uffd->children[uffd->child_count++] = gmemi_sys_raised(child);
	return 1;
}

/* --- messages --------------------------------------------------------------------------------------------------------- */

/* What the kernel goes on with as soon as it has been read is known to maps and tables before anybody is told of it. */
static int learn(struct gmem_uffd *uffd, const struct uffdi_message *message)
{
	uint64_t start = message->range.start;

	if (message->event == UFFDI_EVENT_REMAP)
		return move(uffd, message->remap.from, message->remap.from + message->remap.length, message->remap.to);
	while (message->event == UFFDI_EVENT_REMOVE && mark_removed(uffd, &start, message->range.end))
		;
	return 0;
}

static int learn_all(struct gmem_uffd *uffd)
{
	int r = 0;

	while (r == 0 && uffd->batch_known < uffd->batch_count) {
		r = learn(uffd, &uffd->batch[uffd->batch_known]);
		if (r == 0)
			uffd->batch_known++;
	}
	return r;
}

/* A range is told view by view. 1 = *fault is set, 0 = the message is done. */
static int take_range(struct gmem_uffd *uffd, const struct uffdi_message *message, struct gmem_fault *fault)
{
	bool moved = message->event == UFFDI_EVENT_REMAP;
	uint64_t start = moved ? message->remap.to : message->range.start;
	uint64_t end = moved ? start + message->remap.length : message->range.end;
	uint64_t at = start + uffd->batch_at;
	int r;

	if (at >= end)
		return 0;
	if (message->event == UFFDI_EVENT_UNMAP)
		r = take_unmapped(uffd, at, end, fault);
	else
		r = tell_part(uffd, at, end, moved ? GMEM_FAULT_MOVED : GMEM_FAULT_REMOVED, fault);
	if (r == 1)
		uffd->batch_at = fault->hva - start + fault->length;
	return r;
}

/* 1 = *fault is set, 0 = nothing to tell of it (any more). */
static int take(struct gmem_uffd *uffd, struct gmem_fault *fault)
{
	const struct uffdi_message *message = &uffd->batch[uffd->batch_next];
	int r = 0;

	switch (message->event) {
	case UFFDI_EVENT_PAGEFAULT:
		r = take_fault(uffd, message, fault);
		message_done(uffd);
		return r;
	case UFFDI_EVENT_FORK:
		r = take_forked(uffd, (int)message->fork.fd, fault);
		if (r == 1)
			message_done(uffd);
		return r;
	case UFFDI_EVENT_REMAP:
	case UFFDI_EVENT_REMOVE:
	case UFFDI_EVENT_UNMAP:
		r = take_range(uffd, message, fault);
		break;
	default: /* of a kernel to come, for a feature that was not asked for */
		break;
	}
	if (r == 0)
		message_done(uffd);
	return r;
}

int gmemi_uffd_read(struct gmem_uffd *uffd, struct gmem_fault *faults, uint32_t count)
{
	uint32_t got = 0;
	int r = 1;

	gmemi_gate_close(&uffd->events);
	while (r == 1 && got < count) { /* one read() of the kernel is enough: what comes meanwhile keeps the fd readable */
		r = got && uffd->batch_next == uffd->batch_count ? 0 : next_message(uffd, count - got);
		if (r != 1)
			break;
		r = learn_all(uffd);
		if (r == 0 || uffd->batch_next < uffd->batch_known)
			r = take(uffd, &faults[got]);
		if (r == 1)
			got++;
		else if (r == 0)
			r = 1;
	}
	gmemi_gate_open(&uffd->events);
	if (got)
		gmemi_tolerated();
	return got ? (int)got : r;
}

bool gmemi_uffd_has_untold(struct gmem_uffd *uffd)
{
	bool untold;

	gmemi_gate_enter(&uffd->events);
	untold = uffd->batch_next < uffd->batch_count;
	gmemi_gate_leave(&uffd->events);
	return untold;
}

int gmem_uffd_read(struct gmem_uffd *uffd, struct gmem_fault *faults, uint32_t count)
{
	int r;

	GMEMI_CALL();
	r = gmemi_uffd_check(uffd);
	if (r < 0)
		return r;
	if (!faults || !count)
		return gmemi_refuse(-EINVAL, faults ? "count is 0" : "faults is NULL");
	return gmemi_uffd_read(uffd, faults, count);
}
