/* SPDX-License-Identifier: MIT */
/* The kernel's resolving calls, with all the ways in which they do a part. Semantics: mm/userfaultfd.c, fs/userfaultfd.c. */
#include "fault.h"

#include "err.h"
#include "range.h"
#include "sys.h"

#define UNTOUCHED INT64_MIN       /* no answer of any kernel: one that fails early leaves the field as it was */
#define REACH (UINT64_C(1) << 30) /* bytes that one call is asked for, at most */

/* One call of the kernel over [start, start + length). Its own result; *did what it says that it has done. */
struct attempt {
	struct gmem_uffd *uffd;
	unsigned long request;
	const unsigned char *from; /* UFFDIO_COPY */
	int (*once)(const struct attempt *attempt, uint64_t start, uint64_t length, int64_t *did);
	const char *name;
	bool fresh;      /* a page that is there ends it: -EEXIST */
	bool minds_gone; /* -ENOENT ends it: what is made is remembered, and nothing was made there */
};

static int resolve_once(const struct attempt *attempt, uint64_t start, uint64_t length, int64_t *did)
{
	struct uffdi_resolve call = { .start = start, .length = length, .result = UNTOUCHED };
	int r = gmemi_sys_ioctl(attempt->uffd->fd, attempt->request, &call);

	*did = call.result;
	return r;
}

static int copy_once(const struct attempt *attempt, uint64_t start, uint64_t length, int64_t *did)
{
	struct uffdi_copy call = { .to = start, .from = (uintptr_t)attempt->from, .length = length, .result = UNTOUCHED };
	int r = gmemi_sys_ioctl(attempt->uffd->fd, UFFDI_COPY, &call);

	*did = call.result;
	return r;
}

static void wake(struct gmem_uffd *uffd, uint64_t start, uint64_t length)
{
	struct uffdi_range range = { .start = start, .length = length };

	(void)gmemi_sys_ioctl(uffd->fd, UFFDI_WAKE, &range); /* fails for what is not a range alone */
}

/* How much of what was asked for is done, of a call that returned r: a part only comes with EAGAIN. */
static uint64_t progress(int r, int64_t did, uint64_t asked)
{
	if (r == 0)
		return asked;
	return r == -EAGAIN && did > 0 ? gmemi_min((uint64_t)did, asked) : 0;
}

/* What a failure at a page, or at a longer range, means. 0 = go on behind *skip bytes, which are dealt with (*there: because
 * they were); *length may be cut to try a shorter range instead. */
static int judge(const struct attempt *attempt, int r, uint64_t start, uint64_t page, uint64_t *length, uint64_t *skip,
		 uint64_t *there)
{
	*skip = 0;
	switch (r) {
	case -EEXIST: /* the first page is there: whoever waits for it may not have heard */
		if (attempt->fresh)
			return r;
		wake(attempt->uffd, start, page);
		*skip = page;
		*there += page;
		return 0;
	case -ENOENT: /* not one range of the kernel's: two neighbours, or gone */
		if (*length > page)
			*length = gmemi_round_down(*length / 2 + page - 1, page);
		else if (attempt->minds_gone)
			return r;
		else
			*skip = page;
		return 0;
	case -ESRCH:
		atomic_store(&attempt->uffd->owner_gone, true);
		return gmemi_failed(r, attempt->name, "the process whose memory it is has ended");
	case -EAGAIN:
		return gmemi_failed(r, attempt->name, "the address space is changing: read events");
	default:
		return gmemi_failed(r < 0 ? r : -EIO, attempt->name, NULL);
	}
}

/* Over a range of addresses. *done bytes from the start on. */
static int attempt_all(struct attempt *attempt, uint64_t start, uint64_t length, uint64_t page, uint64_t *done, uint64_t *there)
{
	uint64_t asked = length;
	int r = 0;

	*done = 0;
	while (r == 0 && *done < length) {
		uint64_t skip = 0, did;
		int64_t said;

		asked = gmemi_min(gmemi_min(asked, REACH), length - *done);
		r = attempt->once(attempt, start + *done, asked, &said);
		did = progress(r, said, asked);
		if (did == 0)
			r = judge(attempt, r, start + *done, page, &asked, &skip, there);
		else
			r = 0;
		if (did == 0 && skip)
			did = skip;
		*done += did;
		if (attempt->from)
			attempt->from += did;
		if (did)
			asked = length - *done; /* a cut was for that place */
	}
	return r;
}

/* What a view has of a range. */
struct part {
	uint64_t offset, length, hva;
	bool more; /* another view has something too */
};

static const struct gmemi_view *first_over(const struct gmemi_view *view, uint64_t offset, uint64_t length)
{
	while (view && !gmemi_range_overlaps(view->offset, view->length, offset, length))
		view = view->next;
	return view;
}

/* Number `index` of them: false past the last. */
static bool part_of(struct gmem_uffd *uffd, const struct gmemi_region *region, uint32_t index, uint64_t offset, uint64_t length,
		    struct part *part)
{
	const struct gmemi_view *view;

	gmemi_lock(&uffd->index_lock);
	view = first_over(region->views, offset, length);
	while (view && index--)
		view = first_over(view->next, offset, length);
	if (view) {
		part->offset = view->offset > offset ? view->offset : offset;
		part->length = gmemi_min(offset + length, view->offset + view->length) - part->offset;
		part->hva = view->hva + (part->offset - view->offset);
		part->more = first_over(view->next, offset, length) != NULL;
	}
	gmemi_unlock(&uffd->index_lock);
	return view;
}

/* In every view. With several of them nothing is done before all of it is, but -EFAULT says where it came. */
static int attempt_to_the_end(struct attempt *attempt, const struct gmemi_region *region, uint64_t offset, uint64_t length,
			      uint64_t *done, uint64_t *there)
{
	struct part part = { .more = true };
	uint64_t did;

	*done = *there = 0;
	for (uint32_t i = 0; part.more && part_of(attempt->uffd, region, i, offset, length, &part); i++) {
		int r = attempt_all(attempt, part.hva, part.length, region->page_size, &did, there);

		if (r == 0)
			continue;
		if (r == -EFAULT || (i == 0 && !part.more))
			*done = part.offset - offset + did;
		return r;
	}
	*done = length;
	return 0;
}

/* What comes before a page that the file has not got is done in the other views too. */
static int attempt_in_views(struct attempt *attempt, const struct gmemi_region *region, uint64_t offset, uint64_t length,
			    uint64_t *done, uint64_t *there)
{
	int r = attempt_to_the_end(attempt, region, offset, length, done, there), failed = 0;

	while (r == -EFAULT && *done) {
		failed = r;
		r = attempt_to_the_end(attempt, region, offset, *done, done, there);
	}
	*there = gmemi_min(*there, *done); /* of a page once, in however many views */
	return r == 0 ? failed : r;
}

int gmemi_kernel_continue(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length, uint64_t *done)
{
	struct attempt attempt = { .uffd = uffd, .request = UFFDI_CONTINUE, .once = resolve_once, .name = "UFFDIO_CONTINUE" };
	uint64_t there = 0;
	int r = attempt_in_views(&attempt, region, offset, length, done, &there);

	gmemi_count(&uffd->counters.duplicate, gmemi_region_pages(region, there));
	return r;
}

int gmemi_kernel_poison(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length, uint64_t *done)
{
	struct attempt attempt = { .uffd = uffd, .request = UFFDI_POISON, .once = resolve_once, .name = "UFFDIO_POISON" };
	uint64_t there = 0;
	int r = attempt_in_views(&attempt, region, offset, length, done, &there);

	if (r == -EINVAL || r == -ENOTTY)
		return gmemi_refuse(-EOPNOTSUPP,
				    "this kernel, or this endpoint, cannot poison pages: UFFDIO_POISON came with 6.6");
	gmemi_count(&uffd->counters.poisoned, gmemi_region_pages(region, *done - there));
	return r;
}

/* The one that begins at offset. */
static bool part_at(struct gmem_uffd *uffd, const struct gmemi_region *region, uint64_t offset, uint64_t length,
		    struct part *part)
{
	for (uint32_t i = 0; part_of(uffd, region, i, offset, length, part); i++)
		if (part->offset == offset)
			return true;
	return false;
}

/* The file gets the page through one view; the others find it there, or hear of it as of any page that the file has. */
int gmemi_kernel_copy(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length,
		      const unsigned char *data, uint64_t *done, uint64_t *there)
{
	struct attempt attempt = { .uffd = uffd, .request = UFFDI_ZEROPAGE, .once = resolve_once, .name = "UFFDIO_ZEROPAGE" };
	struct part part;
	int r;

	*done = *there = 0;
	if (data)
		attempt = (struct attempt){ .uffd = uffd, .from = data, .once = copy_once, .name = "UFFDIO_COPY" };
	attempt.minds_gone = true;
	if (!part_at(uffd, region, offset, length, &part))
		return -ENOENT;
	r = attempt_all(&attempt, part.hva, part.length, region->page_size, done, there);
	for (uint32_t i = 0; part_of(uffd, region, i, offset, *done, &part); i++)
		wake(uffd, part.hva, part.length);
	return r;
}

int gmemi_kernel_copy_new(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length,
			  const unsigned char *data, uint64_t *done)
{
	struct attempt attempt = {
		.uffd = uffd, .from = data, .once = copy_once, .name = "UFFDIO_COPY", .fresh = true, .minds_gone = true
	};
	uint64_t there = 0;
	struct part part;

	*done = 0;
	if (!part_of(uffd, region, 0, offset, length, &part) || part.offset != offset || part.length != length)
		return -EEXIST;
	return attempt_all(&attempt, part.hva, part.length, region->page_size, done, &there);
}

static int protect_part(struct gmem_uffd *uffd, const struct part *part, bool on)
{
	struct uffdi_protect call = { .start = part->hva, .length = part->length, .mode = on ? UFFDI_PROTECT_ON : 0 };
	int r = gmemi_sys_ioctl(uffd->fd, UFFDI_WRITEPROTECT, &call);

	if (r == -ESRCH)
		atomic_store(&uffd->owner_gone, true);
	if (r == -ENOENT) /* unmapped by its owner */
		return 0;
	return r < 0 ? gmemi_failed(r, "UFFDIO_WRITEPROTECT", NULL) : 0;
}

int gmemi_kernel_protect(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length, bool on)
{
	struct part part;
	int r = 0;

	for (uint32_t i = 0; r == 0 && part_of(uffd, region, i, offset, length, &part); i++)
		r = protect_part(uffd, &part, on);
	return r;
}

void gmemi_kernel_wake(struct gmem_uffd *uffd, struct gmemi_region *region, uint64_t offset, uint64_t length)
{
	struct part part;

	for (uint32_t i = 0; part_of(uffd, region, i, offset, length, &part); i++)
		wake(uffd, part.hva, part.length);
}
