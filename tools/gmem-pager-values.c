/* SPDX-License-Identifier: MIT */
/* gmem-pager: words of the command line as values. */
#include "gmem-pager.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

/* Digits alone: strtoull() takes signs and blanks as well. */
static bool read_number(const char *word, uint64_t *value, const char **rest)
{
	char *end;

	if (!isdigit((unsigned char)*word))
		return false;
	errno = 0;
	*value = strtoull(word, &end, 10);
	*rest = end;
	return errno == 0;
}

bool pager_read_count(const char *word, uint64_t most, uint32_t *value)
{
	const char *rest;
	uint64_t number;

	if (!read_number(word, &number, &rest) || *rest || number == 0 || number > most)
		return false;
	*value = (uint32_t)number;
	return true;
}

bool pager_read_bytes(const char *word, uint64_t *value)
{
	static const char suffixes[] = "KMGT";
	const char *rest, *suffix;
	unsigned int shift = 0;

	if (!read_number(word, value, &rest))
		return false;
	if (*rest) {
		suffix = strchr(suffixes, toupper((unsigned char)*rest));
		if (!suffix || rest[1])
			return false;
		shift = 10 * (unsigned int)(suffix - suffixes + 1);
	}
	if (*value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	return true;
}

bool pager_read_time(const char *word, uint64_t *ns)
{
	static const struct {
		const char *name;
		uint64_t factor;
	} units[] = { { "", 1000000000 }, { "s", 1000000000 }, { "ms", 1000000 }, { "m", UINT64_C(60000000000) } };
	const char *rest;
	uint64_t number;

	if (strcmp(word, "forever") == 0) {
		*ns = GMEM_FOREVER;
		return true;
	}
	if (!read_number(word, &number, &rest))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(rest, units[i].name) == 0) {
			*ns = number * units[i].factor;
			return number < GMEM_FOREVER / units[i].factor;
		}
	}
	return false;
}

static bool read_cpu_range(const char **word, uint64_t words[PAGER_CPU_WORDS])
{
	uint64_t first, last;

	if (!read_number(*word, &first, word))
		return false;
	last = first;
	if (**word == '-' && !read_number(*word + 1, &last, word))
		return false;
	if (first > last || last >= PAGER_CPU_WORDS * 64)
		return false;
	for (uint64_t cpu = first; cpu <= last; cpu++)
		words[cpu / 64] |= UINT64_C(1) << cpu % 64;
	return true;
}

bool pager_read_cpus(const char *word, uint64_t words[PAGER_CPU_WORDS])
{
	memset(words, 0, PAGER_CPU_WORDS * sizeof(*words));
	for (;;) {
		if (!read_cpu_range(&word, words))
			return false;
		if (!*word)
			return true;
		if (*word++ != ',')
			return false;
	}
}

bool pager_read_uid(const char *word, uid_t *uid)
{
	const struct passwd *entry;
	const char *rest;
	uint64_t number;

	if (read_number(word, &number, &rest) && !*rest) {
		*uid = (uid_t)number;
		return number < UINT32_MAX; /* that is "no change" to the kernel */
	}
	entry = getpwnam(word);
	if (entry)
		*uid = entry->pw_uid;
	return entry;
}

bool pager_read_mode(const char *word, uint32_t *mode)
{
	char *end;
	unsigned long number;

	if (!isdigit((unsigned char)*word))
		return false;
	errno = 0;
	number = strtoul(word, &end, 8);
	*mode = (uint32_t)number;
	return errno == 0 && !*end && number <= 0777;
}

bool pager_is_name(const char *text)
{
	size_t length = 0;

	while (isascii((unsigned char)text[length]) &&
	       (isalnum((unsigned char)text[length]) || text[length] == '_' || text[length] == '-'))
		length++;
	return length > 0 && length <= PAGER_NAME && !text[length];
}

/* %i, %u and %% only. */
bool pager_template_is_good(const char *path)
{
	for (; *path; path++)
		if (*path == '%' && !strchr("iu%", *++path ? *path : '?'))
			return false;
	return true;
}

bool pager_template_has_names(const char *path)
{
	for (; *path; path++)
		if (*path == '%' && *++path != '%')
			return true;
	return false;
}

/* zero, file:PATH, file@OFFSET:PATH */
bool pager_read_layer(const char *word, struct pager_layer *layer)
{
	const char *colon = strchr(word, ':');
	char number[32];
	size_t length;

	*layer = (struct pager_layer){ 0 };
	if (strcmp(word, "zero") == 0)
		return true;
	if (!colon || !colon[1] || strncmp(word, "file", 4) != 0 || strlen(colon + 1) >= PATH_MAX)
		return false;
	layer->path = colon + 1;
	if (!pager_template_is_good(layer->path))
		return false;
	length = (size_t)(colon - word);
	if (length == 4)
		return true;
	if (word[4] != '@' || length - 5 >= sizeof(number))
		return false;
	memcpy(number, word + 5, length - 5);
	number[length - 5] = '\0';
	return pager_read_bytes(number, &layer->offset) && layer->offset % 4096 == 0;
}
