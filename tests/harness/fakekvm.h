/* SPDX-License-Identifier: MIT */
/* A stand-in for KVM and userfaultfd behind the wrapped calls of wrap.c.
 *
 * It answers as the kernels of its presets are described in their documentation and sources, so that flows of features which no
 * machine at hand has can be walked. It is never evidence of what a kernel does: that is what the live tests are for.
 *
 * While it is enabled, /dev/kvm and /dev/userfaultfd and the system call userfaultfd() are its own. Its fds are real memfds
 * that it knows by their inode, so dup(), fcntl(F_DUPFD) and close() need no help; a fake guest_memfd can be mapped and holds
 * data. When disabled, which is how a program begins and what the test glue does after every test, all calls go to the real
 * kernel.
 *
 * A VM answers only the process that made it, as KVM does. Everything may be called from any thread. */
#ifndef FAKEKVM_H
#define FAKEKVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fakekvm_cap {
	uint32_t cap; /* 0 ends a list */
	int device;   /* KVM_CHECK_EXTENSION on /dev/kvm */
	int vm;       /* ... on the VM */
};

/* A kernel, the VMs on it, and what this process may do. Presets are constant: copy, change, enable. */
struct fakekvm_config {
	bool no_cachestat; /* the system call is unknown (before 6.5), whatever the file */

	/* KVM */
	int device_error;            /* of open("/dev/kvm"); 0 = it opens */
	uint32_t vm_type;            /* the only type that KVM_CREATE_VM makes */
	bool foreign;                /* VMs and vCPUs say EIO, as if another process had made them */
	int unknown_vm;              /* errno of an unknown ioctl on /dev/kvm and VMs: ENOTTY on x86, EINVAL on arm64 */
	int encrypt_op;              /* errno of KVM_MEMORY_ENCRYPT_OP with NULL; 0 = it succeeds */
	struct fakekvm_cap caps[20]; /* KVM_CHECK_EXTENSION; 0 for what is not listed */
	const char *known[16];       /* optional ioctls that it knows, by name: see fakekvm_vm.c; NULL ends the list */

	/* memslots */
	uint32_t address_spaces; /* of the VM: 2 where x86 has a mode for system management */
	uint32_t slot_flags;     /* what the flags of a memslot may be made of */
	int overlap_error;       /* of a file range bound twice: EINVAL or EEXIST */
	bool bind_mappable;      /* only files made with MMAP can be bound: arm64 */

	/* guest_memfd */
	uint64_t gmem_flags;         /* that KVM_CREATE_GUEST_MEMFD accepts */
	uint64_t gmem_write;         /* which of them means write(), 0 = none */
	uint64_t gmem_no_direct_map; /* which of them means NO_DIRECT_MAP, 0 = none */
	bool gmem_magic;             /* it has its own file system, and keeps NUMA policies (6.19) */
	uint64_t gmem_uffd_modes;    /* UFFDIO_REGISTER modes that its mappings take */

	/* userfaultfd */
	int uffd_device_error;  /* of open("/dev/userfaultfd"); 0 = it opens */
	int uffd_syscall_error; /* of userfaultfd(); 0 = it works. EPERM is not for UFFD_USER_MODE_ONLY */
	uint64_t uffd_features;
	uint64_t uffd_ioctls; /* what UFFDIO_API says of them */
	bool uffd_event_fork; /* this process has the privilege for UFFD_FEATURE_EVENT_FORK */
};

/* "none" "forbidden" "6.1" "6.12" "6.18" "7.3" "sw-protected" "snp" "tdx" "future-upstream" "future-firecracker" "arm64".
 * Anything else ends the program: a test with a typing error must not pass.
 *
 * All know KVM_PRE_FAULT_MEMORY but "none", "6.1" and "arm64"; on "6.18" and "forbidden" it is known and fails with EOPNOTSUPP,
 * since there is no paging in hardware. None knows KVM_MAP_MEMORY, in either of its postings: that is for fakekvm_know(). */
const struct fakekvm_config *fakekvm_preset(const char *name);
/* Adds an ioctl to config->known. */
void fakekvm_know(struct fakekvm_config *config, const char *name);
/* Changes one capability, or adds it. */
void fakekvm_set_cap(struct fakekvm_config *config, uint32_t cap, int device, int vm);

/* From now on the machine is this one; copies the configuration. Forgets what was there before. */
void fakekvm_enable(const struct fakekvm_config *config);
/* Back to the real kernel. Fds and mappings of fake objects stay, as memfds; scripts are forgotten. */
void fakekvm_disable(void);

/* A new VM, of this configuration or (NULL) of that of the machine; enables the stand-in if nobody has. The fd is the
 * caller's. */
int fakekvm_vm(const struct fakekvm_config *config);
/* A new vCPU of a VM. The fd is the caller's. */
int fakekvm_vcpu(int vm_fd);

/* After `after` calls by this name, the next ones fail with this errno, `times` times (0 = for ever). Names: those of
 * ioctls ("KVM_CREATE_GUEST_MEMFD"), "probe:" and such a name for calls with a bad pointer, "open:/dev/kvm",
 * "open:/dev/userfaultfd", "userfaultfd", and for calls on a guest_memfd or its mappings "mmap", "madvise", "mincore",
 * "fallocate", "lseek", "pwrite", "splice", "cachestat", "mbind", and "readlink" of its name in /proc. Scripts are tried in
 * the order in which they were given, until one applies. Call it while enabled. */
void fakekvm_script(const char *call, int error, unsigned int times, unsigned int after);
/* The same, but the call does `limit` bytes of its work first. Then it ends as the kernel does: pwrite and KVM_PRE_FAULT_MEMORY
 * say how far they came, KVM_MAP_MEMORY says that and fails with the error (0: it just stops), fallocate and madvise fail with
 * the error and keep what they did. */
void fakekvm_script_partial(const char *call, uint64_t limit, int error, unsigned int times, unsigned int after);
/* How many calls by that name came to fake objects since it was enabled. */
unsigned int fakekvm_calls(const char *call);

/* Bytes of guest memory that vCPUs of a VM have mapped because they were told to; what was mapped twice counts twice. */
uint64_t fakekvm_prefaulted(int vm_fd);
/* How many such calls came to a vCPU, whatever became of them. Probes are none. */
unsigned int fakekvm_vcpu_calls(int vcpu_fd);

struct fakekvm_slot {
	uint32_t slot;
	uint32_t flags;
	uint64_t gpa;
	uint64_t size;
	uint64_t hva;
	uint64_t file; /* inode of the guest_memfd, 0 = none */
	uint64_t offset;
};

/* Copies as many memslots of a VM as there is room for, in the order of their making. Returns how many there are. */
size_t fakekvm_slots(int vm_fd, struct fakekvm_slot *slots, size_t room);

#endif
