/* SPDX-License-Identifier: MIT */
/* An endpoint of what a peer has sent. Whatever it says is looked at here, before anything is done with it. */
#include "channel.h"

#include <string.h>

#include "alloc.h"
#include "err.h"
#include "range.h"

#define LARGEST_PAGE (UINT64_C(1) << 30)
#define FIRST_ROOM 16
#define NAME_ROOM 40 /* longer ones are none that is looked for */

typedef unsigned long long ull;

/* --- who is to blame ---------------------------------------------------------------------------------------------------- */

static bool is_of_arguments(int code)
{
	switch (code) {
	case -EACCES: /* mapping what is not open for writing, */
	case -EPERM:  /* or sealed against it */
	case -EBADF:
	case -EBADFD:
	case -EBUSY:
	case -EEXIST:
	case -EINVAL:
	case -EOPNOTSUPP:
		return true;
	default:
		return false;
	}
}

/* What a call of the library refuses of a peer's is the peer's fault; shortages are not. */
static int blame(int code, const char *what)
{
	char why[sizeof(struct gmemi_sentence)];

	if (!is_of_arguments(code))
		return code;
	memcpy(why, gmem_last_error(), strnlen(gmem_last_error(), sizeof(why) - 1) + 1);
	why[sizeof(why) - 1] = '\0';
	return gmemi_refuse(-EPROTO, "%s is refused: %s", what, why);
}

/* By its name alone: asking a fd that is something else might do something. */
int gmemi_fd_check_uffd(int fd)
{
	char name[NAME_ROOM];
	int r = gmemi_sys_name(fd, name, sizeof(name));

	if (r < 0)
		return gmemi_failed(r, "reading the name of a received fd in /proc/self/fd", "is /proc mounted?");
	if (strncmp(name, "anon_inode:[userfaultfd]", sizeof(name)) != 0)
		return gmemi_refuse(-EPROTO, "a fd that has to be a userfaultfd is none");
	return 0;
}

/* By the names that the kernel gives: of another file the simplest question may never be answered, if its file system is one
 * that the peer serves itself. Only a file there that is called like this still gets to fstatfs(), which tells them apart. */
static bool named_like_guest_memfd(const char *name)
{
	static const char *const names[] = { "anon_inode:[kvm-gmem]", "/[kvm-gmem] (deleted)" /* from 6.19 on */ };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(name, names[i], NAME_ROOM) == 0)
			return true;
	return false;
}

int gmemi_fd_check_memory(int fd)
{
	char name[NAME_ROOM];
	int r = gmemi_sys_seals(fd);

	if (r >= 0)
		return 0;
	if (r != -EINVAL)
		return gmemi_refuse(-EPROTO, "a fd that has to be a memory file is none");
	r = gmemi_sys_name(fd, name, sizeof(name));
	if (r < 0)
		return gmemi_failed(r, "reading the name of a received fd in /proc/self/fd", "is /proc mounted?");
	return named_like_guest_memfd(name) ? 0 : gmemi_refuse(-EPROTO, "a fd that has to be a memory file is none");
}

/* --- ranges that do not overlap ----------------------------------------------------------------------------------------- */

/* Where the first one is that ends behind `start`. */
static uint32_t find_span(const struct gmemi_spans *spans, uint64_t start)
{
	uint32_t low = 0, high = spans->count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct gmemi_span *span = &spans->items[middle];

		if (span->start + (span->length - 1) < start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Room for one more item. */
static int grow(void **items, uint32_t count, uint32_t *room, size_t size)
{
	uint32_t more = *room ? *room * 2 : FIRST_ROOM;
	void *larger;

	if (count < *room)
		return 0;
	larger = gmemi_alloc(more, size);
	if (!larger)
		return -ENOMEM;
	if (count)
		memcpy(larger, *items, count * size);
	gmemi_free(*items);
	*items = larger;
	*room = more;
	return 0;
}

/* The range does not wrap, and is not empty. */
static int add_span(struct gmemi_spans *spans, uint64_t start, uint64_t length, const char *what)
{
	uint32_t at = find_span(spans, start);
	int r;

	if (at < spans->count && spans->items[at].start <= start + (length - 1))
		return gmemi_refuse(-EPROTO, "the %s 0x%llx + 0x%llx of two regions overlap", what, (ull)start, (ull)length);
	r = grow((void **)&spans->items, spans->count, &spans->room, sizeof(*spans->items));
	if (r < 0)
		return r;
	memmove(spans->items + at + 1, spans->items + at, (spans->count - at) * sizeof(*spans->items));
	spans->items[at] = (struct gmemi_span){ start, length };
	spans->count++;
	return 0;
}

static void remove_span(struct gmemi_spans *spans, uint64_t start)
{
	uint32_t at = find_span(spans, start);

	if (at == spans->count || spans->items[at].start != start)
		return;
	spans->count--;
	memmove(spans->items + at, spans->items + at + 1, (spans->count - at) * sizeof(*spans->items));
}

/* --- the endpoint ------------------------------------------------------------------------------------------------------- */

int gmemi_build_begin(struct gmemi_build *build, struct gmem_vm *vm, int uffd_fd)
{
	int r = gmemi_fd_check_uffd(uffd_fd);

	gmemi_build_end(build);
	return r < 0 ? r : blame(gmem_uffd_import(vm, uffd_fd, &build->uffd, NULL), "the userfaultfd");
}

void gmemi_build_end(struct gmemi_build *build)
{
	gmemi_free(build->hva.items);
	gmemi_free(build->gpa.items);
	gmemi_free(build->regions);
	gmem_uffd_destroy(build->uffd);
	*build = (struct gmemi_build){ 0 };
}

int gmemi_build_memory(struct gmem_channel *channel, const struct gmemi_wire_memory *memory, int fd, int map_fd)
{
	struct gmemi_build *build = &channel->build;
	struct gmem *mem;
	int r = gmemi_fd_check_memory(fd);

	if (r < 0)
		return r;
	if (memory->length > channel->max_length)
		return gmemi_refuse(-EPROTO, "memory %u has 0x%llx bytes: more than are allowed", memory->memory,
				    (ull)memory->length);
	if (build->memory_count >= channel->max_memories)
		return gmemi_refuse(-EPROTO, "the endpoint has more than %u memories", channel->max_memories);
	if (build->memories[memory->memory])
		return gmemi_refuse(-EPROTO, "memory %u comes twice", memory->memory);
	r = blame(gmemi_memory_import_peer(build->uffd->vm, fd, memory->length, map_fd, &mem), "a memory");
	if (r < 0)
		return r;
	if (mem->page_size != memory->page_size)
		r = gmemi_refuse(-EPROTO, "memory %u has pages of 0x%llx bytes, not 0x%llx", memory->memory,
				 (ull)mem->page_size, (ull)memory->page_size);
	if (r == 0)
		r = gmemi_uffd_bring(build->uffd, mem);
	if (r < 0) {
		gmem_destroy(mem);
		return r;
	}
	build->memories[memory->memory] = mem;
	build->memory_count++;
	return 0;
}

/* --- regions ------------------------------------------------------------------------------------------------------------ */

static int check_page_size(uint64_t page_size)
{
	if (page_size < gmemi_sys_page_size() || page_size > LARGEST_PAGE || page_size & (page_size - 1))
		return gmemi_refuse(-EPROTO, "a region has the page size 0x%llx", (ull)page_size);
	return 0;
}

static int check_range(const char *what, uint64_t start, uint64_t length, uint64_t align)
{
	if (!gmemi_aligned(start, align))
		return gmemi_refuse(-EPROTO, "a region has the %s 0x%llx, which is no multiple of 0x%llx", what, (ull)start,
				    (ull)align);
	if (length > UINT64_MAX - start)
		return gmemi_refuse(-EPROTO, "a region has the %s 0x%llx and the length 0x%llx, which wrap around", what,
				    (ull)start, (ull)length);
	return 0;
}

static int check_numbers(const struct gmemi_wire_region *region)
{
	int r = check_page_size(region->page_size);

	if (r < 0)
		return r;
	if (!region->length || !gmemi_aligned(region->length, region->page_size))
		return gmemi_refuse(-EPROTO, "a region has the length 0x%llx, with pages of 0x%llx", (ull)region->length,
				    (ull)region->page_size);
	r = check_range("address", region->hva, region->length, region->page_size);
	if (r == 0)
		r = check_range("offset", region->offset, region->length, region->page_size);
	if (r == 0)
		r = check_range("content", region->content, region->length, 1);
	if (r == 0 && region->gpa != UINT64_MAX)
		r = check_range("guest address", region->gpa, region->length, gmemi_sys_page_size());
	return r;
}

static int check_limits(const struct gmem_channel *channel, const struct gmemi_build *build, uint64_t length)
{
	if (build->region_count >= channel->max_regions)
		return gmemi_refuse(-EPROTO, "the endpoint has more than %u regions", channel->max_regions);
	if (length > channel->max_length - build->length)
		return gmemi_refuse(-EPROTO, "the endpoint has more than 0x%llx bytes", (ull)channel->max_length);
	return 0;
}

static int check_memory(const struct gmem *mem, const struct gmemi_wire_region *region)
{
	if (region->memory == GMEMI_WIRE_NONE && region->strategy == GMEMI_WIRE_FILL)
		return gmemi_refuse(-EPROTO, "a region without a memory is to be filled");
	if (region->memory == GMEMI_WIRE_NONE)
		return 0;
	if (!mem)
		return gmemi_refuse(-EPROTO, "a region is in memory %u, which has not come", region->memory);
	if (region->page_size != mem->page_size)
		return gmemi_refuse(-EPROTO, "a region has pages of 0x%llx bytes, its memory 0x%llx", (ull)region->page_size,
				    (ull)mem->page_size);
	if (!gmemi_range_contains(0, mem->length, region->offset, region->length))
		return gmemi_refuse(-EPROTO, "the region 0x%llx + 0x%llx is beyond the end of its memory, 0x%llx",
				    (ull)region->offset, (ull)region->length, (ull)mem->length);
	return 0;
}

static int add_spans(struct gmemi_build *build, const struct gmemi_wire_region *region)
{
	int r = add_span(&build->hva, region->hva, region->length, "addresses");

	if (r < 0 || region->gpa == UINT64_MAX)
		return r;
	r = add_span(&build->gpa, region->gpa, region->length, "guest addresses");
	if (r < 0)
		remove_span(&build->hva, region->hva);
	return r;
}

static int do_register(struct gmemi_build *build, struct gmem *mem, const struct gmemi_wire_region *region)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .flags = GMEM_REGISTER_BY_PEER | GMEM_REGISTER_CONTENT };

	opts.content = region->content;
	opts.hva = region->hva;
	opts.gpa = region->gpa;
	opts.page_size = mem ? 0 : region->page_size;
	opts.strategy = region->strategy == GMEMI_WIRE_FILL ? GMEM_STRATEGY_FILL : GMEM_STRATEGY_COPY;
	if (region->flags & GMEMI_WIRE_WRITE_PROTECT)
		opts.flags |= GMEM_REGISTER_WRITE_PROTECT;
	return blame(gmem_uffd_register(build->uffd, mem, region->offset, region->length, &opts), "a region");
}

static struct gmem *memory_of(const struct gmemi_build *build, uint32_t memory)
{
	return memory == GMEMI_WIRE_NONE ? NULL : build->memories[memory];
}

int gmemi_build_region(struct gmem_channel *channel, struct gmemi_build *build, const struct gmemi_wire_region *region)
{
	struct gmem *mem = memory_of(build, region->memory);
	int r = check_numbers(region);

	if (r == 0)
		r = check_limits(channel, build, region->length);
	if (r == 0)
		r = check_memory(mem, region);
	if (r == 0)
		r = grow((void **)&build->regions, build->region_count, &build->region_room, sizeof(*region));
	if (r == 0)
		r = add_spans(build, region);
	if (r == 0)
		r = do_register(build, mem, region);
	if (r < 0)
		return r;
	build->regions[build->region_count++] = *region;
	build->length += region->length;
	return 0;
}

/* --- ranges that the peer takes away ------------------------------------------------------------------------------------- */

static void drop_region(struct gmemi_build *build, uint32_t index)
{
	const struct gmemi_wire_region *region = &build->regions[index];

	remove_span(&build->hva, region->hva);
	if (region->gpa != UINT64_MAX)
		remove_span(&build->gpa, region->gpa);
	build->length -= region->length;
	build->regions[index] = build->regions[--build->region_count];
}

int gmemi_build_remove(struct gmemi_build *build, const struct gmemi_wire_range *range)
{
	uint32_t found = 0, i = 0;
	int r;

	if (range->length > UINT64_MAX - range->offset)
		return gmemi_refuse(-EPROTO, "a range to be removed wraps around");
	if (range->memory != GMEMI_WIRE_NONE && !build->memories[range->memory])
		return gmemi_refuse(-EPROTO, "a range to be removed is in memory %u, which has not come", range->memory);
	r = blame(gmemi_uffd_forget(build->uffd, memory_of(build, range->memory), range->offset, range->length),
		  "a range to be removed");
	if (r < 0)
		return r;
	while (i < build->region_count) {
		const struct gmemi_wire_region *region = &build->regions[i];

		if (region->memory != range->memory ||
		    !gmemi_range_contains(range->offset, range->length, region->offset, region->length)) {
			i++;
			continue;
		}
		drop_region(build, i);
		found++;
	}
	return found ? 0 : gmemi_refuse(-EPROTO, "a range to be removed has no region");
}
