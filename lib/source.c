/* SPDX-License-Identifier: MIT */
#include "source.h"

#include <stdatomic.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"

struct gmem_source {
	atomic_uint claims; /* the program's, and one for each call that uses it */
	struct gmem_source_ops ops;
	void *user;
};

int gmem_source_create(const struct gmem_source_ops *ops, void *user, struct gmem_source **source)
{
	struct gmem_source_ops copy;
	struct gmem_source *made;
	int r;

	GMEMI_CALL();
	if (!ops || !source)
		return gmemi_refuse(-EINVAL, "%s is NULL", ops ? "source" : "ops");
	r = GMEMI_OPTS_IN(copy, ops);
	if (r < 0)
		return r;
	if (!copy.read)
		return gmemi_refuse(-EINVAL, "ops->read is NULL");
	made = gmemi_alloc(1, sizeof(*made));
	if (!made)
		return -ENOMEM;
	atomic_init(&made->claims, 1);
	made->ops = copy;
	made->user = user;
	*source = made;
	return 0;
}

int gmemi_source_claim(struct gmem_source *source)
{
	if (!source)
		return gmemi_refuse(-EINVAL, "the source is NULL");
	atomic_fetch_add_explicit(&source->claims, 1, memory_order_relaxed);
	return 0;
}

void gmemi_source_release(struct gmem_source *source)
{
	if (atomic_fetch_sub_explicit(&source->claims, 1, memory_order_acq_rel) > 1)
		return;
	if (source->ops.release)
		source->ops.release(source->user);
	gmemi_free(source);
}

void gmem_source_destroy(struct gmem_source *source)
{
	GMEMI_CALL();
	if (source)
		gmemi_source_release(source);
}

static int checked(int answer, const char *what)
{
	if (answer == GMEM_ANSWER_DATA || answer == GMEM_ANSWER_ZERO)
		return answer;
	if (answer > 0 || answer < -4095)
		return gmemi_refuse(-EIO, "the source's %s answered %d, which is no answer", what, answer);
	return gmemi_refuse(answer, "the source's %s failed", what);
}

int gmemi_source_read(struct gmem_source *source, uint64_t offset, uint64_t length, void *buffer)
{
	return checked(source->ops.read(source->user, offset, length, buffer, 0), "read");
}

int gmemi_source_extent(struct gmem_source *source, uint64_t offset, uint64_t *length)
{
	uint64_t most = *length;
	int r;

	if (!source->ops.extent)
		return GMEM_ANSWER_DATA;
	r = checked(source->ops.extent(source->user, offset, length), "extent");
	if (r >= 0 && (*length == 0 || *length > most))
		return gmemi_refuse(-EIO, "the source's extent answered for %llu bytes of %llu", (unsigned long long)*length,
				    (unsigned long long)most);
	return r;
}
