/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <inttypes.h>

#include "microvm.h"
#include "progress.h"

bool report_right(const struct microvm *m)
{
	return m->reading.checksum == m->source;
}

uint64_t report_pages(const struct microvm *m, uint64_t bytes)
{
	return (bytes + m->info.page_size - 1) / m->info.page_size;
}

static void row_text(const char *name, const char *value)
{
	printf("%-24s %s\n", name, value);
}

static void row_pages(const struct microvm *m, const char *name, uint64_t bytes)
{
	printf("%-24s %" PRIu64 " of %" PRIu64 " (%.1f MiB)\n", name, report_pages(m, bytes), report_pages(m, m->image.length),
	       (double)bytes / (1 << 20));
}

static void row_time(const char *name, uint64_t ns)
{
	printf("%-24s %.4f s\n", name, (double)ns / 1e9);
}

static void row_checksum(const char *name, uint64_t value)
{
	printf("%-24s 0x%016" PRIx64 "\n", name, value);
}

static void print_memory(const struct microvm *m)
{
	row_text("image", m->image.path);
	printf("%-24s %" PRIu64 " bytes (%.1f MiB)\n", "length", m->image.length, (double)m->image.length / (1 << 20));
	row_text("backing", gmem_backing_name(m->info.backing));
	row_text("created by", gmem_mechanism_name(m->info.mechanism));
}

static void print_populate(const struct microvm *m)
{
	row_text("populated by", gmem_mechanism_name(m->info.populate_mechanism));
	row_pages(m, "pages populated", m->info.populated);
	row_pages(m, "pages skipped as zero", m->info.skipped);
	printf("%-24s %" PRIu32 "\n", "threads", m->options->threads + 1);
	printf("%-24s %.0f MiB/s\n", "populate speed", mib_per_second(m->image.length, m->populate_ns));
}

static void print_prefault(const struct microvm *m)
{
	row_text("prefaulted by", gmem_mechanism_name(m->prefault_mechanism));
	if (m->prefault_mechanism)
		row_time("prefault time", m->prefault_ns);
}

static void print_paging(const struct microvm *m)
{
	const struct gmem_uffd_info *info = &m->paging.info;

	row_text("populated by", "nobody: brought in on demand (--lazy)");
	printf("%-24s %u\n", "threads of the pager", paging_threads(m));
	printf("%-24s %" PRIu64 " (p50 %.1f us, p99 %.1f us)\n", "page faults", info->faults, (double)info->p50 / 1e3,
	       (double)info->p99 / 1e3);
	printf("%-24s %" PRIu64 " bytes (%.1f MiB)\n", "filled", info->bytes, (double)info->bytes / (1 << 20));
	printf("%-24s %" PRIu64 "\n", "pages made zeros", info->zeroed);
	printf("%-24s %" PRIu64 " bytes%s\n", "remaining", info->remaining,
	       m->paging.finished ? ": paging is over" : info->remaining ? ": nobody touched them, and they were left out" : "");
}

void report_table(const struct microvm *m)
{
	bool vcpu = m->vcpu.fd >= 0;

	print_memory(m);
	if (m->options->lazy) {
		print_paging(m);
	} else {
		print_populate(m);
		print_prefault(m);
	}
	row_text("read by", vcpu ? "a vCPU" : "a host thread");
	row_time(vcpu ? "first guest instruction" : "first read", m->reading.started - m->began);
	row_time(vcpu ? "guest run time" : "thread run time", m->reading.ended - m->reading.started);
	row_checksum(vcpu ? "checksum of the guest" : "checksum of the thread", m->reading.checksum);
	row_checksum("checksum of the file", m->source);
	row_text("checksum", report_right(m) ? "right" : "WRONG");
}
