/* SPDX-License-Identifier: MIT */
/* Probes of memory that does not come from KVM. */
#include "vm_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "sys.h"
#include "uapi/mman.h"

struct gmemi_verdict gmemi_probe_memfd(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int fd = gmemi_sys_memfd("gmem-probe", 0);
	int r;

	(void)vm;
	if (fd < 0)
		return gmemi_from_error(row, fd, "a seccomp filter refuses memfd_create()");
	r = gmemi_sys_seal(fd, F_SEAL_SHRINK);
	gmemi_sys_close(fd);
	return r == 0 ? gmemi_present(row) : gmemi_from_error(row, r, NULL);
}

/* Mapping reserves the page: it fails when none is free, and letting go gives it back. */
static int reserve_one(int fd, uint64_t size)
{
	void *page;
	int r = gmemi_sys_resize(fd, size);

	if (r == 0)
		r = gmemi_sys_map(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0, &page);
	if (r == 0)
		gmemi_sys_unmap(page, size);
	return r;
}

struct gmemi_verdict gmemi_probe_hugetlb(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	int fd = gmemi_sys_memfd("gmem-probe", MFD_HUGETLB | row->argument << MMANI_MFD_HUGE_SHIFT);
	int r;

	(void)vm;
	if (fd < 0)
		return gmemi_from_error(row, fd, NULL);
	r = reserve_one(fd, UINT64_C(1) << row->argument);
	gmemi_sys_close(fd);
	if (r == -ENOMEM)
		return gmemi_forbidden(row, r, "no huge page is free: raise nr_hugepages in /sys/kernel/mm/hugepages/hugepages-*kB/");
	return r == 0 ? gmemi_present(row) : gmemi_from_error(row, r, NULL);
}

struct gmemi_verdict gmemi_probe_madv_populate(struct gmem_vm *vm, const struct gmemi_probe_row *row)
{
	uint64_t size = gmemi_sys_page_size();
	void *page;
	int r = gmemi_sys_map(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, &page);

	(void)vm;
	if (r < 0)
		return gmemi_from_error(row, r, NULL);
	r = gmemi_sys_advise(page, size, MMANI_MADV_POPULATE_WRITE);
	gmemi_sys_unmap(page, size);
	return r == 0 ? gmemi_present(row) : gmemi_from_error(row, r, NULL);
}
