/* SPDX-License-Identifier: MIT */
/* userfaultfd as far as probes ask it: the handshake and registration. No fault is ever delivered. */
#include <fcntl.h>
#include <string.h>

#include "fakekvm_int.h"

#define UNREGISTER 0x8010aa01u
#define WAKE 0x8010aa02u

#define BIT(n) (UINT64_C(1) << (n))
#define ALL_MODES (UFFDI_REGISTER_MISSING | UFFDI_REGISTER_WP | UFFDI_REGISTER_MINOR)

/* What UFFDIO_REGISTER says can be done afterwards: WAKE, COPY, ... as bits of their numbers. */
#define AFTER_ANY (BIT(2) | BIT(3) | BIT(5) | BIT(8))
#define AFTER_MISSING BIT(4)
#define AFTER_WP BIT(6)
#define AFTER_MINOR BIT(7)

long fake_new_uffd(int flags)
{
	if (flags & ~(O_CLOEXEC | O_NONBLOCK | UFFDI_USER_MODE_ONLY))
		return -EINVAL;
	return fake_make(FAKE_UFFD, flags, &fake_machine, NULL);
}

static long new_uffd(struct fake_object *device, void *argument)
{
	(void)device;
	return fake_new_uffd((int)(uintptr_t)argument);
}

static int check_api(const struct fake_object *uffd, const struct uffdi_api *api)
{
	if (uffd->greeted || api->api != UFFDI_API_VERSION)
		return -EINVAL;
	if ((api->features & BIT(UFFDI_BIT_EVENT_FORK)) && !uffd->config->uffd_event_fork)
		return -EPERM;
	return api->features & ~uffd->config->uffd_features ? -EINVAL : 0;
}

/* One success for each fd. A failure wipes the structure, so nobody learns from it what there is. */
static long say_api(struct fake_object *uffd, void *argument)
{
	struct uffdi_api *api = argument;
	int error = check_api(uffd, api);

	if (error) {
		memset(api, 0, sizeof(*api));
		return error;
	}
	uffd->greeted = true;
	uffd->features = api->features;
	api->features = uffd->config->uffd_features;
	api->ioctls = uffd->config->uffd_ioctls;
	return 0;
}

static bool mapping_takes(const struct fake_object *uffd, const struct uffdi_register *range)
{
	const struct fake_object *gmem = fake_mapped_at(range->start);

	if (!gmem)
		return true; /* what else is mapped there the stand-in does not know: it is all good */
	/* Asynchronous write protection is done without the mapping's help. */
	if (range->mode == UFFDI_REGISTER_WP)
		return uffd->features & BIT(UFFDI_BIT_WP_ASYNC);
	return (gmem->flags & KVMI_GUEST_MEMFD_INIT_SHARED) && !(range->mode & ~gmem->config->gmem_uffd_modes);
}

static uint64_t ioctls_after(uint64_t mode)
{
	uint64_t ioctls = AFTER_ANY;

	ioctls |= mode & UFFDI_REGISTER_MISSING ? AFTER_MISSING : 0;
	ioctls |= mode & UFFDI_REGISTER_WP ? AFTER_WP | AFTER_MISSING : 0;
	ioctls |= mode & UFFDI_REGISTER_MINOR ? AFTER_MINOR | AFTER_MISSING : 0;
	return ioctls;
}

static bool good_range(uint64_t start, uint64_t length)
{
	return length && !((start | length) & (fake_page() - 1)) && start + length > start;
}

static long register_range(struct fake_object *uffd, void *argument)
{
	struct uffdi_register *range = argument;

	if (!uffd->greeted || !range->mode || (range->mode & ~ALL_MODES) || !good_range(range->start, range->length))
		return -EINVAL;
	if (!mapping_takes(uffd, range))
		return -EINVAL;
	range->ioctls = ioctls_after(range->mode);
	return 0;
}

static long on_range(struct fake_object *uffd, void *argument)
{
	const uint64_t *range = argument;

	return uffd->greeted && good_range(range[0], range[1]) ? 0 : -EINVAL;
}

const struct fake_command fake_uffd_commands[] = {
	{ UFFDI_NEW, FAKE_UFFD_DEVICE, 0, 0, "USERFAULTFD_IOC_NEW", new_uffd },
	{ UFFDI_API, FAKE_UFFD, 24, 0, "UFFDIO_API", say_api },
	{ UFFDI_REGISTER, FAKE_UFFD, 32, 0, "UFFDIO_REGISTER", register_range },
	{ UNREGISTER, FAKE_UFFD, 16, 0, "UFFDIO_UNREGISTER", on_range },
	{ WAKE, FAKE_UFFD, 16, 0, "UFFDIO_WAKE", on_range },
	FAKE_ENDED,
};
