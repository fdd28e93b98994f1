/* SPDX-License-Identifier: MIT */
/* gmem-info: words for the numbers of the library and of the kernel. */
#include "gmem-info.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct info_vm_type vm_types[] = {
	{ "plain", 0, GMEM_VM_PLAIN, true },
	{ "none", 0, GMEM_VM_AUTO, false },
#if defined(__x86_64__) || defined(__i386__)
	{ "sw-protected", 1, GMEM_VM_SW_PROTECTED, true },
	{ "sev", 2, GMEM_VM_AUTO, true },
	{ "snp", 4, GMEM_VM_SNP, true },
	{ "tdx", 5, GMEM_VM_TDX, true },
#endif
};

const struct info_vm_type *info_vm_type(const char *name)
{
	for (size_t i = 0; i < COUNT(vm_types); i++)
		if (strcmp(vm_types[i].name, name) == 0)
			return &vm_types[i];
	return NULL;
}

enum gmem_task info_task(const char *name)
{
	const char *known;

	for (int i = 1; (known = gmem_task_name((enum gmem_task)i)); i++)
		if (strcmp(known, name) == 0)
			return (enum gmem_task)i;
	return (enum gmem_task)0;
}

/* By bit number of GMEM_NEED_*. */
static const char *const need_names[] = { "mappable", "private", "lazy", "hidden", "huge-2m", "huge-1g" };

uint64_t info_need(const char *name, size_t length)
{
	for (size_t i = 0; i < COUNT(need_names); i++)
		if (strlen(need_names[i]) == length && memcmp(need_names[i], name, length) == 0)
			return UINT64_C(1) << i;
	return 0;
}

const char *info_need_name(size_t index)
{
	return index < COUNT(need_names) ? need_names[index] : NULL;
}

static const struct {
	int error;
	const char *name;
} error_names[] = {
#define NAME(error) { error, #error }
	NAME(E2BIG),  NAME(EACCES), NAME(EAGAIN), NAME(EBADF),      NAME(EBADFD),    NAME(EBUSY),  NAME(EEXIST), NAME(EFAULT),
	NAME(EINTR),  NAME(EINVAL), NAME(EIO),    NAME(EISDIR),     NAME(EMFILE),    NAME(ENFILE), NAME(ENODEV), NAME(ENOENT),
	NAME(ENOMEM), NAME(ENOSPC), NAME(ENOSYS), NAME(ENOTTY),     NAME(ENXIO),     NAME(EPERM),  NAME(EROFS),  NAME(ESPIPE),
	NAME(ESRCH),  NAME(ESTALE), NAME(ERANGE), NAME(EOPNOTSUPP), NAME(EOVERFLOW),
#undef NAME
};

const char *info_error_name(int error)
{
	for (size_t i = 0; i < COUNT(error_names); i++)
		if (error_names[i].error == error)
			return error_names[i].name;
	return NULL;
}

/* Such as "Permission denied (EACCES)". */
void info_error_text(int error, char *text, size_t size)
{
	const char *name = info_error_name(error);

	if (name)
		snprintf(text, size, "%s (%s)", strerror(error), name);
	else
		snprintf(text, size, "%s (%d)", strerror(error), error);
}

static const struct {
	enum gmem_feature first, last;
	enum info_topic topic;
} topics[] = {
	{ GMEM_FEATURE_KVM, GMEM_FEATURE_USER_MEMORY2, INFO_TOPIC_KVM },
	{ GMEM_FEATURE_GUEST_MEMFD, GMEM_FEATURE_GUEST_MEMFD_NUMA, INFO_TOPIC_GUEST_MEMFD },
	{ GMEM_FEATURE_ATTRIBUTES_VM, GMEM_FEATURE_ATTRIBUTES_VM, INFO_TOPIC_KVM },
	{ GMEM_FEATURE_ATTRIBUTES_FILE, GMEM_FEATURE_ATTRIBUTES_FILE, INFO_TOPIC_GUEST_MEMFD },
	{ GMEM_FEATURE_MEMORY_FAULT_EXIT, GMEM_FEATURE_KVM_USERFAULT, INFO_TOPIC_KVM },
	{ GMEM_FEATURE_PRE_FAULT, GMEM_FEATURE_MAP_MEMORY_V1, INFO_TOPIC_PREFAULT },
	{ GMEM_FEATURE_POPULATE_IOCTL, GMEM_FEATURE_POPULATE_IOCTL, INFO_TOPIC_GUEST_MEMFD },
	{ GMEM_FEATURE_VM_SW_PROTECTED, GMEM_FEATURE_CCA_POPULATE, INFO_TOPIC_VM_TYPES },
	{ GMEM_FEATURE_MEMFD, GMEM_FEATURE_MADV_POPULATE, INFO_TOPIC_HOST },
	{ GMEM_FEATURE_UFFD, GMEM_FEATURE_UFFD_RWP_ASYNC, INFO_TOPIC_UFFD },
};

/* Features of a later library go by their names. */
enum info_topic info_topic(const struct info_feature *feature)
{
	for (size_t i = 0; i < COUNT(topics); i++)
		if (feature->number >= topics[i].first && feature->number <= topics[i].last)
			return topics[i].topic;
	if (strncmp(feature->name, "uffd", 4) == 0)
		return INFO_TOPIC_UFFD;
	if (strncmp(feature->name, "guest_memfd", 11) == 0)
		return INFO_TOPIC_GUEST_MEMFD;
	return INFO_TOPIC_OTHER;
}

const char *info_topic_name(enum info_topic topic)
{
	static const char *const names[] = {
		[INFO_TOPIC_KVM] = "KVM",
		[INFO_TOPIC_GUEST_MEMFD] = "guest_memfd",
		[INFO_TOPIC_PREFAULT] = "Prefault",
		[INFO_TOPIC_VM_TYPES] = "VM types",
		[INFO_TOPIC_HOST] = "Host memory",
		[INFO_TOPIC_UFFD] = "userfaultfd",
		[INFO_TOPIC_OTHER] = "Other",
	};

	return names[topic];
}
