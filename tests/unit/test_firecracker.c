/* SPDX-License-Identifier: MIT */
/* The handshake of Firecracker: its text in every form, and its way over a stream, cut anywhere. */
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
#include "err.h"
#include "firecracker.h"
#include "memories.h"

/* --- the text ----------------------------------------------------------------------------------------------------------- */

static const struct gmemi_fc_region two[] = {
	{ .hva = 0, .length = 1048576, .offset = 0, .page_size = 4096, .gpa = UINT64_MAX },
	{ .hva = 1048576, .length = 2097152, .offset = 0, .page_size = 2097152, .gpa = UINT64_MAX },
};

static const char *const texts[] = {
	[GMEMI_FC_FIRST] = "[{\"base_host_virt_addr\":0,\"size\":1048576,\"offset\":0},"
			   "{\"base_host_virt_addr\":1048576,\"size\":2097152,\"offset\":0}]",
	[GMEMI_FC_KIB] = "[{\"base_host_virt_addr\":0,\"size\":1048576,\"offset\":0,\"page_size_kib\":4096},"
			 "{\"base_host_virt_addr\":1048576,\"size\":2097152,\"offset\":0,\"page_size_kib\":2097152}]",
	[GMEMI_FC_PAGE_SIZE] =
		"[{\"base_host_virt_addr\":0,\"size\":1048576,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096},"
		"{\"base_host_virt_addr\":1048576,\"size\":2097152,\"offset\":0,\"page_size\":2097152,"
		"\"page_size_kib\":2097152}]",
	[GMEMI_FC_GUEST] = "[{\"base_host_virt_addr\":0,\"size\":1048576,\"offset\":0,\"gpa_start\":18446744073709551615,"
			   "\"page_size\":4096,\"is_guest_memfd\":false},"
			   "{\"base_host_virt_addr\":1048576,\"size\":2097152,\"offset\":0,\"gpa_start\":18446744073709551615,"
			   "\"page_size\":2097152,\"is_guest_memfd\":false}]",
};

static void what_is_written(void **state)
{
	(void)state;
	for (int form = 0; form <= GMEMI_FC_GUEST; form++) {
		size_t length;
		char *text;

		assert_int_equal(gmemi_fc_write((enum gmemi_fc_form)form, two, 2, &text, &length), 0);
		assert_int_equal(length, strlen(texts[form]));
		assert_memory_equal(text, texts[form], length);
		free(text);
	}
}

static int read_text(const char *text, uint32_t most, struct gmemi_fc_region *first, uint32_t *count, bool *guest)
{
	struct gmemi_fc_region *regions;
	struct gmemi_json json = { 0 };
	size_t used;
	int r;

	if (gmemi_json_scan(&json, text, strlen(text), &used) != 1)
		fail_msg("%s", text);
	gmemi_enter("test_call");
	r = gmemi_fc_read(text, most, &regions, count, guest);
	if (r == 0) {
		*first = regions[*count - 1];
		free(regions);
	}
	return r;
}

static void what_is_read(void **state)
{
	struct gmemi_fc_region last;
	uint32_t count;
	bool guest;

	(void)state;
	for (int form = 0; form <= GMEMI_FC_GUEST; form++) {
		assert_int_equal(read_text(texts[form], 2, &last, &count, &guest), 0);
		assert_int_equal(count, 2);
		assert_int_equal(guest, form == GMEMI_FC_GUEST);
		assert_int_equal(last.hva, 1048576);
		assert_int_equal(last.length, 2097152);
		assert_int_equal(last.page_size, form == GMEMI_FC_FIRST ? 0 : 2097152);
		assert_int_equal(last.gpa, UINT64_MAX);
	}
	assert_int_equal(
		read_text(
			" [ { \"offset\" : 3 , \"x\" : [ { } ] , \"size\" : 2, \"y\":\"\\ud83d\\ude00\", \"x\":{\"size\":9},\n"
			"\"is_guest_memfd\":true, \"base_host_virt_addr\" : 18446744073709551615,\"gpa_start\":4 } ]",
			1, &last, &count, &guest),
		0);
	assert_int_equal(last.hva, UINT64_MAX);
	assert_int_equal(last.length, 2);
	assert_int_equal(last.offset, 3);
	assert_int_equal(last.gpa, 4);
	assert_true(last.guest_memfd && guest);
}

static void what_is_refused(void **state)
{
	static const char *const rows[][2] = {
		{ "{}", "no array" },
		{ "[]", "no region" },
		{ "[1]", "no object" },
		{ "[{}]", "base_host_virt_addr" },
		{ "[{\"base_host_virt_addr\":0,\"offset\":0}]", "has no \"size\"" },
		{ "[{\"base_host_virt_addr\":0,\"size\":1}]", "has no \"offset\"" },
		{ "[{\"base_host_virt_addr\":0,\"size\":1,\"offset\":0,\"size\":1}]", "comes twice" },
		{ "[{\"base_host_virt_addr\":-1,\"size\":1,\"offset\":0}]", "no integer" },
		{ "[{\"base_host_virt_addr\":18446744073709551616,\"size\":1,\"offset\":0}]", "no integer" },
		{ "[{\"base_host_virt_addr\":0,\"size\":1.0,\"offset\":0}]", "no integer" },
		{ "[{\"base_host_virt_addr\":\"0\",\"size\":1,\"offset\":0}]", "no number" },
		{ "[{\"base_host_virt_addr\":0,\"size\":1,\"offset\":0,\"page_size\":4096,\"page_size_kib\":4}]", "differ" },
		{ "[{\"base_host_virt_addr\":0,\"size\":1,\"offset\":0},{\"base_host_virt_addr\":0,\"size\":1,\"offset\":0},"
		  "{\"base_host_virt_addr\":0,\"size\":1,\"offset\":0}]",
		  "more than 2" },
	};
	struct gmemi_fc_region last;
	uint32_t count;
	bool guest;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(read_text(rows[i][0], 2, &last, &count, &guest), -EPROTO);
		if (!strstr(gmem_last_error(), rows[i][1]))
			fail_msg("%s: %s", rows[i][0], gmem_last_error());
	}
}

/* --- over a stream ------------------------------------------------------------------------------------------------------ */

/* A message about this memory, whose content is at `first` in the source. The text is free()d by the caller. */
static char *message_about(const struct watched *w, uint64_t first, size_t *length)
{
	struct gmemi_fc_region region = { .hva = (uintptr_t)w->at, .length = w->length, .offset = first, .page_size = w->page };
	char *text;

	assert_int_equal(gmemi_fc_write(GMEMI_FC_PAGE_SIZE, &region, 1, &text, length), 0);
	return text;
}

static void expect_nothing(struct line *line)
{
	struct gmem_uffd *uffd;

	assert_int_equal(gmem_channel_recv(line->channel, line->vm, &uffd), -EAGAIN);
}

/* What has come is an endpoint for this memory, and it works. */
static void expect_endpoint(struct line *line, const struct watched *w, uint64_t first)
{
	struct gmem_uffd *uffd = line_take(line);

	assert_is_served(uffd, w->at, w->length, first);
	gmem_uffd_destroy(uffd);
}

/* `cut` bytes, which are looked at, then the rest. */
static void in_two_parts(int type, size_t cut, bool fd_first)
{
	struct line line = line_make(type, NULL);
	struct watched w = watched_make(1);
	size_t length;
	char *text = message_about(&w, 0, &length);

	send_raw(line.far, text, cut, &w.uffd, fd_first);
	expect_nothing(&line);
	send_raw(line.far, text + cut, length - cut, &w.uffd, !fd_first);
	expect_endpoint(&line, &w, 0);
	free(text);
	watched_end(&w);
	line_end(&line);
}

static void cut_at_every_place(void **state)
{
	struct watched w = watched_make(1);
	size_t length;

	(void)state;
	free(message_about(&w, 0, &length));
	watched_end(&w);
	assert_in_range(length, 80, 200);
	for (size_t cut = 1; cut + 8 < length; cut++) { /* addresses differ in length */
		in_two_parts(SOCK_STREAM, cut, true);
		in_two_parts(SOCK_STREAM, cut, false);
	}
	in_two_parts(SOCK_SEQPACKET, length / 2, true);
	in_two_parts(SOCK_SEQPACKET, length / 2, false);
}

#define PARTS 7

static void the_fd_on_every_part(void **state)
{
	(void)state;
	for (size_t with = 0; with < 2 * PARTS; with++) {
		struct line line = line_make(with < PARTS ? SOCK_STREAM : SOCK_SEQPACKET, NULL);
		struct watched w = watched_make(1);
		size_t length, at = 0;
		char *text = message_about(&w, 4096, &length);

		for (size_t part = 0; part < PARTS; part++) {
			size_t end = length * (part + 1) / PARTS;

			if (with % 2)
				part ? expect_nothing(&line) : (void)0;
			send_raw(line.far, text + at, end - at, &w.uffd, part == with % PARTS);
			at = end;
		}
		expect_endpoint(&line, &w, 4096);
		free(text);
		watched_end(&w);
		line_end(&line);
	}
}

static void byte_by_byte(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct watched w = watched_make(3);
	size_t length;
	char *text = message_about(&w, 8192, &length);

	(void)state;
	for (size_t i = 0; i < length; i++) {
		expect_nothing(&line);
		send_raw(line.far, text + i, 1, &w.uffd, i == length / 2);
	}
	expect_endpoint(&line, &w, 8192);
	free(text);
	watched_end(&w);
	line_end(&line);
}

#define HANDSHAKES 5

/* Each says where its own content is, so a fd that is taken for another's shows. */
static void several_on_one_stream(void **state)
{
	struct gmem_channel_info about = { .size = sizeof(about) };
	struct line line = line_make(SOCK_STREAM, NULL);
	struct watched w[HANDSHAKES];

	(void)state;
	for (uint64_t i = 0; i < HANDSHAKES; i++) {
		size_t length;
		char *text;

		w[i] = watched_make(2);
		text = message_about(&w[i], i * 65536, &length);
		send_raw(line.far, text, length, &w[i].uffd, 1);
		if (i % 2)
			send_raw(line.far, "\n ", 2, NULL, 0);
		free(text);
	}
	for (uint64_t i = 0; i < HANDSHAKES; i++)
		expect_endpoint(&line, &w[i], i * 65536);
	expect_nothing(&line);
	assert_int_equal(gmem_channel_query(line.channel, &about), 0);
	assert_int_equal(about.endpoints, HANDSHAKES);
	assert_int_equal(about.protocol, GMEM_PROTOCOL_FIRECRACKER);
	line_close_far(&line);
	line_refuses(&line, -ENOTCONN, "closed its end");
	for (uint64_t i = 0; i < HANDSHAKES; i++)
		watched_end(&w[i]);
	line_end(&line);
}

/* Two in one: both fds come with the first byte. And an end that comes with the next beginning. */
static void run_together(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct watched one = watched_make(1), other = watched_make(1);
	size_t length, second;
	char *text = message_about(&one, 0, &length), *next = message_about(&other, 65536, &second);
	char both[1024];
	int fds[2] = { one.uffd, other.uffd };

	(void)state;
	memcpy(both, text, length);
	memcpy(both + length, next, second);
	send_raw(line.far, both, length + second, fds, 2);
	expect_endpoint(&line, &one, 0);
	expect_endpoint(&line, &other, 65536);
	watched_end(&one);
	one = watched_make(1);
	free(text);
	text = message_about(&one, 0, &length);
	send_raw(line.far, text, length / 2, &one.uffd, 1);
	watched_end(&other);
	other = watched_make(1);
	free(next);
	next = message_about(&other, 65536, &second);
	memcpy(both, text + length / 2, length - length / 2);
	memcpy(both + length - length / 2, next, 3);
	send_raw(line.far, both, length - length / 2 + 3, &other.uffd, 1);
	expect_endpoint(&line, &one, 0);
	expect_nothing(&line);
	send_raw(line.far, next + 3, second - 3, NULL, 0);
	expect_endpoint(&line, &other, 65536);
	free(text);
	free(next);
	watched_end(&one);
	watched_end(&other);
	line_end(&line);
}

#define MANY 1000

static void a_thousand_regions(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct watched w = watched_make(MANY);
	struct gmemi_fc_region *regions = calloc(MANY, sizeof(*regions));
	struct gmem_uffd_info info = { .size = sizeof(info) };
	struct gmem_uffd *uffd;
	size_t length;
	char *text;

	(void)state;
	for (uint64_t i = 0; i < MANY; i++) { /* in no order */
		uint64_t number = i * 373 % MANY;

		regions[i] = (struct gmemi_fc_region){ .hva = (uintptr_t)w.at + number * w.page,
						       .length = w.page,
						       .offset = number * w.page,
						       .page_size = w.page };
	}
	assert_int_equal(gmemi_fc_write(GMEMI_FC_KIB, regions, MANY, &text, &length), 0);
	send_raw(line.far, text, length, &w.uffd, 1);
	uffd = line_take(&line);
	assert_int_equal(gmem_uffd_query(uffd, &info), 0);
	assert_int_equal(info.ranges, MANY);
	assert_is_served(uffd, w.at, w.length, 0);
	gmem_uffd_destroy(uffd);
	free(text);
	free(regions);
	watched_end(&w);
	line_end(&line);
}

/* The program wants to know more of who sends: that comes along with the fds, and is not kept. */
static void what_else_the_kernel_sends_along(void **state)
{
	static const int names[] = { SO_PASSCRED, SO_PASSSEC, 76 /* SO_PASSPIDFD, kernel 6.5 */ };
	struct line line = line_make(SOCK_STREAM, NULL);
	struct watched w = watched_make(1);
	size_t length;
	char *text = message_about(&w, 0, &length);
	int on = 1;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(setsockopt(line.channel->fd, SOL_SOCKET, names[i], &on, sizeof(on)) && errno != ENOPROTOOPT,
				 0);
	send_raw(line.far, text, length, &w.uffd, 1);
	expect_endpoint(&line, &w, 0);
	free(text);
	watched_end(&w);
	line_end(&line);
}

/* Senders that are kin of it bring a memfd too, which says nothing to this form. */
static void a_memfd_beside_it(void **state)
{
	struct line line = line_make(SOCK_STREAM, NULL);
	struct watched w = watched_make(1);
	size_t length;
	char *text = message_about(&w, 0, &length);
	int fds[2] = { w.uffd, fcntl(0, F_DUPFD_CLOEXEC, 3) };

	(void)state;
	send_raw(line.far, text, length, fds, 2);
	close(fds[1]);
	expect_endpoint(&line, &w, 0);
	free(text);
	watched_end(&w);
	line_end(&line);
}

/* The branch for guest_memfd: three fds. Nothing watches a guest_memfd on the kernels of today, so what is filled is looked at
 * through the file. */
static void a_guest_memfd_and_a_bitmap(void **state)
{
	struct memory memory = make_memory(REAL_GUEST_MEMFD, 16 * 4096);
	struct line line = line_make(SOCK_STREAM, NULL);
	struct watched w = watched_make(16);
	struct gmemi_fc_region region = {
		.hva = (uintptr_t)w.at, .length = w.length, .gpa = UINT64_C(1) << 32, .page_size = w.page, .guest_memfd = true
	};
	int fds[3] = { w.uffd, gmem_get_fd(memory.mem, GMEM_FD_MEMORY), memfd_create("bitmap", MFD_CLOEXEC) };
	unsigned char bytes[4096];
	struct gmem_uffd *uffd;
	size_t length;
	char *text;

	(void)state;
	assert_int_equal(gmemi_fc_write(GMEMI_FC_GUEST, &region, 1, &text, &length), 0);
	send_raw(line.far, text, length, fds, 3);
	close(fds[2]);
	uffd = line_take(&line);
	assert_true(line.channel->bitmap >= 3);
	memset(bytes, 42, sizeof(bytes));
	assert_int_equal(uffd->brought_count, 1);
	assert_int_equal(gmem_populate(uffd->brought[0], 3 * 4096, sizeof(bytes), bytes, NULL, NULL), 0);
	assert_reads(memory.mem, 3 * 4096, bytes, sizeof(bytes));
	gmem_uffd_destroy(uffd);
	free(text);
	watched_end(&w);
	line_end(&line);
	end_memory(&memory);
}

static const struct gt_test tests[] = {
	GT(what_is_written, GT_NEEDS_NOTHING),    GT(what_is_read, GT_NEEDS_NOTHING),
	GT(what_is_refused, GT_NEEDS_NOTHING),    GT(cut_at_every_place, GT_NEEDS_UFFD),
	GT(the_fd_on_every_part, GT_NEEDS_UFFD),  GT(byte_by_byte, GT_NEEDS_UFFD),
	GT(several_on_one_stream, GT_NEEDS_UFFD), GT(run_together, GT_NEEDS_UFFD),
	GT(a_thousand_regions, GT_NEEDS_UFFD),    GT(what_else_the_kernel_sends_along, GT_NEEDS_UFFD),
	GT(a_memfd_beside_it, GT_NEEDS_UFFD),     GT(a_guest_memfd_and_a_bitmap, GT_NEEDS_UFFD | GT_NEEDS_GUEST_MEMFD),
};

GT_MAIN("firecracker", tests)
