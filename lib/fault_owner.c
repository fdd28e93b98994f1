/* SPDX-License-Identifier: MIT */
/* What is asked and told of an endpoint as a whole. */
#include "fault.h"

#include <sys/mman.h>

#include "err.h"
#include "sys.h"

/* Where the first mapping from an address on is: false = there is none any more. */
static bool next_view(struct gmem_uffd *uffd, uint64_t address, struct uffdi_range *range)
{
	const struct gmemi_view *view;

	gmemi_lock(&uffd->index_lock);
	view = gmemi_index_view(uffd, address);
	if (view)
		*range = (struct uffdi_range){ .start = view->hva, .length = view->length };
	gmemi_unlock(&uffd->index_lock);
	return view;
}

void gmemi_uffd_wake_all(struct gmem_uffd *uffd)
{
	struct uffdi_range range = { 0 };

	while (next_view(uffd, range.start + range.length, &range))
		(void)gmemi_sys_ioctl(uffd->fd, UFFDI_WAKE, &range); /* what is not watched there any more has nobody waiting */
}

/* The kernel is asked to copy a page from where nothing can be read. It looks for the owner first, and does nothing in any
 * case. */
bool gmemi_uffd_owner_lives(struct gmem_uffd *uffd)
{
	uint64_t page = gmemi_sys_page_size();
	struct uffdi_copy call = { .length = page };
	struct uffdi_range range;
	void *nothing;
	int r;

	if (atomic_load(&uffd->owner_gone))
		return false;
	if (!next_view(uffd, 0, &range) ||
	    gmemi_sys_map(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &nothing) < 0)
		return true;
	call.to = range.start;
	call.from = (uintptr_t)nothing;
	r = gmemi_sys_ioctl(uffd->fd, UFFDI_COPY, &call);
	(void)gmemi_sys_unmap(nothing, page);
	if (r == -ESRCH)
		atomic_store(&uffd->owner_gone, true);
	return r != -ESRCH;
}

/* --- who hands it out --------------------------------------------------------------------------------------------------- */

void gmemi_uffd_listen(struct gmem_uffd *uffd, struct gmemi_uffd_listener *listener)
{
	pthread_mutex_lock(&uffd->listener_lock);
	uffd->listener = listener;
	pthread_mutex_unlock(&uffd->listener_lock);
}

int gmemi_uffd_may_add(struct gmem_uffd *uffd)
{
	int r = 0;

	pthread_mutex_lock(&uffd->listener_lock);
	if (uffd->listener)
		r = uffd->listener->may_add(uffd->listener);
	pthread_mutex_unlock(&uffd->listener_lock);
	return r;
}

void gmemi_uffd_tell_added(struct gmem_uffd *uffd)
{
	pthread_mutex_lock(&uffd->listener_lock);
	if (uffd->listener)
		uffd->listener->added(uffd->listener);
	pthread_mutex_unlock(&uffd->listener_lock);
}

void gmemi_uffd_tell_removed(struct gmem_uffd *uffd, const struct gmem *mem, const struct gmemi_untold *gone)
{
	pthread_mutex_lock(&uffd->listener_lock);
	if (uffd->listener && gone->end > gone->start)
		uffd->listener->removed(uffd->listener, mem, gone->start, gone->end - gone->start, gone->last);
	pthread_mutex_unlock(&uffd->listener_lock);
}

void gmemi_untold_note(struct gmemi_untold *gone, const struct gmemi_region *region)
{
	bool told;

	gmemi_lock(&region->watched->uffd->index_lock);
	told = region->told;
	gmemi_unlock(&region->watched->uffd->index_lock);
	if (!told)
		return;
	if (gone->end == gone->start || region->offset < gone->start)
		gone->start = region->offset;
	if (region->offset + region->length > gone->end)
		gone->end = region->offset + region->length;
}
