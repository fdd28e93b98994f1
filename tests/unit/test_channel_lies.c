/* SPDX-License-Identifier: MIT */
/* Peers that lie about their ranges, their sizes and their numbers, or say things in an order in which they make no sense; and
 * ranges that come and go while the endpoint is in use. */
#include "gt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "channels.h"
#include "handles.h"

#define MEMORY_PAGES 16
#define AT (UINT64_C(1) << 40) /* an address that nobody asks about */
#define GUEST (UINT64_C(1) << 32)

/* --- regions ------------------------------------------------------------------------------------------------------------ */

/* A peer with memory 3, and what else it says after. */
struct liar {
	struct line line;
	struct speaker speaker;
	struct watched w;
	int memory;
};

static struct liar liar_make(const struct gmem_channel_open_opts *opts, uint32_t regions)
{
	struct liar liar = { .line = line_make(SOCK_STREAM, opts), .w = watched_make(MEMORY_PAGES) };
	struct gmemi_wire wire = { .type = GMEMI_WIRE_MEMORY, .fds = 1 };

	liar.speaker.socket = liar.line.far;
	liar.memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(liar.memory, (off_t)(MEMORY_PAGES * page())), 0);
	assert_int_equal(fcntl(liar.memory, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	say_hello(&liar.speaker);
	say_endpoint(&liar.speaker, liar.w.uffd, 1, regions, 0);
	wire.memory = (struct gmemi_wire_memory){
		.endpoint = 9, .memory = 3, .map = GMEMI_WIRE_NONE, .length = MEMORY_PAGES * page(), .page_size = page()
	};
	say(&liar.speaker, &wire, &liar.memory);
	return liar;
}

static void liar_end(struct liar *liar)
{
	close(liar->memory);
	watched_end(&liar->w);
	line_end(&liar->line);
}

/* Two pages at AT, of memory 3. */
static struct gmemi_wire_region good(void)
{
	return (struct gmemi_wire_region){ .memory = 3,
					   .strategy = GMEMI_WIRE_FILL,
					   .offset = 4 * page(),
					   .length = 2 * page(),
					   .hva = AT,
					   .gpa = GUEST,
					   .page_size = page() };
}

static void say_regions(struct liar *liar, const struct gmemi_wire_region *regions, uint32_t count)
{
	struct gmemi_wire wire = {
		.type = GMEMI_WIRE_REGIONS, .regions = { .endpoint = 9 }, .items = regions, .item_count = count
	};

	say(&liar->speaker, &wire, NULL);
}

/* The good one, and this one after it, are refused. */
static void refused_region(struct gmemi_wire_region region, const char *word)
{
	struct liar liar = liar_make(NULL, 2);
	struct gmemi_wire_region regions[2] = { good(), region };

	say_regions(&liar, regions, 2);
	say_ready(&liar.speaker);
	line_refuses(&liar.line, -EPROTO, word);
	liar_end(&liar);
}

#define REFUSED(word, ...)                                                  \
	do {                                                                \
		struct gmemi_wire_region r = good();                        \
		r.offset = 0, r.hva = AT + 64 * page(), r.gpa = UINT64_MAX; \
		__VA_ARGS__;                                                \
		refused_region(r, word);                                    \
	} while (0)

static void regions_that_are_wrong(void **state)
{
	(void)state;
	REFUSED("overlap", r.hva = AT);
	REFUSED("overlap", r.hva = AT + page());
	REFUSED("overlap", r.hva = AT - page());
	REFUSED("overlap", r.hva = AT - 4 * page(), r.length = 8 * page());
	REFUSED("guest addresses", r.gpa = GUEST);
	REFUSED("guest addresses", r.gpa = GUEST - page());
	REFUSED("guest addresses", r.gpa = GUEST + page());
	REFUSED("wrap", r.hva = UINT64_MAX - page() + 1);
	REFUSED("wrap", r.offset = UINT64_MAX - page() + 1);
	REFUSED("wrap", r.gpa = UINT64_MAX - page() + 1);
	REFUSED("wrap", r.content = UINT64_MAX - page());
	REFUSED("no multiple", r.hva++);
	REFUSED("no multiple", r.offset = page() / 2);
	REFUSED("no multiple", r.gpa = 1);
	REFUSED("the length", r.length++);
	REFUSED("page size", r.page_size = page() * 3);
	REFUSED("pages of", r.page_size = page() * 2, r.hva = AT * 2);
	REFUSED("beyond the end", r.offset = (MEMORY_PAGES - 1) * page());
	REFUSED("beyond the end", r.offset = MEMORY_PAGES * page());
	REFUSED("beyond the end", r.length = (MEMORY_PAGES + 1) * page());
	REFUSED("has not come", r.memory = 4);
	REFUSED("without a memory", r.memory = GMEMI_WIRE_NONE);
	REFUSED("a region is refused", r.offset = 5 * page()); /* the file's pages twice */
	REFUSED("has page_size 0", r.page_size = 0);
	REFUSED("has length 0", r.length = 0);
	REFUSED("has strategy 3", r.strategy = 3);
	REFUSED("has memory 64", r.memory = 64);
}

/* The same by the other protocol, where the numbers come as text. */
static void refused_text(const char *text, const char *word)
{
	struct gmem_channel_open_opts few = { .size = sizeof(few), .max_regions = 2, .max_length = 1 << 20 };
	struct line line = line_make(SOCK_STREAM, &few);
	struct watched w = watched_make(1);

	send_raw(line.far, text, strlen(text), &w.uffd, 1);
	line_refuses(&line, -EPROTO, word);
	watched_end(&w);
	line_end(&line);
}

#define REGION(hva, size, offset, page_size) \
	"{\"base_host_virt_addr\":" hva ",\"size\":" size ",\"offset\":" offset ",\"page_size\":" page_size "}"

static void texts_that_are_wrong(void **state)
{
	(void)state;
	refused_text("[" REGION("65536", "65536", "0", "65536") "," REGION("65536", "65536", "0", "65536") "]", "overlap");
	refused_text("[" REGION("18446744073709486080", "131072", "0", "65536") "]", "wrap");
	refused_text("[" REGION("65536", "65536", "18446744073709551615", "65536") "]", "wrap");
	refused_text("[" REGION("4096", "65536", "0", "65536") "]", "no multiple");
	refused_text("[" REGION("65536", "65537", "0", "65536") "]", "the length");
	refused_text("[" REGION("65536", "0", "0", "65536") "]", "the length");
	refused_text("[" REGION("65536", "65536", "0", "4") "]", "page size");
	refused_text("[" REGION("65536", "65536", "0", "98304") "]", "page size");
	refused_text("[" REGION("0", "4611686018427387904", "0", "2147483648") "]", "page size");
	refused_text("[" REGION("0", "1048576", "0", "65536") "," REGION("1048576", "65536", "0", "65536") "]", "bytes");
	refused_text("[" REGION("0", "65536", "0", "65536") "," REGION("65536", "65536", "0",
								       "65536") "," REGION("131072", "65536", "0", "65536") "]",
		     "more than 2");
	refused_text("[{\"base_host_virt_addr\":0,\"size\":65536,\"offset\":0,\"is_guest_memfd\":true}]", "did not come");
	refused_text("[1 2]", "the JSON is wrong");
	refused_text("x", "no protocol");
	refused_text("\xff", "no protocol");
	refused_text("GMEX", "no message");
}

/* Of which no end comes. */
static void a_text_without_an_end(void **state)
{
	struct gmem_channel_open_opts few = { .size = sizeof(few), .max_regions = 2 };
	struct line line = line_make(SOCK_STREAM, &few);
	char spaces[6000];

	(void)state;
	memset(spaces, ' ', sizeof(spaces));
	send_raw(line.far, "[", 1, NULL, 0);
	send_raw(line.far, spaces, sizeof(spaces), NULL, 0);
	line_refuses(&line, -EPROTO, "longer than 2 regions");
	line_end(&line);
}

/* --- numbers and limits ------------------------------------------------------------------------------------------------- */

static void fewer_or_more_than_was_said(void **state)
{
	(void)state;
	for (uint32_t said = 0; said < 4; said++) {
		struct liar liar = liar_make(NULL, said);
		struct gmemi_wire_region region = good();

		if (said != 1) {
			say_regions(&liar, &region, 1);
			say_ready(&liar.speaker);
			line_refuses(&liar.line, -EPROTO, "regions came, not");
		}
		liar_end(&liar);
	}
}

static void more_than_is_allowed(void **state)
{
	struct gmem_channel_open_opts few = { .size = sizeof(few), .max_regions = 1 }, small = { .size = sizeof(small) };
	struct gmemi_wire_region regions[2] = { good(), good() };
	struct liar liar = liar_make(&few, 1);

	(void)state;
	regions[1].offset = 0;
	regions[1].hva = 2 * AT;
	regions[1].gpa = UINT64_MAX;
	say_regions(&liar, regions, 2);
	line_refuses(&liar.line, -EPROTO, "more than 1 regions");
	liar_end(&liar);
	liar = liar_make(&few, 2);
	line_refuses(&liar.line, -EPROTO, "more than are allowed");
	liar_end(&liar);
	small.max_length = MEMORY_PAGES * page();
	liar = liar_make(&small, 2);
	regions[0].offset = 0;
	regions[0].length = MEMORY_PAGES * page();
	regions[1] = good();
	regions[1].memory = GMEMI_WIRE_NONE;
	regions[1].strategy = GMEMI_WIRE_COPY;
	regions[1].hva = 2 * AT;
	regions[1].gpa = UINT64_MAX;
	say_regions(&liar, regions, 2);
	line_refuses(&liar.line, -EPROTO, "the endpoint has more than");
	liar_end(&liar);
	small.max_length -= page();
	liar = liar_make(&small, 2);
	line_refuses(&liar.line, -EPROTO, "memory 3 has");
	liar_end(&liar);
}

static void more_memories_than_are_allowed(void **state)
{
	struct gmem_channel_open_opts one = { .size = sizeof(one), .max_memories = 1 };
	struct liar liar = liar_make(&one, 1);
	struct gmemi_wire wire = { .type = GMEMI_WIRE_MEMORY, .fds = 1 };

	(void)state;
	wire.memory = (struct gmemi_wire_memory){
		.endpoint = 9, .memory = 4, .map = GMEMI_WIRE_NONE, .length = MEMORY_PAGES * page(), .page_size = page()
	};
	say(&liar.speaker, &wire, &liar.memory);
	line_refuses(&liar.line, -EPROTO, "more than 1 memories");
	liar_end(&liar);
	liar = (struct liar){ .line = line_make(SOCK_STREAM, &one), .w = watched_make(1), .memory = -1 };
	liar.speaker.socket = liar.line.far;
	say_hello(&liar.speaker);
	say_endpoint(&liar.speaker, liar.w.uffd, 2, 1, 0);
	line_refuses(&liar.line, -EPROTO, "2 memories: more than are allowed");
	watched_end(&liar.w);
	line_end(&liar.line);
}

/* --- order -------------------------------------------------------------------------------------------------------------- */

static void refused_hello(uint32_t least, uint32_t most, uint32_t role, const char *word)
{
	struct line line = line_make(SOCK_SEQPACKET, NULL);
	struct speaker speaker = { .socket = line.far };
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HELLO }, heard;
	unsigned char bytes[4096];

	wire.hello = (struct gmemi_wire_hello){ .version_least = least, .version_most = most, .role = role };
	say(&speaker, &wire, NULL);
	line_refuses(&line, -EPROTO, word);
	assert_true(hear(line.far, bytes, sizeof(bytes), GMEMI_WIRE_ERROR, &heard) > 0);
	assert_int_equal(heard.error.code, GMEMI_WIRE_BROKEN);
	assert_non_null(memmem(heard.text, heard.text_length, word, strlen(word))); /* the peer is told the same */
	line_end(&line);
}

static void hellos_that_do_not_fit(void **state)
{
	(void)state;
	refused_hello(2, 3, GMEMI_WIRE_OWNER, "versions 2 to 3");
	refused_hello(1, 1, GMEMI_WIRE_PAGER, "what this end is");
}

static void out_of_order(void **state)
{
	(void)state;
	for (int wrong = 0; wrong < 8; wrong++) {
		struct line line = line_make(SOCK_STREAM, NULL);
		struct speaker speaker = { .socket = line.far };
		struct watched w = watched_make(1);
		struct gmemi_wire other = { .type = GMEMI_WIRE_READY, .end = { .endpoint = 8 } };
		struct gmemi_wire error = { .type = GMEMI_WIRE_ERROR, .text = "no more", .text_length = 7 };

		if (wrong != 0)
			say_hello(&speaker);
		if (wrong == 1)
			say_hello(&speaker);
		if (wrong != 2)
			say_endpoint(&speaker, w.uffd, 0, 1, w.length);
		if (wrong == 3)
			say_endpoint(&speaker, w.uffd, 0, 1, w.length);
		if (wrong == 4)
			say(&speaker, &other, NULL);
		if (wrong == 7)
			say(&speaker, &error, NULL);
		say_region(&speaker, (uintptr_t)w.at, w.length, 0);
		if (wrong == 5)
			say_region(&speaker, (uintptr_t)w.at, w.length, 0);
		say_ready(&speaker);
		if (wrong == 6) {
			struct gmem_uffd *uffd = line_take(&line);

			say_ready(&speaker);
			gmem_uffd_destroy(uffd);
		}
		line_refuses(&line, -EPROTO,
			     (const char *[]){ "before HELLO", "HELLO comes twice", "has not come", "before the one before",
					       "endpoint 8", "overlap", "READY comes twice", "no more" }[wrong]);
		watched_end(&w);
		line_end(&line);
	}
}

static void fds_that_are_named_and_do_not_come(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct speaker speaker = { .socket = line.far };
	struct gmemi_wire wire = { .type = GMEMI_WIRE_ENDPOINT, .fds = 1 };
	unsigned char bytes[256];
	size_t length = gmemi_wire_encode(&wire, bytes, sizeof(bytes));

	(void)state;
	say_hello(&speaker);
	send_raw(line.far, bytes, length, NULL, 0);
	line_refuses(&line, -EPROTO, "names 1 fds, 0 came");
	line_end(&line);
}

/* A message that only a later version knows, with a fd, in the midst of a handshake: nobody is troubled. */
static void what_is_not_known_is_passed_over(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct speaker speaker = { .socket = line.far };
	struct watched w = watched_make(2);
	struct gmemi_wire wire = { .type = GMEMI_WIRE_HEARTBEAT, .fds = 1 };
	int ends[2], fd;
	struct gmem_uffd *uffd;
	unsigned char bytes[256];
	size_t length;
	char byte;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fd = ends[1];
	length = gmemi_wire_encode(&wire, bytes, sizeof(bytes));
	bytes[8] = 40;
	say_hello(&speaker);
	say_endpoint(&speaker, w.uffd, 0, 1, w.length);
	send_raw(line.far, bytes, length, &fd, 1);
	close(fd);
	say_region(&speaker, (uintptr_t)w.at, w.length, 12288);
	say_ready(&speaker);
	uffd = line_take(&line);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	close(ends[0]);
	assert_is_served(uffd, w.at, w.length, 12288);
	gmem_uffd_destroy(uffd);
	watched_end(&w);
	line_end(&line);
}

/* --- afterwards --------------------------------------------------------------------------------------------------------- */

static void take_news(struct line *line)
{
	struct gmem_uffd *none;

	assert_int_equal(gmem_channel_recv(line->channel, line->vm, &none), -EAGAIN);
}

static void ranges_come_and_go(void **state)
{
	struct line line = line_make(SOCK_SEQPACKET, NULL);
	struct speaker speaker = { .socket = line.far };
	struct watched w = watched_make(8);
	struct gmem_uffd_info info = { .size = sizeof(info) };
	struct gmemi_wire_range range = { .memory = GMEMI_WIRE_NONE, .offset = (uintptr_t)w.at, .length = 2 * w.page };
	struct gmemi_wire remove = { .type = GMEMI_WIRE_REMOVE, .end = { .endpoint = 9 }, .items = &range, .item_count = 1 };
	struct gmemi_wire detach = { .type = GMEMI_WIRE_DETACH, .end = { .endpoint = 9 } };
	struct gmem_uffd *uffd;

	(void)state;
	say_hello(&speaker);
	say_endpoint(&speaker, w.uffd, 0, 1, w.length);
	say_region(&speaker, (uintptr_t)w.at, 2 * w.page, 0);
	say_ready(&speaker);
	uffd = line_take(&line);
	say_region(&speaker, (uintptr_t)w.at + 4 * w.page, 4 * w.page, 4 * w.page);
	take_news(&line);
	assert_int_equal(gmem_uffd_query(uffd, &info), 0);
	assert_int_equal(info.ranges, 2);
	assert_is_served(uffd, w.at + 4 * w.page, 4 * w.page, 4 * w.page);
	say(&speaker, &remove, NULL);
	take_news(&line);
	assert_int_equal(gmem_uffd_query(uffd, &info), 0);
	assert_int_equal(info.ranges, 1);
	assert_int_equal(info.length, 4 * w.page);
	say_region(&speaker, (uintptr_t)w.at, 2 * w.page, 8192); /* there is room again */
	take_news(&line);
	assert_is_served(uffd, w.at, 2 * w.page, 8192);
	say(&speaker, &detach, NULL);
	take_news(&line);
	say_endpoint(&speaker, w.uffd, 0, 1, w.length); /* and for another */
	take_news(&line);
	gmem_uffd_destroy(uffd);
	watched_end(&w);
	line_end(&line);
}

static void refused_removal(uint64_t offset_pages, uint64_t pages, uint32_t memory, const char *word)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct speaker speaker = { .socket = line.far };
	struct watched w = watched_make(8);
	struct gmemi_wire_range range = { .memory = memory,
					  .offset = (uintptr_t)w.at + offset_pages * w.page,
					  .length = pages * w.page };
	struct gmemi_wire remove = { .type = GMEMI_WIRE_REMOVE, .end = { .endpoint = 9 }, .items = &range, .item_count = 1 };
	struct gmem_uffd *uffd;

	say_hello(&speaker);
	say_endpoint(&speaker, w.uffd, 0, 1, w.length);
	say_region(&speaker, (uintptr_t)w.at, 4 * w.page, 0);
	say_ready(&speaker);
	uffd = line_take(&line);
	say(&speaker, &remove, NULL);
	line_refuses(&line, -EPROTO, word);
	assert_is_served(uffd, w.at, 4 * w.page, 0); /* what was there before is not touched */
	gmem_uffd_destroy(uffd);
	watched_end(&w);
	line_end(&line);
}

static void removals_that_are_wrong(void **state)
{
	(void)state;
	refused_removal(4, 4, GMEMI_WIRE_NONE, "no region");
	refused_removal(0, 2, GMEMI_WIRE_NONE, "only partly");
	refused_removal(2, 4, GMEMI_WIRE_NONE, "only partly");
	refused_removal(0, 4, 5, "has not come");
	refused_removal(0, UINT64_C(1) << 51, GMEMI_WIRE_NONE, "length");
}

static const struct gt_test tests[] = {
	GT(regions_that_are_wrong, GT_NEEDS_UFFD),
	GT(texts_that_are_wrong, GT_NEEDS_UFFD),
	GT(a_text_without_an_end, GT_NEEDS_NOTHING),
	GT(fewer_or_more_than_was_said, GT_NEEDS_UFFD),
	GT(more_than_is_allowed, GT_NEEDS_UFFD),
	GT(more_memories_than_are_allowed, GT_NEEDS_UFFD),
	GT(hellos_that_do_not_fit, GT_NEEDS_NOTHING),
	GT(out_of_order, GT_NEEDS_UFFD),
	GT(fds_that_are_named_and_do_not_come, GT_NEEDS_NOTHING),
	GT(what_is_not_known_is_passed_over, GT_NEEDS_UFFD),
	GT(ranges_come_and_go, GT_NEEDS_UFFD),
	GT(removals_that_are_wrong, GT_NEEDS_UFFD),
};

GT_MAIN("channel_lies", tests)
