/* SPDX-License-Identifier: MIT */
/* Puts a memory image into guest memory, lets a vCPU compute a checksum over it, and compares. See --help. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "explain.h"
#include "guest_memory.h"
#include "host_thread.h"
#include "microvm.h"
#include "report.h"
#include "say.h"

/* Sets up what there is before there is memory. Without KVM the library gets no VM, and makes memory all the same. */
static int open_vm(struct microvm *m)
{
	if (m->options->no_kvm)
		snprintf(m->why_no_vcpu, sizeof(m->why_no_vcpu), "--no-kvm");
	if (m->options->no_kvm || vcpu_open(&m->vcpu, m->why_no_vcpu, sizeof(m->why_no_vcpu)) < 0)
		fprintf(m->out, "No vCPU: %s; a host thread reads the memory instead.\n", m->why_no_vcpu);
	if (gmem_vm_open(m->vcpu.vm_fd, &m->vm, NULL) < 0)
		return fail_gmem("open the VM");
	/* Through a vCPU the library can map memory into the guest before the guest asks for it. */
	if (m->vcpu.fd >= 0 && gmem_vcpu_open(m->vm, m->vcpu.fd, &m->prefaulter) < 0)
		return fail_gmem("open the vCPU");
	return 0;
}

static int plan(struct microvm *m)
{
	bool vcpu = m->vcpu.fd >= 0;

	if (layout_plan(&m->layout, m->image.length, vcpu, guest_memory_page_size(m->options)))
		return -1;
	if (m->options->flip && m->options->flip_offset / 8 >= m->layout.words)
		return fail("--flip 0x%llx: beyond the image, which has %llu bytes",
			    (unsigned long long)m->options->flip_offset, (unsigned long long)m->image.length);
	fprintf(m->out, "Image at gpa 0x0 - 0x%llx", (unsigned long long)m->image.length);
	if (vcpu)
		fprintf(m->out, ", program area 0x%llx - 0x%llx (not checksummed)", (unsigned long long)m->layout.image_end,
			(unsigned long long)m->layout.program_end);
	fprintf(m->out, ".\n");
	return fflush(m->out) ? fail("cannot write: %s", strerror(errno)) : 0;
}

static int fill_memory(struct microvm *m)
{
	if (guest_memory_create(m) || guest_memory_populate(m) || guest_memory_flip(m) || guest_memory_add_program(m))
		return -1;
	return guest_memory_bind(m) || guest_memory_prefault(m) ? -1 : 0;
}

/* First mapped, bound and watched, then served, and only then touched. */
static int page_memory(struct microvm *m)
{
	if (guest_memory_create(m) || guest_memory_map(m) || guest_memory_bind(m) || paging_begin(m))
		return -1;
	return guest_memory_flip(m) || guest_memory_add_program(m) ? -1 : 0;
}

static int read_memory(struct microvm *m)
{
	if (m->vcpu.fd < 0)
		return host_thread_run(m);
	return vcpu_set_up(&m->vcpu, &m->layout) || vcpu_run(&m->vcpu, &m->reading) ? -1 : 0;
}

static int report(const struct microvm *m)
{
	if (m->options->json) {
		report_json(m);
	} else {
		putchar('\n');
		report_table(m);
	}
	if (!report_right(m))
		return fail("the checksum of guest memory is not that of the file");
	return 0;
}

static int job(struct microvm *m)
{
	if (image_open(&m->image, m->options->image) || open_vm(m) || explain(m) || plan(m))
		return -1;
	if (m->options->lazy ? page_memory(m) : fill_memory(m))
		return -1;
	if (read_memory(m) || (m->options->lazy && paging_end(m)) || image_checksum(&m->image, &m->source))
		return -1;
	return report(m);
}

static int clean_up(struct microvm *m)
{
	int result;

	paging_destroy(m); /* nobody touches the memory any more */
	result = guest_memory_destroy(m);
	gmem_vcpu_close(m->prefaulter);
	gmem_vm_close(m->vm);
	vcpu_close(&m->vcpu);
	image_close(&m->image);
	return result;
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	struct microvm m = { .options = &options, .image.fd = -1 };
	int status = options_parse(&options, argc, argv), result;

	if (status >= 0)
		return status;
	m.out = options.json ? stderr : stdout;
	vcpu_none(&m.vcpu);
	result = job(&m);
	if (clean_up(&m))
		result = -1;
	if (fflush(stdout) || ferror(stdout))
		result = fail("cannot write the report: %s", strerror(errno));
	return result ? EXIT_FAILURE : EXIT_SUCCESS;
}
