/* SPDX-License-Identifier: MIT */
/* gmem-info: asks the library everything before anything is printed, so that a failure leaves no half report. */
#include "gmem-info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int ask(struct gmem_vm *vm, enum gmem_feature number, struct info_feature *feature)
{
	int state;

	*feature = (struct info_feature){ .number = number, .name = gmem_feature_name(number) };
	feature->probe.size = sizeof(feature->probe);
	state = gmem_vm_probe(vm, number, &feature->probe);
	if (state >= 0)
		feature->state = (enum gmem_state)state;
	return state;
}

static size_t count_features(void)
{
	size_t count = 0;

	while (gmem_feature_name((enum gmem_feature)(count + 1)))
		count++;
	return count;
}

static int collect_features(struct info_report *report, struct gmem_vm *vm)
{
	enum gmem_feature only = report->request->feature;
	size_t count = only ? 1 : count_features();
	int r = 0;

	report->features = calloc(count, sizeof(*report->features));
	if (!report->features)
		return -ENOMEM;
	report->feature_count = count;
	for (size_t i = 0; i < count && r >= 0; i++)
		r = ask(vm, only ? only : (enum gmem_feature)(i + 1), &report->features[i]);
	return r;
}

static int explain(struct info_chain *chain, struct gmem_vm *vm, uint64_t need)
{
	int r = 1;

	while (chain->count < INFO_STEPS) {
		struct gmem_step *step = &chain->steps[chain->count];

		step->size = sizeof(*step);
		r = gmem_vm_explain(vm, chain->task, need, GMEM_BACKING_AUTO, (uint32_t)chain->count, step);
		if (r <= 0)
			break;
		chain->count++;
	}
	return r;
}

static int collect_chains(struct info_report *report, struct gmem_vm *vm)
{
	int r = 0;

	for (size_t i = 0; i < INFO_TASKS && r >= 0; i++) {
		report->chains[i].task = (enum gmem_task)(i + 1);
		r = explain(&report->chains[i], vm, report->request->need);
	}
	return r;
}

int info_collect(struct info_report *report, const struct info_machine *machine, const struct info_request *request)
{
	int r;

	memset(report, 0, sizeof(*report));
	report->request = request;
	report->machine = machine;
	r = collect_features(report, machine->vm);
	if (r >= 0 && !request->feature)
		r = collect_chains(report, machine->vm);
	if (r < 0)
		info_collect_free(report);
	return r;
}

void info_collect_free(struct info_report *report)
{
	free(report->features);
	report->features = NULL;
}

const struct gmem_step *info_chosen(const struct info_chain *chain)
{
	for (size_t i = 0; i < chain->count; i++)
		if (chain->steps[i].chosen)
			return &chain->steps[i];
	return NULL;
}
