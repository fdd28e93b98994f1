/* SPDX-License-Identifier: MIT */
/* What is allocated now. Only relaxed atomics: a lock in calloc() and free() would order threads that the library itself does
 * not order, and hide its races from the thread sanitizer. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "inject.h"
#include "wrap.h"

#define WINDOW 64u /* entries that one pointer may be in: few enough to search at every free() */
#define MEMORY_WINDOWS 1024u
#define MAPPING_WINDOWS 8u

struct entry {
	_Atomic uintptr_t start; /* 0 = nothing here */
	atomic_size_t length;
	atomic_ulong when;
};

static struct entry memory[MEMORY_WINDOWS * WINDOW];
static struct entry mappings[MAPPING_WINDOWS * WINDOW];

static const struct {
	struct entry *entries;
	size_t windows;
	const char *what;
} ledgers[LEDGER_KINDS] = {
	[LEDGER_MEMORY] = { memory, MEMORY_WINDOWS, "calloc()" },
	[LEDGER_MAPPING] = { mappings, MAPPING_WINDOWS, "anonymous mmap()" },
};

static atomic_ulong moment;

static struct entry *window_of(enum ledger_kind kind, uintptr_t start)
{
	/* Pointers differ in their middle bits; the multiplication spreads them. */
	uint64_t hash = ((uint64_t)start >> 4) * UINT64_C(0x9e3779b97f4a7c15);

	return &ledgers[kind].entries[(hash >> 32) % ledgers[kind].windows * WINDOW];
}

static uintptr_t start_of(struct entry *entry)
{
	return atomic_load_explicit(&entry->start, memory_order_relaxed);
}

static unsigned long when_of(struct entry *entry)
{
	return atomic_load_explicit(&entry->when, memory_order_relaxed);
}

static bool take(struct entry *entry, uintptr_t start)
{
	uintptr_t nothing = 0;

	return start_of(entry) == 0 && atomic_compare_exchange_strong_explicit(&entry->start, &nothing, start,
									       memory_order_relaxed, memory_order_relaxed);
}

void ledger_add(enum ledger_kind kind, const void *start, size_t length)
{
	struct entry *window = window_of(kind, (uintptr_t)start);
	unsigned long when = atomic_fetch_add_explicit(&moment, 1, memory_order_relaxed) + 1;

	for (size_t i = 0; i < WINDOW; i++) {
		if (!take(&window[i], (uintptr_t)start))
			continue;
		atomic_store_explicit(&window[i].length, length, memory_order_relaxed);
		atomic_store_explicit(&window[i].when, when, memory_order_relaxed);
		return;
	}
	fprintf(stderr, "inject_ledger.c: more live objects of %s than it has room for\n", ledgers[kind].what);
	abort();
}

void ledger_remove(enum ledger_kind kind, const void *start)
{
	struct entry *window = window_of(kind, (uintptr_t)start);

	for (size_t i = 0; i < WINDOW; i++)
		if (start_of(&window[i]) == (uintptr_t)start)
			atomic_store_explicit(&window[i].start, 0, memory_order_relaxed);
}

void ledger_remove_range(enum ledger_kind kind, const void *start, size_t length)
{
	for (size_t i = 0; i < ledgers[kind].windows * WINDOW; i++) {
		uintptr_t at = start_of(&ledgers[kind].entries[i]);

		if (at >= (uintptr_t)start && at - (uintptr_t)start < length)
			atomic_store_explicit(&ledgers[kind].entries[i].start, 0, memory_order_relaxed);
	}
}

static bool lives_since(struct entry *entry, unsigned long mark)
{
	return start_of(entry) != 0 && when_of(entry) > mark;
}

static size_t list_kind(enum ledger_kind kind, unsigned long mark)
{
	size_t count = 0;

	for (size_t i = 0; i < ledgers[kind].windows * WINDOW; i++) {
		struct entry *entry = &ledgers[kind].entries[i];

		if (!lives_since(entry, mark))
			continue;
		printf("  not given back: %s of %zu bytes, the %luth after the start\n", ledgers[kind].what,
		       atomic_load_explicit(&entry->length, memory_order_relaxed), when_of(entry) - mark);
		count++;
	}
	return count;
}

size_t inject_list_since(unsigned long mark)
{
	return list_kind(LEDGER_MEMORY, mark) + list_kind(LEDGER_MAPPING, mark);
}

size_t inject_live_allocations(void)
{
	size_t count = 0;

	for (size_t i = 0; i < MEMORY_WINDOWS * WINDOW; i++)
		count += start_of(&memory[i]) != 0;
	return count;
}

void inject_touch_ledgers(void)
{
	for (unsigned int kind = 0; kind < LEDGER_KINDS; kind++)
		for (size_t i = 0; i < ledgers[kind].windows * WINDOW; i++)
			atomic_fetch_or_explicit(&ledgers[kind].entries[i].start, 0, memory_order_relaxed);
}

unsigned long inject_mark(void)
{
	return atomic_load_explicit(&moment, memory_order_relaxed);
}
