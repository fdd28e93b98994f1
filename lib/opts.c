/* SPDX-License-Identifier: MIT */
#include "opts.h"

#include <string.h>

#include "err.h"

#define SMALLEST sizeof(uint64_t) /* the size member itself */
#define LARGEST 4096		  /* no struct of this library will ever be larger: a wild size is not followed */

static uint64_t size_of(const void *sized)
{
	uint64_t size;

	memcpy(&size, sized, sizeof(size));
	return size;
}

static int check_size(const void *sized, const char *name)
{
	uint64_t size = size_of(sized);

	if (size < SMALLEST)
		return gmemi_refuse(-EINVAL, "%s->size is %llu: set it to sizeof(*%s)", name, (unsigned long long)size, name);
	if (size > LARGEST)
		return gmemi_refuse(-E2BIG, "%s->size is %llu: set it to sizeof(*%s)", name, (unsigned long long)size, name);
	return 0;
}

static int check_tail(const unsigned char *opts, size_t known, const char *name)
{
	for (size_t i = known; i < size_of(opts); i++)
		if (opts[i])
			return gmemi_refuse(-E2BIG, "%s has a member at byte %zu that this library does not know", name, i);
	return 0;
}

int gmemi_opts_in(void *local, size_t known, const void *opts, const char *name)
{
	size_t given;
	int r;

	memset(local, 0, known);
	if (!opts)
		return 0;
	r = check_size(opts, name);
	if (r < 0)
		return r;
	r = check_tail(opts, known, name);
	if (r < 0)
		return r;
	given = (size_t)size_of(opts);
	memcpy(local, opts, given < known ? given : known);
	return 0;
}

int gmemi_opts_flags(uint64_t flags, uint64_t known, const char *what)
{
	if (flags & ~known)
		return gmemi_refuse(-E2BIG, "%s has bits that this library does not know: 0x%llx", what,
				    (unsigned long long)(flags & ~known));
	return 0;
}

int gmemi_opts_reserved(uint64_t reserved)
{
	return reserved ? gmemi_refuse(-EINVAL, "opts->reserved must be 0") : 0;
}

int gmemi_info_check(const void *info, const char *name)
{
	return info ? check_size(info, name) : gmemi_refuse(-EINVAL, "%s is NULL", name);
}

void gmemi_info_out(void *info, const void *local, size_t known)
{
	size_t room = (size_t)size_of(info), fits = room < known ? room : known;
	unsigned char *to = info;

	memcpy(to + SMALLEST, (const unsigned char *)local + SMALLEST, fits - SMALLEST);
	memset(to + fits, 0, room - fits);
}
