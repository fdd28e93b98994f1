/* SPDX-License-Identifier: MIT */
/* gmem-info: columns on a terminal, or on what is none. */
#include "gmem-info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NARROWEST 40
#define WIDEST 1000
#define WIDE 100
#define DEFAULT_WIDTH 80

/* COLUMNS is the user's explicit wish and comes first. */
static size_t environment_width(void)
{
	const char *columns = getenv("COLUMNS");

	return columns ? (size_t)strtoul(columns, NULL, 10) : 0;
}

static size_t terminal_width(void)
{
	struct winsize size;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static bool wants_colours(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
}

void info_screen(struct info_screen *screen)
{
	size_t width = environment_width();

	if (!width)
		width = terminal_width();
	if (!width)
		width = DEFAULT_WIDTH;
	if (width < NARROWEST)
		width = NARROWEST;
	if (width > WIDEST)
		width = WIDEST;
	*screen = (struct info_screen){ .width = width, .wide = width >= WIDE, .colours = wants_colours() };
}

/* Not the second or a later byte of a UTF-8 character. */
static bool starts_character(char byte)
{
	return ((unsigned char)byte & 0xc0) != 0x80;
}

static size_t columns_of(const char *text, size_t bytes)
{
	size_t columns = 0;

	for (size_t i = 0; i < bytes; i++)
		columns += starts_character(text[i]);
	return columns;
}

size_t info_columns(const char *text)
{
	return columns_of(text, strlen(text));
}

/* Bytes of text that go on one line: up to the last space that fits; a word longer than the line is cut. */
static size_t take(const char *text, size_t width)
{
	size_t columns = 0, space = 0, i;

	for (i = 0; text[i]; i++) {
		if (text[i] == ' ')
			space = i;
		if (starts_character(text[i]) && columns++ == width)
			return space ? space : i;
	}
	return i;
}

static void print_spaces(size_t count)
{
	printf("%*s", (int)count, "");
}

static void print_piece(const struct info_screen *screen, const char *text, size_t bytes, const char *colour)
{
	if (!screen->colours)
		colour = NULL;
	printf("%s%.*s%s", colour ? colour : "", (int)bytes, text, colour ? "\033[0m" : "");
}

/* One line of the row; advances each text. Spaces are held back until something follows them. */
static void print_line(const struct info_screen *screen, const struct info_cell *cells, const char **left, size_t count)
{
	size_t spaces = 0;

	for (size_t i = 0; i < count; i++) {
		size_t bytes = take(left[i], cells[i].width);

		if (bytes) {
			print_spaces(spaces);
			print_piece(screen, left[i], bytes, cells[i].colour);
			spaces = 0;
		}
		spaces += cells[i].width - columns_of(left[i], bytes) + INFO_GAP;
		left[i] += bytes;
		left[i] += strspn(left[i], " ");
	}
	putchar('\n');
}

static bool is_done(const char *const *left, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (*left[i])
			return false;
	return true;
}

void info_row(const struct info_screen *screen, const struct info_cell *cells, size_t count)
{
	const char *left[INFO_CELLS];

	for (size_t i = 0; i < count; i++)
		left[i] = cells[i].text ? cells[i].text : "";
	do {
		print_line(screen, cells, left, count);
	} while (!is_done(left, count));
}

void info_heading(const struct info_screen *screen, const char *text)
{
	struct info_cell cells[] = { { text, screen->width, "\033[1m" } };

	putchar('\n');
	info_row(screen, cells, 1);
}

/* A text on lines of its own, under the row it belongs to. */
void info_below(const struct info_screen *screen, const char *mark, const char *text)
{
	size_t used = 2 + 2 + 3 * INFO_GAP;
	struct info_cell cells[] = {
		{ "", 0, NULL },
		{ "", 2, NULL },
		{ mark, 2, NULL },
		{ text, screen->width - used, NULL },
	};

	if (text && *text)
		info_row(screen, cells, 4);
}

static const char *colour_of(enum gmem_state state)
{
	switch (state) {
	case GMEM_PRESENT:
		return "\033[32m";
	case GMEM_FORBIDDEN:
		return "\033[33m";
	case GMEM_ABSENT:
		return "\033[2m";
	default:
		return NULL;
	}
}

struct info_cell info_state_cell(enum gmem_state state)
{
	return (struct info_cell){ gmem_state_name(state), INFO_STATE, colour_of(state) };
}
