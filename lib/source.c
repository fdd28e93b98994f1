/* SPDX-License-Identifier: MIT */
#include "source_int.h"

#include "alloc.h"
#include "err.h"
#include "gate.h"
#include "opts.h"

int gmemi_source_make(const struct gmem_source_ops *ops, const struct gmemi_source_kind *kind, void *user, bool late,
		      struct gmem_source **source)
{
	struct gmem_source *made = gmemi_alloc(1, sizeof(*made));

	if (!made)
		return -ENOMEM;
	atomic_init(&made->claims, 1);
	made->ops = *ops;
	made->kind = kind;
	made->user = user;
	made->late = late;
	gmemi_lock_begin(&made->lock);
	*source = made;
	return 0;
}

int gmem_source_create(const struct gmem_source_ops *ops, void *user, struct gmem_source **source)
{
	struct gmem_source_ops copy;
	int r;

	GMEMI_CALL();
	if (!ops || !source)
		return gmemi_refuse(-EINVAL, "%s is NULL", ops ? "source" : "ops");
	r = GMEMI_OPTS_IN(copy, ops);
	if (r < 0)
		return r;
	if (!copy.read)
		return gmemi_refuse(-EINVAL, "ops->read is NULL");
	return gmemi_source_make(&copy, NULL, user, true, source);
}

int gmemi_source_claim(struct gmem_source *source)
{
	if (!source)
		return gmemi_refuse(-EINVAL, "the source is NULL");
	atomic_fetch_add_explicit(&source->claims, 1, memory_order_relaxed);
	return 0;
}

bool gmemi_source_try_claim(struct gmem_source *source)
{
	unsigned int claims = atomic_load_explicit(&source->claims, memory_order_relaxed);

	while (claims)
		if (atomic_compare_exchange_weak_explicit(&source->claims, &claims, claims + 1, memory_order_relaxed,
							  memory_order_relaxed))
			return true;
	return false;
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

bool gmemi_source_late(const struct gmem_source *source)
{
	return source->late;
}

/* most: the highest answer that is one. */
static int checked(const struct gmem_source *source, int answer, int most, const char *what)
{
	if (answer >= 0 && answer <= most)
		return answer;
	if (source->kind)
		return answer == -ENODATA ? gmemi_refuse(answer, "the source has not got all of the range") : answer;
	if (answer > 0 || answer < -4095)
		return gmemi_refuse(-EIO, "the source's %s answered %d, which is no answer", what, answer);
	return gmemi_refuse(answer, "the source's %s failed", what);
}

int gmemi_source_read(struct gmem_source *source, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	return checked(source, source->ops.read(source->user, offset, length, buffer, flags), GMEM_ANSWER_LATER, "read");
}

int gmemi_source_read_now(struct gmem_source *source, uint64_t offset, uint64_t length, void *buffer)
{
	if (!source->kind)
		return -EAGAIN;
	return checked(source, source->kind->read_now(source->user, offset, length, buffer), GMEM_ANSWER_ZERO, "read");
}

int gmemi_source_extent(struct gmem_source *source, uint64_t offset, uint64_t *length)
{
	uint64_t most = *length;
	int r;

	if (!source->ops.extent)
		return GMEM_ANSWER_DATA;
	r = checked(source, source->ops.extent(source->user, offset, length), GMEM_ANSWER_ZERO, "extent");
	if ((r >= 0 || r == -ENODATA) && (*length == 0 || *length > most))
		return gmemi_refuse(-EIO, "the source's extent answered for %llu bytes of %llu", (unsigned long long)*length,
				    (unsigned long long)most);
	return r;
}

void gmemi_source_advise(struct gmem_source *source, uint64_t offset, uint64_t length)
{
	if (source->ops.advise)
		source->ops.advise(source->user, offset, length);
}

static int check_range(uint64_t offset, uint64_t length)
{
	if (!length)
		return gmemi_refuse(-EINVAL, "length is 0");
	if (length > UINT64_MAX - offset)
		return gmemi_refuse(-EINVAL, "offset + length wraps around");
	return 0;
}

static int check_read(uint64_t offset, uint64_t length, const void *buffer, uint64_t flags)
{
	int r = gmemi_opts_flags(flags, GMEM_READ_DEMAND, "flags");

	if (r < 0)
		return r;
	if (!buffer)
		return gmemi_refuse(-EINVAL, "buffer is NULL");
	if (length > GMEMI_SOURCE_LONGEST)
		return gmemi_refuse(-EINVAL, "length %llu is above 2 MiB", (unsigned long long)length);
	return check_range(offset, length);
}

int gmem_source_read(struct gmem_source *source, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	int r;

	GMEMI_CALL();
	r = check_read(offset, length, buffer, flags);
	if (r == 0)
		r = gmemi_source_claim(source);
	if (r < 0)
		return r;
	r = gmemi_source_read(source, offset, length, buffer, flags);
	gmemi_source_release(source);
	return r;
}

static int check_delivery(uint64_t offset, uint64_t length, const void *data, int answer)
{
	if (answer > GMEM_ANSWER_ZERO || answer < -4095)
		return gmemi_refuse(-EINVAL, "%d cannot be delivered", answer);
	if (answer == GMEM_ANSWER_DATA && !data)
		return gmemi_refuse(-EINVAL, "data is NULL");
	return check_range(offset, length);
}

int gmem_source_deliver(struct gmem_source *source, uint64_t offset, uint64_t length, const void *data, int answer)
{
	int r;

	GMEMI_CALL();
	r = check_delivery(offset, length, data, answer);
	if (r == 0)
		r = gmemi_source_claim(source);
	if (r < 0)
		return r;
	r = gmemi_source_deliver(source, offset, length, answer == GMEM_ANSWER_DATA ? data : NULL, answer);
	gmemi_source_release(source);
	return r;
}
