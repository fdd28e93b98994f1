/* SPDX-License-Identifier: MIT */
#include "microvm.h"
#include "say.h"
#include "sigbus.h"
#include "vcpu.h"

#ifdef __x86_64__

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

#include "guest.h"
#include "vcpu_exit.h"

/* How far the guest program is: it does exactly one out after the other. */
enum progress { NOT_STARTED, STARTED, HAVE_LOW, HAVE_HIGH, DONE };

struct expected {
	unsigned int port;
	unsigned int size; /* bytes */
};

static const struct expected expected[] = {
	[NOT_STARTED] = { GUEST_PORT_STARTED, 1 },
	[STARTED] = { GUEST_PORT_RESULT, 4 },
	[HAVE_LOW] = { GUEST_PORT_RESULT, 4 },
	[HAVE_HIGH] = { GUEST_PORT_DONE, 1 },
};

static bool is_expected(const struct kvm_run *run, enum progress progress)
{
	return run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT && run->io.count == 1 &&
	       run->io.port == expected[progress].port && run->io.size == expected[progress].size;
}

static uint64_t io_value(const struct kvm_run *run)
{
	uint32_t value = 0;

	memcpy(&value, (const char *)run + run->io.data_offset, run->io.size);
	return value;
}

static enum progress take(const struct kvm_run *run, enum progress progress, struct reading *reading)
{
	switch (progress) {
	case NOT_STARTED:
		reading->started = now_ns();
		return STARTED;
	case STARTED:
		reading->checksum = io_value(run);
		return HAVE_LOW;
	case HAVE_LOW:
		reading->checksum |= io_value(run) << 32;
		return HAVE_HIGH;
	default:
		reading->ended = now_ns();
		return DONE;
	}
}

/* Until something is there to look at. Returns 0 or the errno of KVM_RUN. */
static int run_to_exit(const struct vcpu *vcpu)
{
	do {
		vcpu->run->exit_reason = EXIT_NONE;
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0)
			return 0;
	} while (errno == EINTR || errno == EAGAIN);
	return errno;
}

struct run {
	const struct vcpu *vcpu;
	struct reading *reading;
	int result;
};

static void run_program(void *argument)
{
	struct run *run = argument;
	enum progress progress = NOT_STARTED;

	while (progress != DONE) {
		int error = run_to_exit(run->vcpu);

		if (error || !is_expected(run->vcpu->run, progress)) {
			run->result = vcpu_fail_exit(run->vcpu, error);
			return;
		}
		progress = take(run->vcpu->run, progress, run->reading);
	}
}

/* A page that cannot be had is a poisoned one to KVM, which sends SIGBUS to the thread in KVM_RUN, and would do so again. */
int vcpu_run(const struct vcpu *vcpu, struct reading *reading)
{
	struct run run = { .vcpu = vcpu, .reading = reading };

	return sigbus_guard(run_program, &run) ? -1 : run.result;
}

#else

int vcpu_run(const struct vcpu *vcpu, struct reading *reading)
{
	(void)vcpu, (void)reading;
	return fail("no vCPU program for this architecture");
}

#endif
