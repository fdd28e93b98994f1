/* SPDX-License-Identifier: MIT */
#include "second_pager.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "channels.h"
#include "gt.h"
#include "uapi/userfaultfd.h"

#define FILL 1

/* --- taking over -------------------------------------------------------------------------------------------------------- */

static void greet(struct second *second, const char *identity)
{
	struct note note, answer = { .type = NOTE_HELLO, .part = { 1, 4, 2, 0, 0 }, .text = "a second reading" };
	int fds[NOTE_FDS];

	second_expect(second, NOTE_HELLO, 0, &note, fds);
	assert_int_equal(note.number, 1);
	assert_int_equal(note.part[HELLO_LEAST], 1);
	assert_true(note.part[HELLO_MOST] >= 1);
	assert_int_equal(note.part[HELLO_ROLE], 1);
	assert_int_equal(note.part[HELLO_RESERVED], 0);
	assert_int_equal(note.part[HELLO_CAPABILITIES], 0);
	assert_string_equal(note.text, identity);
	second_say(second, &answer, NULL);
}

/* Returns how many regions will come. */
static uint64_t hear_endpoint(struct second_pager *pager)
{
	int fds[NOTE_FDS];
	struct note note;

	second_expect(pager->second, NOTE_ENDPOINT, 1, &note, fds);
	assert_int_equal(note.part[ENDPOINT_UFFD], 0);
	assert_int_equal(note.part[ENDPOINT_MEMORIES], 1);
	pager->uffd = fds[0];
	pager->endpoint = note.part[ENDPOINT_NUMBER];
	pager->length = note.part[ENDPOINT_LENGTH];
	return note.part[ENDPOINT_REGIONS];
}

static void *map_file(int fd, uint64_t length)
{
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static uint64_t map_length(uint64_t pages)
{
	return (pages + 31) / 32 * sizeof(uint64_t);
}

static void hear_memory(struct second_pager *pager)
{
	int fds[NOTE_FDS];
	struct note note;

	second_expect(pager->second, NOTE_MEMORY, 2, &note, fds);
	assert_int_equal(note.part[MEMORY_ENDPOINT], pager->endpoint);
	assert_true(note.part[MEMORY_FILE] < 2 && note.part[MEMORY_MAP] == 1 - note.part[MEMORY_FILE]);
	pager->memory = note.part[MEMORY_NUMBER];
	pager->file = fds[note.part[MEMORY_FILE]];
	pager->map = fds[note.part[MEMORY_MAP]];
	pager->page = note.part[MEMORY_PAGE_SIZE];
	pager->length = note.part[MEMORY_LENGTH];
	assert_true(fcntl(pager->file, F_GET_SEALS) & F_SEAL_SHRINK);
	assert_true(fcntl(pager->map, F_GET_SEALS) & F_SEAL_SHRINK);
	pager->at = map_file(pager->file, pager->length);
	pager->words = map_file(pager->map, map_length(pager->length / pager->page));
}

static void check_region(const struct second_pager *pager, const uint64_t *region)
{
	assert_int_equal(region[REGION_MEMORY], pager->memory);
	assert_true(region[REGION_STRATEGY] == 1 || region[REGION_STRATEGY] == 2);
	assert_int_equal(region[REGION_FLAGS], 0);
	assert_int_equal(region[REGION_RESERVED], 0);
	assert_true(region[REGION_LENGTH] > 0);
	assert_true(region[REGION_OFFSET] + region[REGION_LENGTH] <= pager->length);
	assert_int_equal(region[REGION_PAGE_SIZE], pager->page);
	assert_int_equal(region[REGION_ADDRESS] % pager->page, 0);
	assert_int_equal(region[REGION_CONTENT], region[REGION_OFFSET]);
	assert_true(region[REGION_GUEST] == NO_ADDRESS);
}

void second_pager_hear_regions(struct second_pager *pager)
{
	struct note *all = &pager->regions, note;
	int fds[NOTE_FDS];

	second_expect(pager->second, NOTE_REGIONS, 0, &note, fds);
	assert_int_equal(note.part[OF_ENDPOINT], pager->endpoint);
	for (uint32_t i = 0; i < note.items; i++) {
		assert_true(all->items < NOTE_ITEMS);
		check_region(pager, note.item[i]);
		memcpy(all->item[all->items++], note.item[i], sizeof(note.item[i]));
	}
}

static uint64_t watched_length(const struct second_pager *pager)
{
	uint64_t length = 0;

	for (uint32_t i = 0; i < pager->regions.items; i++)
		length += pager->regions.item[i][REGION_LENGTH];
	return length;
}

struct second_pager second_pager_make(int socket, const char *identity)
{
	struct second_pager pager = { .second = second_make(socket) };
	uint64_t regions, length;
	int fds[NOTE_FDS];
	struct note note;

	greet(pager.second, identity);
	regions = hear_endpoint(&pager);
	length = pager.length;
	hear_memory(&pager);
	while (pager.regions.items < regions)
		second_pager_hear_regions(&pager);
	second_expect(pager.second, NOTE_READY, 0, &note, fds);
	assert_int_equal(note.part[OF_ENDPOINT], pager.endpoint);
	assert_int_equal(note.part[OF_CODE], 0);
	assert_int_equal(pager.regions.items, regions);
	assert_int_equal(watched_length(&pager), length);
	return pager;
}

void second_pager_end(struct second_pager *pager)
{
	second_end(pager->second);
	munmap(pager->at, pager->length);
	munmap(pager->words, map_length(pager->length / pager->page));
	close(pager->uffd);
	close(pager->file);
	close(pager->map);
}

/* --- serving ------------------------------------------------------------------------------------------------------------ */

static const uint64_t *region_with(const struct second_pager *pager, unsigned int start, uint64_t place)
{
	for (uint32_t i = 0; i < pager->regions.items; i++) {
		const uint64_t *region = pager->regions.item[i];

		if (place >= region[start] && place - region[start] < region[REGION_LENGTH])
			return region;
	}
	fail_msg("nothing is watched at 0x%llx", (unsigned long long)place);
	return NULL;
}

uint64_t second_pager_await_fault(const struct second_pager *pager)
{
	struct pollfd fd = { .fd = pager->uffd, .events = POLLIN };
	struct uffdi_message message;
	const uint64_t *region;

	assert_int_equal(poll(&fd, 1, -1), 1);
	assert_int_equal(read(pager->uffd, &message, sizeof(message)), sizeof(message));
	assert_int_equal(message.event, UFFDI_EVENT_PAGEFAULT);
	region = region_with(pager, REGION_ADDRESS, message.fault.address);
	return (message.fault.address - region[REGION_ADDRESS] + region[REGION_OFFSET]) / pager->page;
}

static void say_filled(const struct second_pager *pager, uint64_t number)
{
	uint64_t *word = &pager->words[number / 32], old = __atomic_load_n(word, __ATOMIC_ACQUIRE);

	do
		assert_int_equal(old >> 2 * (number % 32) & 3, 0);
	while (!__atomic_compare_exchange_n(word, &old, old | UINT64_C(1) << 2 * (number % 32), false, __ATOMIC_RELEASE,
					    __ATOMIC_ACQUIRE));
}

unsigned int second_pager_state(const struct second_pager *pager, uint64_t number)
{
	return __atomic_load_n(&pager->words[number / 32], __ATOMIC_ACQUIRE) >> 2 * (number % 32) & 3;
}

/* The kernel's page comes of the buffer, and whoever waits is let in when the page map says so. */
static void copy_page(const struct second_pager *pager, uint64_t number, uint64_t address, const unsigned char *bytes)
{
	struct uffdi_copy copy = {
		.to = address, .from = (uintptr_t)bytes, .length = pager->page, .mode = UFFDI_MODE_DONTWAKE
	};
	struct uffdi_range range = { address, pager->page };

	assert_int_equal(ioctl(pager->uffd, UFFDI_COPY, &copy), 0);
	say_filled(pager, number);
	assert_int_equal(ioctl(pager->uffd, UFFDI_WAKE, &range), 0);
}

static void fill_page(const struct second_pager *pager, uint64_t number, uint64_t address, const unsigned char *bytes)
{
	struct uffdi_resolve go_on = { .start = address, .length = pager->page };

	memcpy(pager->at + number * pager->page, bytes, pager->page);
	say_filled(pager, number);
	assert_int_equal(ioctl(pager->uffd, UFFDI_CONTINUE, &go_on), 0);
}

void second_pager_fill(const struct second_pager *pager, uint64_t number)
{
	uint64_t offset = number * pager->page;
	const uint64_t *region = region_with(pager, REGION_OFFSET, offset);
	uint64_t inside = offset - region[REGION_OFFSET], address = region[REGION_ADDRESS] + inside;
	unsigned char *bytes = malloc(pager->page);

	assert_non_null(bytes);
	for (uint64_t i = 0; i < pager->page; i++)
		bytes[i] = content_at(region[REGION_CONTENT] + inside + i);
	if (region[REGION_STRATEGY] == FILL)
		fill_page(pager, number, address, bytes);
	else
		copy_page(pager, number, address, bytes);
	free(bytes);
}
