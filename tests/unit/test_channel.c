/* SPDX-License-Identifier: MIT */
/* Memory that goes to another process and is filled there, over both protocols and both kinds of sockets. */
#include "gt.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel.h"
#include "channels.h"
#include "handles.h"

#define PAGES 64
#define SPECIAL 7  /* a page that the owner fills itself, and */
#define GIVEN_UP 9 /* one that it gives up, before */

/* --- the owner, another process ----------------------------------------------------------------------------------------- */

struct part {
	int type;
	uint32_t backing, strategy, protocol;
	uint32_t regions; /* as many, of the same length */
	uint64_t pages;   /* 0 = PAGES */
};

#define MUST(condition)                                                                    \
	do {                                                                               \
		if (!(condition)) {                                                        \
			printf("  the owner, line %d: %s\n", __LINE__, gmem_last_error()); \
			fflush(stdout);                                                    \
			_exit(1);                                                          \
		}                                                                          \
	} while (0)

static uint64_t pages_of(const struct part *part)
{
	return part->pages ? part->pages : PAGES;
}

static bool as_expected(const unsigned char *at, uint64_t number, bool prepared)
{
	for (uint64_t i = 0; i < page(); i++) {
		int expected = content_at(number * page() + i);

		if (prepared && number == SPECIAL)
			expected = 77;
		if (prepared && number == GIVEN_UP)
			expected = 0;
		if (at[i] != expected)
			return false;
	}
	return true;
}

/* One page that is filled and one that is given up before the other process hears of them: its map says so. */
static void prepare(struct gmem *mem)
{
	unsigned char bytes[65536];

	memset(bytes, 77, page());
	MUST(gmem_populate(mem, SPECIAL * page(), page(), bytes, NULL, NULL) == 0);
	MUST(gmem_discard(mem, GIVEN_UP * page(), page(), NULL, NULL) == 0);
}

static void own(int socket, const struct part *part)
{
	struct gmem_create_opts need = { .size = sizeof(need),
					 .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY,
					 .backing = part->backing };
	struct gmem_channel_open_opts speak = { .size = sizeof(speak), .protocol = part->protocol, .identity = "the owner" };
	struct gmem_uffd_register_opts how = { .size = sizeof(how), .strategy = part->strategy };
	uint64_t pages = pages_of(part), length = pages * page(), step = length / part->regions;
	bool prepared = part->protocol != GMEM_PROTOCOL_FIRECRACKER;
	struct gmem_channel *channel;
	struct gmem_uffd *uffd;
	struct gmem_vm *vm;
	struct gmem *mem;
	void *at;

	alarm(60);
	MUST(gmem_vm_open(-1, &vm, NULL) == 0);
	MUST(gmem_create(vm, length, &mem, &need) == 0);
	MUST(gmem_map(mem, 0, length, &at, NULL) == 0);
	MUST(gmem_bind(mem, 0, UINT64_C(1) << 32, 0, length, NULL) == 0);
	if (prepared)
		prepare(mem);
	MUST(gmem_uffd_create(vm, &uffd, NULL) == 0);
	for (uint64_t i = 0; i < part->regions; i++)
		MUST(gmem_uffd_register(uffd, mem, i * step, step, &how) == 0);
	MUST(gmem_channel_open(socket, &channel, &speak) == 0);
	MUST(gmemi_channel_send(channel, uffd, 5) == 0);
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t number = i * 37 % pages; /* in no order */

		MUST(as_expected((unsigned char *)at + number * page(), number, prepared));
	}
	_exit(0);
}

struct owner {
	pid_t pid;
	struct line line;
};

static struct owner start_owner(const struct part *part)
{
	struct owner owner = { .line = line_make(part->type, NULL) };

	fflush(stdout);
	owner.pid = fork();
	assert_true(owner.pid >= 0);
	if (owner.pid == 0)
		own(owner.line.far, part);
	line_close_far(&owner.line);
	return owner;
}

static int owner_status(struct owner *owner)
{
	int status;

	assert_int_equal(waitpid(owner->pid, &status, 0), owner->pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* --- it works ----------------------------------------------------------------------------------------------------------- */

static void serve_until_it_ends(struct owner *owner, struct gmem_uffd *uffd, uint64_t length)
{
	unsigned char *bytes = malloc(length);
	struct gmem_source *source;
	struct gmem_pager *pager;

	for (uint64_t i = 0; i < length; i++)
		bytes[i] = content_at(i);
	assert_int_equal(gmem_source_create_memory(bytes, length, &source), 0);
	assert_int_equal(gmem_pager_create(&pager, NULL), 0);
	assert_int_equal(gmem_pager_add(pager, uffd, source, NULL), 0);
	assert_int_equal(gmem_pager_start(pager), 0);
	assert_int_equal(owner_status(owner), 0);
	gmem_pager_destroy(pager);
	gmem_source_destroy(source);
	free(bytes);
}

static void hand_over(const struct part *part)
{
	struct gmem_channel_info about = { .size = sizeof(about) };
	struct gmem_uffd_info info = { .size = sizeof(info) };
	struct owner owner = start_owner(part);
	struct gmem_uffd *uffd = line_take(&owner.line);

	assert_int_equal(gmem_channel_query(owner.line.channel, &about), 0);
	assert_int_equal(about.protocol, part->protocol ? part->protocol : GMEM_PROTOCOL_NATIVE);
	assert_int_equal(about.endpoints, 1);
	assert_string_equal(about.identity, about.protocol == GMEM_PROTOCOL_NATIVE ? "the owner" : "");
	assert_int_equal(about.uid, geteuid());
	assert_int_equal(gmem_uffd_query(uffd, &info), 0);
	assert_int_equal(info.ranges, part->regions);
	assert_int_equal(info.length, pages_of(part) * page());
	serve_until_it_ends(&owner, uffd, info.length);
	gmem_uffd_destroy(uffd);
	line_end(&owner.line);
}

static void a_memfd_is_filled(void **state)
{
	struct part part = { .type = SOCK_STREAM, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_FILL, .regions = 1 };

	(void)state;
	hand_over(&part);
	part.type = SOCK_SEQPACKET;
	part.regions = 4;
	hand_over(&part);
}

static void a_memfd_is_filled_as_the_library_likes(void **state)
{
	struct part part = { .type = SOCK_STREAM, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_AUTO, .regions = 2 };

	(void)state;
	hand_over(&part);
}

static void a_memfd_is_copied_to(void **state)
{
	struct part part = { .type = SOCK_STREAM, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_COPY, .regions = 2 };

	(void)state;
	hand_over(&part);
	part.type = SOCK_SEQPACKET;
	hand_over(&part);
}

static void the_protocol_of_firecracker(void **state)
{
	struct part part = { .type = SOCK_STREAM,
			     .backing = GMEM_BACKING_MEMFD,
			     .strategy = GMEM_STRATEGY_COPY,
			     .protocol = GMEM_PROTOCOL_FIRECRACKER,
			     .regions = 1 };

	(void)state;
	hand_over(&part);
	part.regions = 16;
	hand_over(&part);
}

static void a_thousand_regions(void **state)
{
	struct part part = { .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_FILL, .regions = 1000, .pages = 1000 };

	(void)state;
	part.type = SOCK_STREAM;
	hand_over(&part);
	part.type = SOCK_SEQPACKET;
	hand_over(&part);
	part.type = SOCK_STREAM;
	part.strategy = GMEM_STRATEGY_COPY;
	part.protocol = GMEM_PROTOCOL_FIRECRACKER;
	hand_over(&part);
}

/* The owner ends while its memory is served here: nothing waits, and what came is let go. */
static void an_owner_that_is_killed(void **state)
{
	struct part part = { .type = SOCK_STREAM, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_FILL, .regions = 2 };
	struct owner owner = start_owner(&part);
	struct gmem_uffd *uffd = line_take(&owner.line), *none;
	unsigned char bytes[65536] = { 0 };

	(void)state;
	kill(owner.pid, SIGKILL);
	assert_int_equal(owner_status(&owner), 128 + SIGKILL);
	assert_int_equal(line_recv(&owner.line, &none), -ENOTCONN);
	assert_int_equal(gmem_uffd_resolve(uffd, uffd->brought[0], 0, page(), GMEM_RESOLVE_DATA, bytes, NULL), -ESRCH);
	gmem_uffd_destroy(uffd);
	line_end(&owner.line);
}

/* The endpoint goes before the channel, or after it: its memories are there as long as somebody uses them. */
static void in_any_order(void **state)
{
	struct part part = { .type = SOCK_STREAM, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_FILL, .regions = 2 };
	struct owner owner = start_owner(&part);
	struct gmem_uffd *uffd = line_take(&owner.line);

	(void)state;
	gmem_channel_close(owner.line.channel);
	owner.line.channel = NULL;
	serve_until_it_ends(&owner, uffd, PAGES * page());
	gmem_uffd_destroy(uffd);
	line_end(&owner.line);
	owner = start_owner(&part);
	uffd = line_take(&owner.line);
	serve_until_it_ends(&owner, uffd, PAGES * page());
	gmem_channel_close(owner.line.channel);
	owner.line.channel = NULL;
	gmem_vm_close(owner.line.vm);
	owner.line.vm = NULL;
	gmem_uffd_destroy(uffd);
	line_end(&owner.line);
}

/* As a server does it: the pager alone has the endpoint, and its memories go with it. */
static void the_pager_has_the_last_claim(void **state)
{
	struct part part = { .type = SOCK_STREAM, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_FILL, .regions = 2 };
	struct owner owner = start_owner(&part);
	struct gmem_uffd *uffd = line_take(&owner.line);
	struct gmem_source *source;
	struct gmem_pager *pager;

	(void)state;
	assert_int_equal(gmem_source_create_zero(&source), 0);
	assert_int_equal(gmem_pager_create(&pager, NULL), 0);
	assert_int_equal(gmem_pager_add(pager, uffd, source, NULL), 0);
	gmem_source_destroy(source);
	gmem_uffd_destroy(uffd);
	gmem_channel_close(owner.line.channel);
	owner.line.channel = NULL;
	assert_int_equal(gmem_pager_start(pager), 0);
	assert_int_equal(owner_status(&owner), 1); /* zeros are not what it expects: it says so, and ends */
	gmem_pager_destroy(pager);
	line_end(&owner.line);
}

/* --- a pager without privilege ------------------------------------------------------------------------------------------ */

static int serve_as_nobody(void *arg)
{
	struct line *line = arg;
	struct gmem_uffd *uffd = line_take(line), *none;
	struct gmem_source *source;
	struct gmem_pager *pager;
	unsigned char *bytes = malloc(PAGES * page());

	for (uint64_t i = 0; i < PAGES * page(); i++)
		bytes[i] = content_at(i);
	assert_int_equal(gmem_source_create_memory(bytes, PAGES * page(), &source), 0);
	assert_int_equal(gmem_pager_create(&pager, NULL), 0);
	assert_int_equal(gmem_pager_add(pager, uffd, source, NULL), 0);
	assert_int_equal(gmem_pager_start(pager), 0);
	assert_int_equal(line_recv(line, &none), -ENOTCONN); /* it has all that it needs, and has ended */
	gmem_pager_destroy(pager);
	return 0;
}

/* Who may not make a userfaultfd may serve one. */
static int pager_of_nobody(void *arg)
{
	struct owner *owner = arg;

	gmem_vm_close(owner->line.vm); /* that of the parent */
	owner->line.vm = open_vm(-1);
	return serve_as_nobody(&owner->line);
}

static void a_pager_without_privilege(void **state)
{
	struct part part = { .type = SOCK_STREAM, .backing = GMEM_BACKING_MEMFD, .strategy = GMEM_STRATEGY_FILL, .regions = 2 };
	struct owner owner = start_owner(&part);

	(void)state;
	assert_int_equal(gt_as_user(GT_NOBODY, pager_of_nobody, &owner), 0);
	assert_int_equal(owner_status(&owner), 0);
	line_end(&owner.line);
}

static const struct gt_test tests[] = {
	GT(a_memfd_is_filled, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(a_memfd_is_filled_as_the_library_likes, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(a_memfd_is_copied_to, GT_NEEDS_UFFD),
	GT(the_protocol_of_firecracker, GT_NEEDS_UFFD),
	GT(a_thousand_regions, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(an_owner_that_is_killed, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(in_any_order, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(the_pager_has_the_last_claim, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR),
	GT(a_pager_without_privilege, GT_NEEDS_UFFD | GT_NEEDS_UFFD_MINOR | GT_NEEDS_ORDINARY_USER),
};

GT_MAIN("channel", tests)
