/* SPDX-License-Identifier: MIT */
#include "paging.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "microvm.h"
#include "say.h"

/* --- the source: what is lost, over the image, over zeros ---------------------------------------------------------------- */

static int read_lost(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	(void)user, (void)offset, (void)length, (void)buffer, (void)flags;
	return -EIO;
}

/* Of everything else the next layer is asked. */
static int extent_lost(void *user, uint64_t offset, uint64_t *length)
{
	const struct microvm *m = user;
	uint64_t begin = m->options->lose_offset, end = m->image.length;

	if (offset >= begin && offset < end) {
		*length = *length < end - offset ? *length : end - offset;
		return GMEM_ANSWER_DATA; /* that is: it has to be read */
	}
	if (offset < begin && begin < end && *length > begin - offset)
		*length = begin - offset;
	return -ENODATA;
}

static int make_layers(struct microvm *m, struct gmem_source **layers, uint32_t *count)
{
	const struct gmem_source_ops lost = { .size = sizeof(lost), .read = read_lost, .extent = extent_lost };
	const struct gmem_extent image = { .length = m->image.length, .fd = m->image.fd };

	if (m->options->lose && gmem_source_create(&lost, m, &layers[(*count)++]) < 0)
		return -1;
	if (gmem_source_create_file(&image, 1, &layers[(*count)++]) < 0)
		return -1;
	return gmem_source_create_zero(&layers[(*count)++]) < 0 ? -1 : 0;
}

static int make_source(struct microvm *m)
{
	struct gmem_source *layers[3] = { NULL, NULL, NULL };
	uint32_t count = 0;
	int result = 0;

	if (make_layers(m, layers, &count) || gmem_source_create_overlay(layers, count, &m->paging.source) < 0)
		result = fail_gmem("make a source of the image");
	for (int i = 0; i < 3; i++)
		gmem_source_destroy(layers[i]); /* the overlay has claims of its own */
	return result;
}

/* --- the pager ----------------------------------------------------------------------------------------------------------- */

/* In a thread of the pager. Whoever waits for a page that cannot be had gets SIGBUS, or an error of KVM_RUN, and the main
 * thread reports that. A kernel that cannot do this (before 6.6) would leave it waiting for ever. */
static int on_event(void *user, const struct gmem_pager_event *event)
{
	const struct microvm *m = user;

	if (event->kind != GMEM_PAGER_SOURCE_FAILED)
		return 0;
	fail("%s: what belongs at 0x%llx cannot be had: %s", m->image.path, (unsigned long long)event->offset,
	     strerror(-event->error));
	if (gmem_vm_probe(m->vm, GMEM_FEATURE_UFFD_POISON, NULL) != GMEM_PRESENT)
		_exit(EXIT_FAILURE);
	return GMEM_FAILURE_POISON;
}

unsigned int paging_threads(const struct microvm *m)
{
	return m->options->threads ? m->options->threads : 1;
}

static int make_pager(struct microvm *m)
{
	const struct gmem_pager_create_opts opts = {
		.size = sizeof(opts),
		.deadline_ns = m->options->deadline_ns,
		.around_mode = m->options->around_mode,
		.around = m->options->around,
		.threads = paging_threads(m),
		.event = on_event,
		.user = m,
	};
	const struct gmem_pager_add_opts how = { .size = sizeof(how), .background = m->options->background };

	if (gmem_pager_create(&m->paging.pager, &opts) < 0)
		return fail_gmem("make a pager");
	if (gmem_pager_add(m->paging.pager, m->paging.uffd, m->paging.source, &how) < 0 ||
	    gmem_pager_start(m->paging.pager) < 0)
		return fail_gmem("serve guest memory");
	return 0;
}

int paging_begin(struct microvm *m)
{
	if (gmem_uffd_create(m->vm, &m->paging.uffd, NULL) < 0)
		return fail_gmem("hear of page faults");
	if (gmem_uffd_register(m->paging.uffd, m->mem, 0, m->layout.length, NULL) < 0)
		return fail_gmem("watch guest memory");
	return make_source(m) || make_pager(m) ? -1 : 0;
}

int paging_end(struct microvm *m)
{
	m->paging.finished = m->options->background != 0;
	if (m->paging.finished && gmem_pager_finish(m->paging.pager, m->paging.uffd, GMEM_FOREVER) < 0)
		return fail_gmem("bring in the rest of the image");
	m->paging.info.size = sizeof(m->paging.info);
	return gmem_uffd_query(m->paging.uffd, &m->paging.info) < 0 ? fail_gmem("ask what the pager has done") : 0;
}

/* What was not brought in stays blocked until the memory is gone, so nobody may be touching it: the guest does not run any
 * more. */
void paging_destroy(struct microvm *m)
{
	gmem_pager_destroy(m->paging.pager);
	gmem_uffd_destroy(m->paging.uffd);
	gmem_source_destroy(m->paging.source);
	m->paging = (struct paging){ 0 };
}
