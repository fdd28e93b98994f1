/* SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "microvm.h"
#include "progress.h"
#include "report.h"

/* Length of the UTF-8 character that text begins with; 0 if it begins with none. Overlong forms and surrogates are none. */
static int utf8_length(const unsigned char *text)
{
	int length = text[0] < 0x80 ? 1 : text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 0;

	for (int i = 1; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) || (text[0] == 0xf0 && text[1] < 0x90) ||
	    (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return length;
}

/* A path is bytes and JSON is UTF-8: what is not UTF-8 becomes the replacement character. */
static void print_string(const char *string)
{
	const unsigned char *text = (const unsigned char *)string;

	putchar('"');
	while (*text) {
		int length = utf8_length(text);

		if (length == 0)
			fputs("\\ufffd", stdout);
		else if (*text < 0x20 || *text == '"' || *text == '\\')
			printf("\\u%04x", (unsigned int)*text);
		else
			printf("%.*s", length, (const char *)text);
		text += length ? length : 1;
	}
	putchar('"');
}

static void member_string(const char *name, const char *value)
{
	printf(",\n  \"%s\": ", name);
	print_string(value);
}

static void member_number(const char *name, uint64_t value)
{
	printf(",\n  \"%s\": %" PRIu64, name, value);
}

static void member_seconds(const char *name, uint64_t ns)
{
	printf(",\n  \"%s\": %.6f", name, (double)ns / 1e9);
}

/* A string: numbers in JSON are not safe beyond 2^53. */
static void member_checksum(const char *name, uint64_t value)
{
	printf(",\n  \"%s\": \"0x%016" PRIx64 "\"", name, value);
}

static void print_memory(const struct microvm *m)
{
	printf("{\n  \"image\": ");
	print_string(m->image.path);
	member_number("length", m->image.length);
	member_string("backing", gmem_backing_name(m->info.backing));
	member_string("create_mechanism", gmem_mechanism_name(m->info.mechanism));
	member_number("page_size", m->info.page_size);
	printf(",\n  \"lazy\": %s", m->options->lazy ? "true" : "false");
}

static void print_populate(const struct microvm *m)
{
	member_string("populate_mechanism", gmem_mechanism_name(m->info.populate_mechanism));
	member_number("pages_populated", report_pages(m, m->info.populated));
	member_number("pages_skipped", report_pages(m, m->info.skipped));
	member_number("threads", m->options->threads + 1);
	printf(",\n  \"populate_mib_per_second\": %.1f", mib_per_second(m->image.length, m->populate_ns));
	member_string("prefault_mechanism", gmem_mechanism_name(m->prefault_mechanism));
	member_seconds("prefault_seconds", m->prefault_ns);
}

static void print_paging(const struct microvm *m)
{
	const struct gmem_uffd_info *info = &m->paging.info;

	member_number("threads", paging_threads(m));
	member_number("faults", info->faults);
	member_number("fault_p50_ns", info->p50);
	member_number("fault_p99_ns", info->p99);
	member_number("bytes_filled", info->bytes);
	member_number("pages_zeroed", info->zeroed);
	member_number("bytes_remaining", info->remaining);
	printf(",\n  \"finished\": %s", m->paging.finished ? "true" : "false");
}

void report_json(const struct microvm *m)
{
	bool vcpu = m->vcpu.fd >= 0;

	print_memory(m);
	if (m->options->lazy)
		print_paging(m);
	else
		print_populate(m);
	member_string("read_by", vcpu ? "vcpu" : "host_thread");
	if (!vcpu)
		member_string("why_no_vcpu", m->why_no_vcpu);
	member_number("memory_length", m->layout.length);
	member_number("program_area_start", m->layout.image_end);
	member_number("program_area_end", m->layout.program_end);
	member_seconds("seconds_to_first_instruction", m->reading.started - m->began);
	member_seconds("run_seconds", m->reading.ended - m->reading.started);
	member_checksum("checksum_guest", m->reading.checksum);
	member_checksum("checksum_source", m->source);
	printf(",\n  \"right\": %s\n}\n", report_right(m) ? "true" : "false");
}
