/* SPDX-License-Identifier: MIT */
#include "future.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include <linux/kvm.h>

#include "../../lib/uapi/userfaultfd.h"
#include "gt.h"

bool future_has(uint32_t bits)
{
	FILE *file = fopen("/sys/module/kvm/parameters/lab", "re");
	unsigned int mask = 0;
	int read;

	if (!file)
		gt_skip("this kernel has no parameter kvm.lab");
	read = fscanf(file, "%u", &mask);
	fclose(file);
	assert_int_equal(read, 1);
	return mask & bits;
}

bool future_has_pre_fault(void)
{
	if (future_has(FUTURE_NO_PRE_FAULT))
		return false;
	return !future_has(FUTURE_MAP_V1 | FUTURE_MAP_V2) || future_has(FUTURE_BESIDE);
}

void future_refuse(uint32_t bits)
{
	FILE *file = fopen("/sys/module/kvm/parameters/lab_refuses", "we");

	assert_non_null(file);
	assert_true(fprintf(file, "%u", bits) > 0);
	assert_int_equal(fclose(file), 0);
}

uint64_t future_flag_write(void)
{
	if (!future_has(FUTURE_WRITE))
		return 0;
	return future_has(FUTURE_FIRECRACKER) ? KVMI_GUEST_MEMFD_BIT3 : KVMI_GUEST_MEMFD_BIT2;
}

uint64_t future_flag_hidden(void)
{
	if (!future_has(FUTURE_NO_DIRECT_MAP))
		return 0;
	return future_has(FUTURE_WRITE) && !future_has(FUTURE_FIRECRACKER) ? 0 : KVMI_GUEST_MEMFD_BIT2;
}

void future_need_mapping(void)
{
	if (future_has(FUTURE_BEFORE_618))
		gt_skip("guest_memfd cannot be mapped on this kernel");
}

struct future_memory future_memory(size_t pages, uint64_t more_flags)
{
	struct future_memory memory = { .vm = guest_vm(), .size = pages * RAW_PAGE };

	memory.file = raw_guest_memfd(memory.vm, memory.size, RAW_SHARED | more_flags);
	assert_true(memory.file >= 0);
	memory.at = mmap(NULL, memory.size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.file, 0);
	memory.second = mmap(NULL, memory.size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.file, 0);
	assert_true(memory.at != MAP_FAILED && memory.second != MAP_FAILED);
	return memory;
}

void future_memory_end(struct future_memory *memory)
{
	munmap(memory->at, memory->size);
	munmap(memory->second, memory->size);
	close(memory->file);
	close(memory->vm);
}

int future_register(const struct future_memory *memory, uint64_t mode)
{
	struct uffdi_api api = { .api = UFFDI_API_VERSION };
	struct uffdi_register what = { .start = (uintptr_t)memory->at, .length = memory->size, .mode = mode };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), error;

	assert_true(uffd >= 0);
	assert_int_equal(raw_result(ioctl(uffd, (unsigned long)UFFDI_API, &api)), 0);
	error = (int)raw_result(ioctl(uffd, (unsigned long)UFFDI_REGISTER, &what));
	if (error == 0)
		return uffd;
	close(uffd);
	return error;
}

struct future_handler {
	pthread_t thread;
	const struct future_memory *memory;
	int uffd, fill;
	bool copy;
	uint64_t flags;
};

static void answer(const struct future_handler *handler, uint64_t address)
{
	static unsigned char source[RAW_PAGE];
	uint64_t page = address & ~(RAW_PAGE - 1);
	struct uffdi_copy copy = { .to = page, .from = (uintptr_t)source, .length = RAW_PAGE };
	struct uffdi_resolve resolve = { .start = page, .length = RAW_PAGE };

	if (handler->copy) {
		memset(source, handler->fill, RAW_PAGE);
		assert_int_equal(raw_result(ioctl(handler->uffd, (unsigned long)UFFDI_COPY, &copy)), 0);
		return;
	}
	memset(handler->memory->second + (page - (uintptr_t)handler->memory->at), handler->fill, RAW_PAGE);
	assert_int_equal(raw_result(ioctl(handler->uffd, (unsigned long)UFFDI_CONTINUE, &resolve)), 0);
}

static void *handle(void *argument)
{
	struct future_handler *handler = argument;
	struct pollfd wait = { .fd = handler->uffd, .events = POLLIN };
	struct uffdi_message message;

	assert_int_equal(poll(&wait, 1, -1), 1);
	assert_int_equal(read(handler->uffd, &message, sizeof(message)), sizeof(message));
	assert_int_equal(message.event, UFFDI_EVENT_PAGEFAULT);
	handler->flags = message.fault.flags;
	answer(handler, message.fault.address);
	return NULL;
}

struct future_handler *future_handler(int uffd, const struct future_memory *memory, bool copy, int fill)
{
	struct future_handler *handler = calloc(1, sizeof(*handler));

	assert_non_null(handler);
	handler->uffd = uffd;
	handler->memory = memory;
	handler->copy = copy;
	handler->fill = fill;
	assert_int_equal(pthread_create(&handler->thread, NULL, handle, handler), 0);
	return handler;
}

uint64_t future_handler_end(struct future_handler *handler)
{
	uint64_t flags;

	pthread_join(handler->thread, NULL);
	flags = handler->flags;
	free(handler);
	return flags;
}

uint64_t future_mapped(int vm)
{
	int stats = (int)raw_result(ioctl(vm, KVM_GET_STATS_FD, 0));
	struct kvm_stats_header header;
	uint64_t value;
	size_t size;
	off_t at = 0;

	assert_true(stats >= 0);
	assert_int_equal(pread(stats, &header, sizeof(header), 0), sizeof(header));
	size = sizeof(struct kvm_stats_desc) + header.name_size;
	for (uint32_t i = 0; i < header.num_desc; i++) {
		union {
			struct kvm_stats_desc desc;
			char room[256];
		} u = { .room = { 0 } };

		assert_true(size < sizeof(u));
		assert_int_equal(pread(stats, &u, size, (off_t)(header.desc_offset + i * size)), size);
		if (strcmp(u.room + sizeof(u.desc), "pages_4k") == 0)
			at = header.data_offset + u.desc.offset;
	}
	assert_true(at != 0);
	assert_int_equal(pread(stats, &value, sizeof(value), at), sizeof(value));
	close(stats);
	return value;
}

int future_private_vm(void)
{
	int vm = raw_vm(KVMI_VM_TYPE_SW_PROTECTED);

	assert_true(vm >= 0);
	return vm;
}

/* The file begins at guest address 0. */
long future_set_private(int vm, int file, uint64_t size, bool private)
{
	uint64_t attributes = private ? KVMI_MEMORY_ATTRIBUTE_PRIVATE : 0;
	struct kvmi_memory_attributes2 of_file = { .size = size, .attributes = attributes };
	uint64_t of_vm[4] = { 0, size, attributes, 0 };

	if (future_has(FUTURE_ATTRIBUTES2))
		return raw_result(ioctl(file, (unsigned long)KVMI_SET_MEMORY_ATTRIBUTES2, &of_file));
	return raw_result(ioctl(vm, (unsigned long)KVMI_SET_MEMORY_ATTRIBUTES, of_vm));
}

long future_populate(int vm, uint64_t gpa, uint64_t size, const void *from)
{
	uint64_t populate[4] = { gpa, size, (uintptr_t)from, 0 };

	return raw_result(ioctl(vm, (unsigned long)KVMI_GUEST_MEMFD_POPULATE, populate));
}
