/* SPDX-License-Identifier: MIT */
/* Floor 2: a new userfaultfd, as the probes open it and as an endpoint does. In vm_probe_uffd.c. */
#ifndef GMEMI_VM_UFFD_H
#define GMEMI_VM_UFFD_H

struct uffdi_api;

/* fds, or negative errnos. Full: it hears of faults that the kernel takes. Any: of user mode's alone if nothing else. */
int gmemi_uffd_open_full(void);
int gmemi_uffd_open_any(void);
/* What to change where that is refused. */
extern const char gmemi_uffd_kernel_hint[], gmemi_uffd_any_hint[];

/* What the kernel offers. */
int gmemi_uffd_offered(struct uffdi_api *api);
/* UFFDIO_API with the features in *api; once for each fd. */
int gmemi_uffd_shake_hands(int fd, struct uffdi_api *api);

#endif
