/* SPDX-License-Identifier: MIT */
#include "sources.h"

#include <errno.h>
#include <string.h>

#include "gt.h"
#include "handles.h"

#define LONGEST (UINT64_C(2) << 20) /* that a source may be asked to read at a time */

static bool all_zero(const unsigned char *data, uint64_t length)
{
	return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* In place: is there, and how far from its beginning. */
static bool locate(struct script *script, uint64_t offset, uint64_t length, uint64_t *at)
{
	*at = offset - script->first;
	if (length && offset >= script->first && *at <= script->length && length <= script->length - *at)
		return true;
	atomic_fetch_add(&script->strayed, 1);
	return false;
}

static int answer(struct script *script, uint64_t at, uint64_t length, void *buffer)
{
	int r = script->before ? script->before(script, at, length) : 0;

	if (r < 0)
		memset(buffer, 0xbd, length); /* what comes with an error is not content */
	if (r)
		return r;
	atomic_fetch_add(&script->bytes_read, length);
	if (script->tells_zeros && all_zero(script->data + at, length))
		return GMEM_ANSWER_ZERO;
	memcpy(buffer, script->data + at, length);
	return GMEM_ANSWER_DATA;
}

static int read_source(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	struct script *script = user;
	uint64_t at;

	atomic_fetch_add(&script->reads, 1);
	if (flags || length > LONGEST)
		atomic_fetch_add(&script->strayed, 1);
	return locate(script, offset, length, &at) ? answer(script, at, length, buffer) : -EDOM;
}

/* How far bytes are like those of the first page: zero, or not. */
static int tell(const struct script *script, uint64_t at, uint64_t *length)
{
	uint64_t most = *length, size = page() - (script->first + at) % page();
	bool zero;

	size = size < most ? size : most;
	zero = all_zero(script->data + at, size);
	for (*length = size; *length < most; *length += size) {
		size = page() < most - *length ? page() : most - *length;
		if (all_zero(script->data + at + *length, size) != zero)
			break;
	}
	return zero ? GMEM_ANSWER_ZERO : GMEM_ANSWER_DATA;
}

static int extent_of_source(void *user, uint64_t offset, uint64_t *length)
{
	struct script *script = user;
	uint64_t at;

	atomic_fetch_add(&script->extents, 1);
	if (!locate(script, offset, *length, &at))
		return -EDOM;
	return script->extent ? script->extent(script, at, length) : tell(script, at, length);
}

static void release_source(void *user)
{
	atomic_fetch_add(&((struct script *)user)->released, 1);
}

struct gmem_source *make_source(struct script *script)
{
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = read_source, .release = release_source };
	struct gmem_source *source = NULL;

	if (script->tells_extents || script->extent)
		ops.extent = extent_of_source;
	assert_int_equal(gmem_source_create(&ops, script, &source), 0);
	memset(&ops, 0xff, sizeof(ops)); /* it was copied */
	assert_non_null(source);
	return source;
}

void end_source(struct gmem_source *source, const struct script *script)
{
	unsigned int released = atomic_load(&script->released);

	assert_int_equal(released, 0);
	gmem_source_destroy(source);
	assert_int_equal(atomic_load(&script->released), 1);
	assert_int_equal(atomic_load(&script->strayed), 0);
}
