/* SPDX-License-Identifier: MIT */
/* What a piece of a test left behind. Only that which matters is looked at: sanitizers map and unmap private memory of their
 * own as they like, and so do stacks and the heap. Shared mappings are what guest memory is made of. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gt.h"
#include "inject.h"

#pragma weak inject_mark
#pragma weak inject_list_since

#define NAME_ROOM 96

/* An open fd (start is its number, end one more) or a shared mapping. Lists of them are sorted by start. */
struct thing {
	uint64_t start;
	uint64_t end;
	char name[NAME_ROOM];
};

struct list {
	struct thing *things;
	size_t count;
	size_t room;
};

struct gt_snapshot {
	struct list fds;
	struct list maps;
	unsigned long mark; /* of the allocations */
};

static struct thing *add(struct list *list, uint64_t start, uint64_t end)
{
	struct thing *thing;

	if (list->count == list->room) {
		list->room = list->room * 2 + 64;
		list->things = realloc(list->things, list->room * sizeof(*list->things));
		assert_non_null(list->things);
	}
	thing = &list->things[list->count++];
	*thing = (struct thing){ .start = start, .end = end };
	return thing;
}

static int by_start(const void *a, const void *b)
{
	const struct thing *one = a, *other = b;

	return (one->start > other->start) - (one->start < other->start);
}

static void list_fds(struct list *list)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		unsigned long fd = strtoul(entry->d_name, NULL, 10);
		struct thing *thing;

		if (entry->d_name[0] == '.' || (int)fd == dirfd(dir))
			continue;
		thing = add(list, fd, fd + 1);
		if (readlinkat(dirfd(dir), entry->d_name, thing->name, NAME_ROOM - 1) < 0)
			snprintf(thing->name, NAME_ROOM, "?");
	}
	closedir(dir);
	if (list->count)
		qsort(list->things, list->count, sizeof(*list->things), by_start);
}

/* Caches that libc maps when it first needs them are shared mappings too. */
static bool matters(const char *permissions, const char *name)
{
	return permissions[3] == 's' && strncmp(name, "/usr/", 5) != 0;
}

static void list_maps(struct list *list)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char *line = NULL;
	size_t room = 0;

	assert_non_null(file);
	while (getline(&line, &room, file) > 0) {
		uint64_t start, end;
		char permissions[5];
		int name = 0;

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*s %*s %*s %n", &start, &end, permissions, &name) < 3)
			continue;
		if (name && matters(permissions, line + name))
			snprintf(add(list, start, end)->name, NAME_ROOM, "%s", line + name);
	}
	free(line);
	fclose(file);
}

struct gt_snapshot *gt_snapshot(void)
{
	struct gt_snapshot *now = calloc(1, sizeof(*now));

	assert_non_null(now);
	list_fds(&now->fds);
	list_maps(&now->maps);
	now->mark = inject_mark ? inject_mark() : 0;
	return now;
}

static void drop(struct gt_snapshot *snapshot)
{
	free(snapshot->fds.things);
	free(snapshot->maps.things);
	free(snapshot);
}

/* The first byte of `thing` that no entry of the list has under the same name: its end when all is there. Mappings are split
 * and merged by the kernel as their attributes change, so it is bytes that count. */
static uint64_t uncovered(const struct list *list, const struct thing *thing)
{
	uint64_t from = thing->start;

	for (size_t i = 0; i < list->count && from < thing->end; i++) {
		const struct thing *other = &list->things[i];

		if (other->start <= from && from < other->end && strcmp(other->name, thing->name) == 0)
			from = other->end;
	}
	return from < thing->end ? from : thing->end;
}

static void print_fd(const char *what, const struct thing *thing)
{
	printf("  %s: fd %" PRIu64 " -> %s\n", what, thing->start, thing->name);
}

static void print_map(const char *what, const struct thing *thing)
{
	printf("  %s: mapping %#" PRIx64 "-%#" PRIx64 " %s\n", what, thing->start, thing->end, thing->name);
}

static size_t difference(const struct list *have, const struct list *in, const char *what,
			 void (*print)(const char *what, const struct thing *thing))
{
	size_t count = 0;

	for (size_t i = 0; i < have->count; i++) {
		if (uncovered(in, &have->things[i]) == have->things[i].end)
			continue;
		print(what, &have->things[i]);
		count++;
	}
	return count;
}

size_t gt_leaks(struct gt_snapshot *before)
{
	/* Allocations first: the next snapshot makes some itself. */
	size_t count = inject_list_since ? inject_list_since(before->mark) : 0;
	struct gt_snapshot *after = gt_snapshot();

	count += difference(&after->fds, &before->fds, "left open", print_fd);
	count += difference(&before->fds, &after->fds, "closed though it was there before", print_fd);
	count += difference(&after->maps, &before->maps, "left mapped", print_map);
	count += difference(&before->maps, &after->maps, "unmapped though it was there before", print_map);
	fflush(stdout);
	drop(after);
	drop(before);
	return count;
}

void gt_assert_nothing_leaked(struct gt_snapshot *before)
{
	size_t count = gt_leaks(before);

	if (count)
		fail_msg("%zu leaked or lost: listed on stdout", count);
}
