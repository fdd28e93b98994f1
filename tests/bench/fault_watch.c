/* SPDX-License-Identifier: MIT */
#include "fault_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../lib/uapi/userfaultfd.h"
#include "fault.h"
#include "hand.h"
#include "trap.h"

#define BIT(n) (UINT64_C(1) << (n))
#define FEATURES (BIT(UFFDI_BIT_MISSING_SHMEM) | BIT(UFFDI_BIT_MINOR_SHMEM))

static int new_uffd(void)
{
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), uffd;

	if (device < 0)
		return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	uffd = ioctl(device, (unsigned long)UFFDI_NEW, O_CLOEXEC | O_NONBLOCK);
	close(device);
	return uffd;
}

static bool shake_hands(int uffd)
{
	struct uffdi_api api = { .api = UFFDI_API_VERSION, .features = FEATURES };

	return ioctl(uffd, (unsigned long)UFFDI_API, &api) == 0;
}

const char *watch_absent(void)
{
	int uffd = new_uffd();
	bool knows;

	if (uffd < 0)
		return "no userfaultfd can be made here";
	knows = shake_hands(uffd);
	close(uffd);
	return knows ? NULL : "this kernel has no minor faults of a memfd";
}

static unsigned char *map_anonymous(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		give_up("mmap() of the memory: out of memory");
	return at;
}

void watch_begin(struct watched *watched, enum watch_kind kind, size_t size)
{
	*watched = (struct watched){ .size = size, .file = -1, .uffd = -1 };
	if (kind != WATCH_ANONYMOUS) {
		watched->file = hand_memfd(size);
		watched->at = hand_map(watched->file, size);
	} else {
		watched->at = map_anonymous(size);
	}
	if (kind == WATCH_FILE)
		watched->alias = hand_map(watched->file, size);
	madvise(watched->at, size, MADV_NOHUGEPAGE);
}

void watch_on(struct watched *watched, enum watch_kind kind)
{
	struct uffdi_register range = { .start = (uintptr_t)watched->at, .length = watched->size,
					.mode = UFFDI_REGISTER_MISSING };

	if (kind == WATCH_FILE)
		range.mode |= UFFDI_REGISTER_MINOR;
	watched->uffd = new_uffd();
	must_errno(watched->uffd, "userfaultfd()");
	if (!shake_hands(watched->uffd))
		give_up("UFFDIO_API failed");
	must_errno(ioctl(watched->uffd, (unsigned long)UFFDI_REGISTER, &range), "UFFDIO_REGISTER");
}

void watch_off(struct watched *watched)
{
	struct uffdi_range range = { .start = (uintptr_t)watched->at, .length = watched->size };

	ioctl(watched->uffd, (unsigned long)UFFDI_UNREGISTER, &range);
}

void watch_end(struct watched *watched)
{
	if (watched->uffd >= 0)
		close(watched->uffd);
	if (watched->at)
		munmap(watched->at, watched->size);
	if (watched->alias)
		munmap(watched->alias, watched->size);
	if (watched->file >= 0)
		close(watched->file);
	*watched = (struct watched){ .file = -1, .uffd = -1 };
}

/* After a call that did not do all of it: how much further it is, or that it is over. Who waits for a page that is there
 * already has to be woken: the call that brought it in may have been before he waited. */
static bool go_on(const struct watched *watched, int64_t result, size_t at, size_t *done)
{
	struct uffdi_range page = { .start = (uintptr_t)watched->at + at, .length = FAULT_PAGE };

	if (result > 0) {
		*done += (size_t)result;
	} else if (errno == EEXIST) {
		ioctl(watched->uffd, (unsigned long)UFFDI_WAKE, &page);
		*done += FAULT_PAGE;
	} else if (errno == EAGAIN) {
		sched_yield();
	} else {
		return false;
	}
	return true;
}

int watch_continue(const struct watched *watched, size_t offset, size_t length)
{
	for (size_t done = 0; done < length;) {
		struct uffdi_resolve range = { .start = (uintptr_t)watched->at + offset + done, .length = length - done };

		if (ioctl(watched->uffd, (unsigned long)UFFDI_CONTINUE, &range) == 0)
			return 0;
		if (!go_on(watched, range.result, offset + done, &done))
			return errno;
	}
	return 0;
}

int watch_copy(const struct watched *watched, size_t offset, size_t length, const void *data)
{
	for (size_t done = 0; done < length;) {
		struct uffdi_copy copy = { .to = (uintptr_t)watched->at + offset + done, .from = (uintptr_t)data + done,
					   .length = length - done };

		if (ioctl(watched->uffd, (unsigned long)UFFDI_COPY, &copy) == 0)
			return 0;
		if (!go_on(watched, copy.result, offset + done, &done))
			return errno;
	}
	return 0;
}
