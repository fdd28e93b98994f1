/* SPDX-License-Identifier: MIT */
/* gmem-info: what this machine, this kind of VM and this user can do for guest memory. */
#include "gmem-info.h"

#include <stdio.h>
#include <string.h>

/* The sentence of the library; where the failure was not the library's, that of the C library. */
static int fail(int code)
{
	const char *sentence = gmem_last_error();

	fprintf(stderr, "gmem-info: %s\n", *sentence ? sentence : strerror(-code));
	return INFO_EXIT_NOT;
}

static void print_text(const struct info_report *report)
{
	const struct info_request *request = report->request;
	struct info_screen screen;

	info_screen(&screen);
	if (!request->feature)
		info_print_summary(report, &screen);
	if (request->task || request->all_tasks)
		info_print_chains(report, &screen);
	else
		info_print_features(report, &screen);
}

static int status_of(const struct info_report *report)
{
	if (report->request->feature && report->features[0].state != GMEM_PRESENT)
		return INFO_EXIT_NOT;
	return INFO_EXIT_DONE;
}

static int print_report(const struct info_request *request, const struct info_machine *machine)
{
	struct info_report report;
	int status = info_collect(&report, machine, request);

	if (status < 0)
		return fail(status);
	if (request->json)
		info_print_json(&report);
	else
		print_text(&report);
	status = status_of(&report);
	info_collect_free(&report);
	return status;
}

/* A report that did not reach its reader was not made. */
static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	perror("gmem-info: standard output");
	return INFO_EXIT_NOT;
}

int main(int argc, char **argv)
{
	struct info_request request;
	struct info_machine machine;
	int status;

	if (!info_parse(argc, argv, &request, &status))
		return finish(status);
	status = info_machine_open(&machine, &request);
	if (status < 0)
		return fail(status);
	status = print_report(&request, &machine);
	info_machine_close(&machine);
	return finish(status);
}
