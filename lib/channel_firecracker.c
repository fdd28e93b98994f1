/* SPDX-License-Identifier: MIT */
/* The handshake of Firecracker: a JSON array, and a userfaultfd with any byte of it. */
#include "channel.h"

#include <string.h>

#include "alloc.h"
#include "err.h"
#include "firecracker.h"

#define MOST_FDS 3 /* userfaultfd, guest_memfd, bitmap; kin of it send a memfd as the second */
#define ROOM_FOR_SPACES 4096

/* How many of the fds are this message's, which ends at this place of the stream: those that had come by then. Where the
 * kernel has put the beginning of the next message into the same read, all of them came later; then one of them is. */
static uint32_t count_own_fds(const struct gmem_channel *channel, uint64_t end)
{
	uint32_t count = 0;

	while (count < channel->fd_count && channel->fd_at[count] <= end)
		count++;
	return count || !channel->fd_count ? count : 1;
}

static int check_fds(const int *fds, uint32_t count)
{
	if (count == 0)
		return gmemi_refuse(-EPROTO, "the handshake came without a userfaultfd");
	return gmemi_fd_check_uffd(fds[0]);
}

/* The guest_memfd is as long as the regions say that are in it. */
static uint64_t guest_length(const struct gmemi_fc_region *regions, uint32_t count)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t end = regions[i].offset + regions[i].length;

		if (regions[i].guest_memfd && end >= regions[i].offset && end > most)
			most = end;
	}
	return most;
}

/* KVM's bitmap comes last, and is nobody's here but of whoever forwards faults. */
static int keep_bitmap(struct gmem_channel *channel, int fd)
{
	int r = gmemi_fd_check_memory(fd), own;

	if (r < 0)
		return r;
	own = gmemi_sys_dup(fd);
	if (own < 0)
		return gmemi_failed(own, "duplicating the bitmap", NULL);
	gmemi_sys_close(channel->bitmap);
	channel->bitmap = own;
	return 0;
}

static int take_guest_files(struct gmem_channel *channel, const struct gmemi_fc_region *regions, uint32_t region_count,
			    const int *fds, uint32_t fd_count)
{
	struct gmemi_wire_memory memory = { .length = guest_length(regions, region_count) };
	uint32_t next = 1;
	int r = 0;

	if (memory.length) {
		if (fd_count < 2)
			return gmemi_refuse(-EPROTO, "regions are in a guest_memfd that did not come");
		memory.page_size = gmemi_sys_page_size();
		r = gmemi_build_memory(channel, &memory, fds[next++], -1);
	}
	if (r == 0 && next < fd_count)
		r = keep_bitmap(channel, fds[next]);
	return r;
}

static int add_region(struct gmem_channel *channel, const struct gmemi_fc_region *from)
{
	struct gmemi_wire_region region = { .memory = from->guest_memfd ? 0 : GMEMI_WIRE_NONE,
					    .strategy = from->guest_memfd ? GMEMI_WIRE_FILL : GMEMI_WIRE_COPY,
					    .offset = from->guest_memfd ? from->offset : from->hva,
					    .length = from->length,
					    .hva = from->hva,
					    .gpa = from->gpa,
					    .content = from->offset,
					    .page_size = from->page_size };

	if (!region.page_size)
		region.page_size = gmemi_sys_page_size();
	return gmemi_build_region(channel, &channel->build, &region);
}

static int build(struct gmem_channel *channel, struct gmem_vm *vm, const struct gmemi_fc_region *regions, uint32_t count,
		 const int *fds, uint32_t fd_count, bool guest)
{
	int r = gmemi_build_begin(&channel->build, vm, fds[0]);

	if (r == 0 && guest)
		r = take_guest_files(channel, regions, count, fds, fd_count);
	for (uint32_t i = 0; r == 0 && i < count; i++)
		r = add_region(channel, &regions[i]);
	return r < 0 ? r : 1;
}

static int take_message(struct gmem_channel *channel, struct gmem_vm *vm, const int *fds, uint32_t fd_count)
{
	struct gmemi_fc_region *regions;
	uint32_t count;
	bool guest;
	int r = check_fds(fds, fd_count);

	if (r == 0)
		r = gmemi_fc_read((const char *)channel->in, channel->max_regions, &regions, &count, &guest);
	if (r < 0)
		return r;
	r = build(channel, vm, regions, count, fds, fd_count, guest);
	gmemi_free(regions);
	return r;
}

int gmemi_channel_firecracker(struct gmem_channel *channel, struct gmem_vm *vm)
{
	int r, fds[MOST_FDS];
	uint32_t count;
	size_t used;

	r = gmemi_json_scan(&channel->json, (const char *)channel->in + channel->scanned, channel->in_have - channel->scanned,
			    &used);
	if (r < 0)
		return r;
	channel->scanned += used;
	if (channel->scanned > (uint64_t)channel->max_regions * GMEMI_FC_LONGEST + ROOM_FOR_SPACES)
		return gmemi_refuse(-EPROTO, "the message is longer than %u regions can be", channel->max_regions);
	if (r == 0)
		return 0;
	count = count_own_fds(channel, channel->in_at + channel->scanned);
	if (count > MOST_FDS)
		return gmemi_refuse(-EPROTO, "%u fds came with the handshake", count);
	gmemi_channel_take_fds(channel, fds, count);
	r = take_message(channel, vm, fds, count);
	gmemi_close_fds(fds, count);
	if (r > 0)
		gmemi_channel_consume(channel, channel->scanned);
	return r;
}
