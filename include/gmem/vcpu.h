/* SPDX-License-Identifier: MIT */
/** @file gmem/vcpu.h
 * A vCPU, as far as memory is concerned: some features of KVM can only be asked of a vCPU.
 */
#ifndef GMEM_VCPU_H
#define GMEM_VCPU_H

#include <gmem/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gmem_vm;

/** A vCPU that libgmem knows of. Opaque. */
struct gmem_vcpu;

/** Tells libgmem of a vCPU of the VM.
 *
 * From now on gmem_vm_probe() answers the features whose probe needs a vCPU: GMEM_FEATURE_PRE_FAULT,
 * GMEM_FEATURE_MAP_MEMORY and GMEM_FEATURE_MAP_MEMORY_V1. They are asked at once, since later the vCPU may be busy: KVM lets an
 * ioctl on a vCPU wait until KVM_RUN has returned. Nothing happens to the vCPU itself.
 *
 * @param vm       the VM, opened on a VM fd; -EINVAL if it was opened without one
 * @param vcpu_fd  result of KVM_CREATE_VCPU on that VM (which VM is not checked); duplicated, so it may be closed at once
 * @param vcpu     out: the handle; give it up with gmem_vcpu_close()
 * @return 0; -EINVAL `vm` or `vcpu` is NULL, or `vcpu_fd` is no vCPU; -EIO the vCPU belongs to a VM of another process;
 *         -EBADF `vcpu_fd` is not open; -EMFILE or -ENFILE no fd left; -ENOMEM; -ESTALE after fork
 *
 * @threads{any} @blocks{waits} (while another thread is in KVM_RUN on it)
 * @kernel{any KVM (virt/kvm/kvm_main.c\, kvm_vcpu_ioctl)} @since{0.1}
 */
GMEM_API int gmem_vcpu_open(struct gmem_vm *vm, int vcpu_fd, struct gmem_vcpu **vcpu);

/** Gives up the handle. What was learnt through it stays known.
 *
 * @param vcpu  from gmem_vcpu_open(), or NULL; closed once, by whoever opened it
 *
 * @threads{any} @blocks{no} @since{0.1}
 */
GMEM_API void gmem_vcpu_close(struct gmem_vcpu *vcpu);

#ifdef __cplusplus
}
#endif

#endif
