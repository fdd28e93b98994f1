/* SPDX-License-Identifier: MIT */
/* Sources that never wait: the program's memory, and zeros. */
#include <string.h>

#include "alloc.h"
#include "err.h"
#include "range.h"
#include "source_int.h"

struct bytes {
	const unsigned char *data;
	uint64_t length;
};

static int read_bytes_now(void *user, uint64_t offset, uint64_t length, void *buffer)
{
	const struct bytes *bytes = user;

	if (!gmemi_range_contains(0, bytes->length, offset, length))
		return -ENODATA;
	memcpy(buffer, bytes->data + offset, (size_t)length);
	return GMEM_ANSWER_DATA;
}

static int read_bytes(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	(void)flags;
	return read_bytes_now(user, offset, length, buffer);
}

static int bytes_at(void *user, uint64_t offset, uint64_t *length)
{
	const struct bytes *bytes = user;

	if (offset >= bytes->length)
		return -ENODATA;
	*length = gmemi_min(*length, bytes->length - offset);
	return GMEM_ANSWER_DATA;
}

int gmem_source_create_memory(const void *data, uint64_t length, struct gmem_source **source)
{
	static const struct gmem_source_ops ops = { .read = read_bytes, .extent = bytes_at, .release = gmemi_free };
	static const struct gmemi_source_kind kind = { .read_now = read_bytes_now, .covers = bytes_at };
	struct bytes *bytes;
	int r;

	GMEMI_CALL();
	if (!data || !source)
		return gmemi_refuse(-EINVAL, "%s is NULL", data ? "source" : "data");
	if (!length || length > UINTPTR_MAX - (uintptr_t)data)
		return gmemi_refuse(-EINVAL, length ? "data + length wraps around" : "length is 0");
	bytes = gmemi_alloc(1, sizeof(*bytes));
	if (!bytes)
		return -ENOMEM;
	*bytes = (struct bytes){ .data = data, .length = length };
	r = gmemi_source_make(&ops, &kind, bytes, false, source);
	if (r < 0)
		gmemi_free(bytes);
	return r;
}

static int read_zeros_now(void *user, uint64_t offset, uint64_t length, void *buffer)
{
	(void)user;
	(void)offset;
	(void)length;
	(void)buffer;
	return GMEM_ANSWER_ZERO;
}

static int read_zeros(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	(void)flags;
	return read_zeros_now(user, offset, length, buffer);
}

static int zeros_at(void *user, uint64_t offset, uint64_t *length)
{
	(void)user;
	(void)offset;
	(void)length;
	return GMEM_ANSWER_ZERO;
}

int gmem_source_create_zero(struct gmem_source **source)
{
	static const struct gmem_source_ops ops = { .read = read_zeros, .extent = zeros_at };
	static const struct gmemi_source_kind kind = { .read_now = read_zeros_now, .covers = zeros_at };

	GMEMI_CALL();
	if (!source)
		return gmemi_refuse(-EINVAL, "source is NULL");
	return gmemi_source_make(&ops, &kind, NULL, false, source);
}
