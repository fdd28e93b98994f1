/* SPDX-License-Identifier: MIT */
#include "second_owner.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channels.h"
#include "files.h"
#include "gt.h"
#include "handles.h"
#include "sys.h"
#include "uapi/userfaultfd.h"

#define FAR UINT64_C(0x300000) /* in the source */

/* --- what is handed over ------------------------------------------------------------------------------------------------ */

static int open_uffd(uint64_t *features)
{
	struct uffdi_api api = { .api = UFFDI_API_VERSION };
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int uffd = gmemi_sys_userfaultfd(device, 0);

	if (device >= 0)
		close(device);
	assert_true(uffd >= 3);
	api.features = UINT64_C(1) << UFFDI_BIT_MISSING_SHMEM | UINT64_C(1) << UFFDI_BIT_MINOR_SHMEM;
	*features = api.features;
	assert_int_equal(ioctl(uffd, UFFDI_API, &api), 0);
	return uffd;
}

static void *map_file(int fd, uint64_t length)
{
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static uint64_t map_length(const struct second_owner *owner)
{
	return (owner->pages + 31) / 32 * sizeof(uint64_t);
}

static uint64_t half_length(const struct second_owner *owner)
{
	return owner->pages / 2 * owner->page;
}

static void watch(const struct second_owner *owner, unsigned int half)
{
	struct uffdi_register range = { .start = (uintptr_t)owner->at + half * half_length(owner),
					.length = half_length(owner),
					.mode = UFFDI_REGISTER_MISSING };

	if (owner->strategy == STRATEGY_FILL)
		range.mode |= UFFDI_REGISTER_MINOR;
	assert_int_equal(ioctl(owner->uffd, UFFDI_REGISTER, &range), 0);
}

struct second_owner second_owner_make(int socket, uint32_t strategy, uint64_t pages)
{
	struct second_owner owner = { .page = page(), .pages = pages, .strategy = strategy };

	owner.second = second_make(socket);
	owner.uffd = open_uffd(&owner.features);
	owner.file = memfd_of(pages * owner.page, 0, F_SEAL_SHRINK);
	owner.map = memfd_of(map_length(&owner), 0, F_SEAL_SHRINK);
	owner.at = map_file(owner.file, pages * owner.page);
	owner.words = map_file(owner.map, map_length(&owner));
	watch(&owner, 0);
	watch(&owner, 1);
	return owner;
}

void second_owner_end(struct second_owner *owner)
{
	second_end(owner->second);
	munmap(owner->at, owner->pages * owner->page);
	munmap(owner->words, map_length(owner));
	close(owner->uffd);
	close(owner->file);
	close(owner->map);
}

/* --- the handshake ------------------------------------------------------------------------------------------------------ */

uint64_t second_content(const struct second_owner *owner, unsigned int half)
{
	return half ? 3 * owner->page : FAR;
}

void second_owner_say_half(struct second_owner *owner, unsigned int half)
{
	uint64_t offset = half * half_length(owner);
	struct note note = {
		.type = NOTE_REGIONS,
		.part = { [OF_ENDPOINT] = ENDPOINT },
		.items = 1,
		.item = { {
			[REGION_MEMORY] = MEMORY,
			[REGION_STRATEGY] = owner->strategy,
			[REGION_OFFSET] = offset,
			[REGION_LENGTH] = half_length(owner),
			[REGION_ADDRESS] = (uintptr_t)owner->at + offset,
			[REGION_GUEST] = half ? NO_ADDRESS : 0x100000,
			[REGION_CONTENT] = second_content(owner, half),
			[REGION_PAGE_SIZE] = owner->page,
		} },
	};

	second_say(owner->second, &note, NULL);
}

static void say_endpoint_of(struct second_owner *owner)
{
	struct note note = {
		.type = NOTE_ENDPOINT,
		.fds = 1,
		.part = {
			[ENDPOINT_NUMBER] = ENDPOINT,
			[ENDPOINT_MEMORIES] = 1,
			[ENDPOINT_REGIONS] = 2,
			[ENDPOINT_FEATURES] = owner->features,
			[ENDPOINT_LENGTH] = 2 * half_length(owner),
		},
	};

	second_say(owner->second, &note, &owner->uffd);
}

/* The descriptors are in the other order than their members. */
static void say_memory_of(struct second_owner *owner)
{
	int fds[] = { owner->map, owner->file };
	struct note note = {
		.type = NOTE_MEMORY,
		.fds = 2,
		.part = {
			[MEMORY_ENDPOINT] = ENDPOINT,
			[MEMORY_NUMBER] = MEMORY,
			[MEMORY_FILE] = 1,
			[MEMORY_MAP] = 0,
			[MEMORY_LENGTH] = owner->pages * owner->page,
			[MEMORY_PAGE_SIZE] = owner->page,
		},
	};

	second_say(owner->second, &note, fds);
}

void second_owner_say_all(struct second_owner *owner)
{
	struct note hello = { .type = NOTE_HELLO, .text = "a second reading", .part = { 1, 9, 1, 0, UINT64_MAX } };

	second_say(owner->second, &hello, NULL);
	second_say_unknown(owner->second, 15, 65000, -1);
	say_endpoint_of(owner);
	second_say_unknown(owner->second, 16, 16, owner->map);
	say_memory_of(owner);
	second_owner_say_half(owner, 0);
	second_say_unknown(owner->second, 0x8001, 17, owner->file);
	second_owner_say_half(owner, 1);
	second_say_of(owner->second, NOTE_READY, ENDPOINT);
}

void second_owner_hear_all(struct second_owner *owner)
{
	int fds[NOTE_FDS];
	struct note note;

	second_expect(owner->second, NOTE_HELLO, 0, &note, fds);
	assert_int_equal(note.part[HELLO_LEAST], 1);
	assert_true(note.part[HELLO_MOST] >= 1);
	assert_int_equal(note.part[HELLO_ROLE], 2);
	assert_int_equal(note.part[HELLO_CAPABILITIES], 0);
	second_expect(owner->second, NOTE_READY, 0, &note, fds);
	assert_int_equal(note.part[OF_ENDPOINT], ENDPOINT);
	assert_int_equal(note.part[OF_CODE], 0);
}

/* --- what has come ------------------------------------------------------------------------------------------------------ */

unsigned int second_state(const struct second_owner *owner, uint64_t number)
{
	uint64_t word = __atomic_load_n(&owner->words[number / 32], __ATOMIC_ACQUIRE);

	return word >> 2 * (number % 32) & 3;
}

void second_owner_check(const struct second_owner *owner)
{
	for (unsigned int half = 0; half < 2; half++) {
		const unsigned char *at = owner->at + half * half_length(owner);

		for (uint64_t i = 0; i < half_length(owner); i++)
			assert_int_equal(at[i], content_at(second_content(owner, half) + i));
	}
	for (uint64_t number = 0; number < owner->pages; number++) {
		while (owner->strategy == STRATEGY_COPY && second_state(owner, number) == 0)
			sched_yield(); /* the kernel lets a page be touched as it copies it, and the page map follows */
		assert_int_equal(second_state(owner, number), 1);
	}
}
