/* SPDX-License-Identifier: MIT */
/* Endpoints with several memories, of several kinds: each region finds its own memory, page map and content. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "channel.h"
#include "channels.h"
#include "faults.h"
#include "handles.h"

#define MEMORIES 3
#define PAGES 8
#define APART (UINT64_C(8) << 20) /* in the source: where the content of one memory begins behind that of another */

struct owner {
	struct gmem_vm *vm;
	struct gmem *mem[MEMORIES];
	unsigned char *at[MEMORIES];
	uint64_t length[MEMORIES];
	struct gmem_uffd *uffd;
	struct gmem_channel *channel;
	pthread_t thread;
	int result;
};

static void *hand_out(void *arg)
{
	struct owner *o = arg;

	o->result = gmemi_channel_send(o->channel, o->uffd, 1);
	return NULL;
}

static void add_memory(struct owner *o, uint32_t i, uint32_t backing, uint64_t length, enum gmem_strategy strategy)
{
	struct gmem_create_opts need = { .size = sizeof(need),
					 .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY,
					 .backing = backing };
	struct gmem_uffd_register_opts how = { .size = sizeof(how), .flags = GMEM_REGISTER_CONTENT, .content = i * APART };
	void *at;

	how.strategy = strategy;
	o->length[i] = length;
	assert_int_equal(gmem_create(o->vm, length, &o->mem[i], &need), 0);
	assert_int_equal(gmem_map(o->mem[i], 0, length, &at, NULL), 0);
	assert_int_equal(gmem_uffd_register(o->uffd, o->mem[i], 0, length, &how), 0);
	o->at[i] = at;
}

static struct owner owner_make(struct line *line)
{
	struct owner o = { .vm = open_vm(-1) };

	*line = line_make(SOCK_STREAM, NULL);
	assert_int_equal(gmem_uffd_create(o.vm, &o.uffd, NULL), 0);
	assert_int_equal(gmem_channel_open(line->far, &o.channel, NULL), 0);
	line_close_far(line);
	return o;
}

static struct gmem_uffd *receive(struct owner *o, struct line *line)
{
	struct gmem_uffd *uffd;

	assert_int_equal(pthread_create(&o->thread, NULL, hand_out, o), 0);
	uffd = line_take(line);
	pthread_join(o->thread, NULL);
	assert_int_equal(o->result, 0);
	return uffd;
}

static void owner_end(struct owner *o)
{
	gmem_channel_close(o->channel);
	gmem_uffd_destroy(o->uffd);
	for (uint32_t i = 0; i < MEMORIES; i++)
		gmem_destroy(o->mem[i]);
	gmem_vm_close(o->vm);
}

static void several_memories(void **state)
{
	struct line line;
	struct owner o = owner_make(&line);
	struct gmem_uffd *uffd;

	(void)state;
	for (uint32_t i = 0; i < MEMORIES; i++)
		add_memory(&o, i, GMEM_BACKING_MEMFD, (i + 1) * PAGES * page(),
			   i == 1 ? GMEM_STRATEGY_COPY : GMEM_STRATEGY_FILL);
	uffd = receive(&o, &line);
	assert_int_equal(uffd->brought_count, MEMORIES);
	for (uint32_t i = MEMORIES; i-- > 0;)
		assert_is_served(uffd, o.at[i], o.length[i], i * APART);
	gmem_uffd_destroy(uffd);
	line_end(&line);
	owner_end(&o);
}

static void huge_pages(void **state)
{
	const uint64_t huge = UINT64_C(2) << 20;
	struct line line;
	struct owner o = owner_make(&line);
	struct gmem_uffd *uffd;

	(void)state;
	add_memory(&o, 0, GMEM_BACKING_HUGETLB, huge, GMEM_STRATEGY_AUTO);
	add_memory(&o, 1, GMEM_BACKING_MEMFD, PAGES * page(), GMEM_STRATEGY_FILL);
	uffd = receive(&o, &line);
	assert_int_equal(uffd->brought[0]->page_size, huge);
	assert_is_served(uffd, o.at[0], huge, 0);
	assert_is_served(uffd, o.at[1], o.length[1], APART);
	gmem_uffd_destroy(uffd);
	line_end(&line);
	owner_end(&o);
}

/* What one side fills or gives up, the other side knows at once: there is one map. */
static void one_page_map(void **state)
{
	struct line line;
	struct owner o = owner_make(&line);
	struct gmem_uffd *uffd;
	unsigned char *bytes = calloc(1, page());
	struct gmem *here;

	(void)state;
	add_memory(&o, 0, GMEM_BACKING_MEMFD, PAGES * page(), GMEM_STRATEGY_FILL);
	uffd = receive(&o, &line);
	here = uffd->brought[0];
	assert_map(here, "EEEEEEEE");
	memset(bytes, 5, page());
	assert_int_equal(gmem_uffd_resolve(uffd, here, page(), page(), GMEM_RESOLVE_DATA, bytes, NULL), 0);
	assert_int_equal(gmem_discard(o.mem[0], 2 * page(), page(), NULL, NULL), 0);
	assert_map(o.mem[0], "EFDEEEEE");
	assert_map(here, "EFDEEEEE");
	assert_bytes(o.at[0] + page(), 5, page());
	assert_int_equal(gmem_uffd_resolve(uffd, here, 2 * page(), page(), GMEM_RESOLVE_DATA, bytes, NULL), 0);
	assert_bytes(o.at[0] + 2 * page(), 0, page()); /* given up is given up */
	gmem_uffd_destroy(uffd);
	free(bytes);
	line_end(&line);
	owner_end(&o);
}

static const struct gt_test tests[] = {
	GT(several_memories, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(huge_pages, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR | GT_NEEDS_HUGETLB_2M),
	GT(one_page_map, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("channel_memories", tests)
