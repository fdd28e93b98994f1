/* SPDX-License-Identifier: MIT */
/* gmem-pager: what it does, as a table, as JSON, and in one line. */
#include "gmem-pager.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

struct totals {
	struct gmem_server_info server;
	struct gmem_pager_info pager;
	uint64_t up_s;
};

struct printer {
	FILE *out;
	uint64_t count;
};

static const char *protocol_name(uint32_t protocol)
{
	return protocol == GMEM_PROTOCOL_FIRECRACKER ? "firecracker" : "native";
}

static int collect(const struct pager_daemon *daemon, struct totals *totals)
{
	struct timespec now;
	int r;

	*totals = (struct totals){ .server.size = sizeof(totals->server), .pager.size = sizeof(totals->pager) };
	clock_gettime(CLOCK_MONOTONIC, &now);
	totals->up_s = (uint64_t)now.tv_sec - daemon->started_ns / 1000000000;
	r = gmem_pager_query(daemon->pager, &totals->pager);
	return r < 0 ? r : gmem_server_query(daemon->server, &totals->server);
}

static void print_row(void *user, const struct pager_vm_report *vm)
{
	const struct gmem_uffd_info *info = &vm->info;
	struct printer *printer = user;

	fprintf(printer->out,
		"%-20s %7" PRIu32 " %6" PRIu32 " %-11s %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %8" PRIu64 " %7" PRIu64
		" %7" PRIu64 "\n",
		*vm->name ? vm->name : "-", vm->pid, vm->uid, protocol_name(vm->protocol), info->length >> 20,
		info->remaining >> 20, info->faults, info->throttled, info->poisoned, info->p50 / 1000, info->p99 / 1000);
}

int pager_print_table(FILE *out, struct pager_daemon *daemon)
{
	struct printer printer = { .out = out };
	struct totals totals;
	int r = collect(daemon, &totals);

	if (r < 0)
		return r;
	fprintf(out,
		"gmem-pager of pid %d, up %" PRIu64 " s: %" PRIu64 " VMs now, %" PRIu64 " admitted, %" PRIu64
		" refused, %" PRIu64 " broken handshakes\n",
		(int)getpid(), totals.up_s, totals.server.vms, totals.server.admitted, totals.server.refused,
		totals.server.broken);
	fprintf(out, "%-20s %7s %6s %-11s %9s %9s %9s %9s %8s %7s %7s\n", "name", "pid", "uid", "protocol", "MiB", "empty MiB",
		"faults", "throttled", "poisoned", "p50 us", "p99 us");
	pager_vms_each(daemon->vms, print_row, &printer);
	return 0;
}

/* Names need no escapes: pager_is_name(). */
static void print_object(void *user, const struct pager_vm_report *vm)
{
	const struct gmem_uffd_info *info = &vm->info;
	struct printer *printer = user;

	fprintf(printer->out, "%s\n\t\t{ \"name\": \"%s\", \"pid\": %" PRIu32 ", \"uid\": %" PRIu32 ", \"protocol\": \"%s\", ",
		printer->count++ ? "," : "", vm->name, vm->pid, vm->uid, protocol_name(vm->protocol));
	fprintf(printer->out,
		"\"ranges\": %" PRIu64 ", \"length\": %" PRIu64 ", \"remaining\": %" PRIu64 ", \"faults\": %" PRIu64 ", ",
		info->ranges, info->length, info->remaining, info->faults);
	fprintf(printer->out,
		"\"bytes\": %" PRIu64 ", \"zeroed\": %" PRIu64 ", \"removed\": %" PRIu64 ", \"poisoned\": %" PRIu64 ", ",
		info->bytes, info->zeroed, info->removed, info->poisoned);
	fprintf(printer->out,
		"\"source_errors\": %" PRIu64 ", \"pending\": %" PRIu64 ", \"throttled\": %" PRIu64 ", \"p50_ns\": %" PRIu64
		", \"p99_ns\": %" PRIu64 " }",
		info->source_errors, info->pending, info->throttled, info->p50, info->p99);
}

int pager_print_json(FILE *out, struct pager_daemon *daemon)
{
	struct printer printer = { .out = out };
	struct totals totals;
	int r = collect(daemon, &totals);

	if (r < 0)
		return r;
	fprintf(out, "{\n\t\"version\": \"%s\", \"pid\": %d, \"up_s\": %" PRIu64 ", \"threads\": %" PRIu64 ",\n",
		gmem_version(), (int)getpid(), totals.up_s, totals.pager.threads);
	fprintf(out,
		"\t\"served\": %" PRIu64 ", \"handshakes\": %" PRIu64 ", \"admitted\": %" PRIu64 ", \"refused\": %" PRIu64 ", ",
		totals.server.vms, totals.server.handshakes, totals.server.admitted, totals.server.refused);
	fprintf(out, "\"broken\": %" PRIu64 ", \"left\": %" PRIu64 ",\n", totals.server.broken, totals.server.left);
	fprintf(out, "\t\"faults\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"poisoned\": %" PRIu64 ",\n\t\"vms\": [",
		totals.pager.faults, totals.pager.bytes, totals.pager.poisoned);
	pager_vms_each(daemon->vms, print_object, &printer);
	fprintf(out, "%s]\n}\n", printer.count ? "\n\t" : "");
	return 0;
}

void pager_summary(struct pager_daemon *daemon, char *text, size_t room)
{
	struct totals totals;

	if (collect(daemon, &totals) < 0)
		totals = (struct totals){ 0 };
	snprintf(text, room, "%" PRIu64 " VMs, %" PRIu64 " faults, %" PRIu64 " MiB filled, %" PRIu64 " pages poisoned",
		 totals.server.vms, totals.pager.faults, totals.pager.bytes >> 20, totals.pager.poisoned);
}
