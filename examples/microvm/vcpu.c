/* SPDX-License-Identifier: MIT */
#include "vcpu.h"

#include <stdio.h>

#ifdef __x86_64__

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "say.h"

/* KVM_CREATE_VM too can be interrupted by a signal. */
static int kvm_ioctl(int fd, unsigned long request, unsigned long argument)
{
	int r;

	do {
		r = ioctl(fd, request, argument);
	} while (r < 0 && errno == EINTR);
	return r;
}

static int because(char *why, size_t size, const char *step)
{
	snprintf(why, size, "%s: %s", step, strerror(errno));
	return -1;
}

static int map_run(struct vcpu *vcpu, char *why, size_t size)
{
	int length = kvm_ioctl(vcpu->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;

	if (length < 0)
		return because(why, size, "KVM_GET_VCPU_MMAP_SIZE");
	run = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return because(why, size, "mmap of the vCPU");
	vcpu->run = run;
	vcpu->run_size = (size_t)length;
	return 0;
}

static int open_all(struct vcpu *vcpu, char *why, size_t size)
{
	int version;

	vcpu->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vcpu->kvm_fd < 0)
		return because(why, size, "/dev/kvm");
	version = kvm_ioctl(vcpu->kvm_fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return because(why, size, "/dev/kvm: KVM_GET_API_VERSION");
	if (version != KVM_API_VERSION) {
		snprintf(why, size, "/dev/kvm: API version %d is not %d", version, KVM_API_VERSION);
		return -1;
	}
	vcpu->vm_fd = kvm_ioctl(vcpu->kvm_fd, KVM_CREATE_VM, 0);
	if (vcpu->vm_fd < 0)
		return because(why, size, "KVM_CREATE_VM");
	vcpu->fd = kvm_ioctl(vcpu->vm_fd, KVM_CREATE_VCPU, 0);
	if (vcpu->fd < 0)
		return because(why, size, "KVM_CREATE_VCPU");
	return map_run(vcpu, why, size);
}

int vcpu_open(struct vcpu *vcpu, char *why, size_t size)
{
	vcpu_none(vcpu);
	if (open_all(vcpu, why, size) == 0)
		return 0;
	vcpu_close(vcpu);
	return -1;
}

static void close_fd(const char *what, int fd)
{
	if (fd >= 0 && close(fd))
		fail("close %s: %s", what, strerror(errno));
}

void vcpu_close(struct vcpu *vcpu)
{
	if (vcpu->run && munmap(vcpu->run, vcpu->run_size))
		fail("munmap of the vCPU: %s", strerror(errno));
	close_fd("the vCPU", vcpu->fd);
	close_fd("the VM", vcpu->vm_fd);
	close_fd("/dev/kvm", vcpu->kvm_fd);
	vcpu_none(vcpu);
}

#else

int vcpu_open(struct vcpu *vcpu, char *why, size_t size)
{
	vcpu_none(vcpu);
	snprintf(why, size, "no vCPU program for this architecture");
	return -1;
}

void vcpu_close(struct vcpu *vcpu)
{
	vcpu_none(vcpu);
}

#endif

void vcpu_none(struct vcpu *vcpu)
{
	*vcpu = (struct vcpu){ .kvm_fd = -1, .vm_fd = -1, .fd = -1 };
}
