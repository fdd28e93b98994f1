/* SPDX-License-Identifier: MIT */
/* gmem-info: the report as one JSON object (RFC 8259). Members are only ever added. */
#include "gmem-info.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void put_character(unsigned char byte)
{
	if (byte == '"' || byte == '\\')
		printf("\\%c", byte);
	else if (byte < 0x20 || byte == 0x7f)
		printf("\\u%04x", byte);
	else
		putchar(byte);
}

static void put_text(const char *text)
{
	if (!text) {
		fputs("null", stdout);
		return;
	}
	putchar('"');
	while (*text)
		put_character((unsigned char)*text++);
	putchar('"');
}

/* A member of an object; before is what separates it from the one before it. */
static void put_name(const char *before, const char *name)
{
	fputs(before, stdout);
	put_text(name);
	fputs(": ", stdout);
}

static void text_member(const char *before, const char *name, const char *text)
{
	put_name(before, name);
	put_text(text);
}

static void number_member(const char *before, const char *name, long long number)
{
	put_name(before, name);
	printf("%lld", number);
}

static void truth_member(const char *before, const char *name, bool truth)
{
	put_name(before, name);
	fputs(truth ? "true" : "false", stdout);
}

/* The positive errno three times: as number, by name and as text. */
static void error_members(const char *before, int error)
{
	number_member(before, "error", error);
	text_member(", ", "error_name", error ? info_error_name(error) : NULL);
	text_member(", ", "error_text", error ? strerror(error) : NULL);
}

static void trouble_members(const struct info_trouble *trouble)
{
	error_members(", ", trouble->error);
	text_member(", ", "step", trouble->step);
	text_member(", ", "advice", *trouble->advice ? trouble->advice : NULL);
}

static void print_vm(const struct info_report *report)
{
	const struct info_machine *machine = report->machine;

	put_name(",\n  ", "vm");
	text_member("{", "type", report->request->type->name);
	truth_member(", ", "made", machine->has_vm);
	trouble_members(&machine->vm_trouble);
	put_name("},\n  ", "vcpu");
	truth_member("{", "made", machine->vcpu != NULL);
	trouble_members(&machine->vcpu_trouble);
	putchar('}');
}

static void print_needs(const struct info_request *request)
{
	uint64_t need = request->need ? request->need : GMEM_NEED_MAPPABLE;
	const char *before = "", *name;

	put_name(",\n  ", "need");
	putchar('[');
	for (size_t i = 0; (name = info_need_name(i)); i++) {
		if (!(need & (UINT64_C(1) << i)))
			continue;
		fputs(before, stdout);
		put_text(name);
		before = ", ";
	}
	putchar(']');
}

static void print_feature(const char *before, const struct info_feature *feature)
{
	fputs(before, stdout);
	text_member("{", "name", feature->name);
	number_member(", ", "number", feature->number);
	text_member(", ", "state", gmem_state_name(feature->state));
	error_members(", ", -feature->probe.error);
	text_member(", ", "facility", feature->probe.facility);
	text_member(", ", "hint", feature->probe.hint);
	putchar('}');
}

static void print_features(const struct info_report *report)
{
	put_name(",\n  ", "features");
	putchar('[');
	for (size_t i = 0; i < report->feature_count; i++)
		print_feature(i ? ",\n    " : "\n    ", &report->features[i]);
	fputs("\n  ]", stdout);
}

static void print_step(const char *before, const struct gmem_step *step)
{
	const char *feature = step->feature ? gmem_feature_name((enum gmem_feature)step->feature) : NULL;

	fputs(before, stdout);
	text_member("{", "mechanism", gmem_mechanism_name((enum gmem_mechanism)step->mechanism));
	number_member(", ", "number", step->mechanism);
	text_member(", ", "backing", step->backing ? gmem_backing_name((enum gmem_backing)step->backing) : NULL);
	text_member(", ", "feature", feature);
	text_member(", ", "state", gmem_state_name((enum gmem_state)step->state));
	truth_member(", ", "chosen", step->chosen);
	text_member(", ", "why", step->why);
	putchar('}');
}

static void print_chain(const char *before, const struct info_chain *chain)
{
	fputs(before, stdout);
	text_member("{", "task", gmem_task_name(chain->task));
	put_name(", ", "steps");
	putchar('[');
	for (size_t i = 0; i < chain->count; i++)
		print_step(i ? ",\n      " : "\n      ", &chain->steps[i]);
	fputs("\n    ]}", stdout);
}

/* One task if one was named, else all; none where one feature was asked for. */
static bool is_wanted(const struct info_request *request, const struct info_chain *chain)
{
	return !request->feature && (!request->task || request->task == chain->task);
}

static void print_chains(const struct info_report *report)
{
	const char *before = "\n    ";

	put_name(",\n  ", "chains");
	putchar('[');
	for (size_t i = 0; i < INFO_TASKS; i++) {
		if (!is_wanted(report->request, &report->chains[i]))
			continue;
		print_chain(before, &report->chains[i]);
		before = ",\n    ";
	}
	fputs("\n  ]\n}\n", stdout);
}

void info_print_json(const struct info_report *report)
{
	text_member("{\n  ", "version", gmem_version());
	number_member(",\n  ", "uid", (long long)geteuid());
	print_vm(report);
	print_needs(report->request);
	print_features(report);
	print_chains(report);
}
