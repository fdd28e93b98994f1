/* SPDX-License-Identifier: MIT */
/* The stand-in's objects and their fds, and which call goes to which of them. */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fakekvm_int.h"

#define CACHESTAT 451 /* SYS_cachestat: younger than some C libraries */

struct fakekvm_config fake_machine;

/* By inode. Nobody can tell when the last fd of an object is gone, so they stay until the stand-in is disabled. */
#define BUCKETS 16384u
static struct fake_object *objects[BUCKETS];
static atomic_bool enabled;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;

void fake_lock(void)
{
	pthread_mutex_lock(&lock);
}

void fake_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

bool fake_enabled(void)
{
	return atomic_load_explicit(&enabled, memory_order_acquire);
}

/* A child of a program with threads must not find the lock held by a thread that it does not have. */
static void watch_forks(void)
{
	pthread_atfork(fake_lock, fake_unlock, fake_unlock);
}

void fake_misused(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("fakekvm: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	abort();
}

uint64_t fake_page(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The first page is never mapped, and the upper half of the address space is the kernel's. */
bool fake_bad_pointer(const void *pointer)
{
	return (uintptr_t)pointer < 4096 || (uint64_t)(uintptr_t)pointer >= UINT64_C(1) << 63;
}

static struct fake_object **bucket_of(ino_t inode)
{
	return &objects[inode % BUCKETS];
}

static void forget_bucket(struct fake_object **bucket)
{
	while (*bucket) {
		struct fake_object *object = *bucket;

		*bucket = object->next;
		__real_free(object->slots.list);
		__real_free(object->own);
		__real_free(object);
	}
}

static void forget_objects(void)
{
	for (size_t i = 0; i < BUCKETS; i++)
		forget_bucket(&objects[i]);
}

static void check_config(const struct fakekvm_config *config)
{
	for (size_t i = 0; i < sizeof(config->known) / sizeof(config->known[0]) && config->known[i]; i++)
		if (!fake_is_command(config->known[i], true))
			fake_misused("config->known: there is no optional ioctl \"%s\"", config->known[i]);
}

static void forget_all(void)
{
	forget_objects();
	fake_forget_mappings();
	fake_forget_scripts();
}

void fakekvm_enable(const struct fakekvm_config *config)
{
	check_config(config);
	pthread_once(&fork_handlers, watch_forks);
	fake_lock();
	forget_all();
	fake_machine = *config;
	atomic_store(&enabled, true);
	fake_unlock();
}

void fakekvm_disable(void)
{
	fake_lock();
	atomic_store(&enabled, false);
	forget_all();
	fake_unlock();
}

static int remember(int fd, enum fake_kind kind, const struct fakekvm_config *config, struct fake_object **made)
{
	struct fake_object *object = __real_calloc(1, sizeof(*object));
	struct stat about;

	if (!object || __real_fstat(fd, &about))
		fake_misused("no memory, or fstat() of a memfd failed");
	object->device = about.st_dev;
	object->inode = about.st_ino;
	object->kind = kind;
	object->config = config;
	object->owner = getpid();
	object->next = *bucket_of(about.st_ino);
	*bucket_of(about.st_ino) = object;
	if (made)
		*made = object;
	return fd;
}

int fake_make(enum fake_kind kind, int flags, const struct fakekvm_config *config, struct fake_object **object)
{
	static const char *const names[] = {
		[FAKE_DEVICE] = "fake-kvm",
		[FAKE_VM] = "fake-kvm-vm",
		[FAKE_VCPU] = "fake-kvm-vcpu",
		[FAKE_GMEM] = "fake-gmem",
		[FAKE_UFFD_DEVICE] = "fake-uffd-device",
		[FAKE_UFFD] = "fake-uffd",
	};
	int fd = __real_memfd_create(names[kind], flags & O_CLOEXEC ? MFD_CLOEXEC : 0);

	return fd < 0 ? -errno : remember(fd, kind, config, object);
}

struct fake_object *fake_find(int fd)
{
	struct fake_object *object;
	struct stat about;
	int saved = errno;

	if (__real_fstat(fd, &about)) {
		errno = saved;
		return NULL;
	}
	for (object = *bucket_of(about.st_ino); object; object = object->next)
		if (object->inode == about.st_ino && object->device == about.st_dev)
			break;
	return object;
}

struct fake_object *fake_vm_of(int fd)
{
	struct fake_object *vm = fake_find(fd);

	if (!vm || vm->kind != FAKE_VM)
		fake_misused("fd %d is not a VM of mine", fd);
	return vm;
}

static struct fakekvm_config *copy_of(const struct fakekvm_config *config)
{
	struct fakekvm_config *copy = __real_calloc(1, sizeof(*copy));

	if (!copy)
		fake_misused("no memory for a configuration");
	*copy = *config;
	return copy;
}

static void enable_for_vm(const struct fakekvm_config *config)
{
	if (config)
		check_config(config);
	else if (!fake_enabled())
		fake_misused("a VM of what? Nothing is enabled");
	if (!fake_enabled())
		fakekvm_enable(config);
}

int fakekvm_vm(const struct fakekvm_config *config)
{
	struct fakekvm_config *own;
	struct fake_object *vm;
	int fd;

	enable_for_vm(config);
	own = config ? copy_of(config) : NULL;
	fake_lock();
	fd = fake_make(FAKE_VM, O_CLOEXEC, own ? own : &fake_machine, &vm);
	if (fd >= 0)
		vm->own = own;
	else
		__real_free(own);
	fake_unlock();
	return fd;
}

int fakekvm_vcpu(int vm_fd)
{
	long fd;

	fake_lock();
	fd = fake_create_vcpu(fake_vm_of(vm_fd), NULL);
	fake_unlock();
	return (int)fd;
}

static long open_device(enum fake_kind kind, const char *call, int flags, int error)
{
	long scripted = fake_scripted(call);

	if (scripted)
		return scripted;
	return error ? -error : fake_make(kind, flags, &fake_machine, NULL);
}

long fake_open(const char *path, int flags)
{
	long result = FAKE_NOT_MINE;

	if (!fake_enabled())
		return FAKE_NOT_MINE;
	fake_lock();
	if (strcmp(path, "/dev/kvm") == 0)
		result = open_device(FAKE_DEVICE, "open:/dev/kvm", flags, fake_machine.device_error);
	else if (strcmp(path, "/dev/userfaultfd") == 0)
		result = open_device(FAKE_UFFD_DEVICE, "open:/dev/userfaultfd", flags, fake_machine.uffd_device_error);
	fake_unlock();
	return result;
}

static long open_uffd(int flags)
{
	int error = fake_machine.uffd_syscall_error;
	long scripted = fake_scripted("userfaultfd");

	if (scripted)
		return scripted;
	if (error && (error != EPERM || !(flags & UFFDI_USER_MODE_ONLY)))
		return -error;
	return fake_new_uffd(flags);
}

long fake_syscall(long number, const long argument[6])
{
	long result = FAKE_NOT_MINE;

	if (!fake_enabled())
		return FAKE_NOT_MINE;
	fake_lock();
	if (number == SYS_userfaultfd)
		result = open_uffd((int)argument[0]);
	else if (number == CACHESTAT)
		result = fake_cachestat((int)argument[0]);
	else if (number == SYS_mbind)
		result = fake_mbind((const void *)argument[0]);
	fake_unlock();
	return result;
}

bool fake_knows(const struct fakekvm_config *config, const char *name)
{
	for (size_t i = 0; i < sizeof(config->known) / sizeof(config->known[0]) && config->known[i]; i++)
		if (strcmp(config->known[i], name) == 0)
			return true;
	return false;
}

static const struct fake_command *const tables[] = { fake_vm_commands, fake_uffd_commands };

bool fake_is_command(const char *name, bool optional)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct fake_command *command = tables[i]; command->name; command++)
			if ((!optional || (command->flags & FAKE_OPTIONAL)) && strcmp(command->name, name) == 0)
				return true;
	return false;
}

static const struct fake_command *command_of(const struct fake_object *object, unsigned long request)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct fake_command *command = tables[i]; command->name; command++)
			if (command->on == object->kind && command->request == (uint32_t)request &&
			    (!(command->flags & FAKE_OPTIONAL) || fake_knows(object->config, command->name)))
				return command;
	return NULL;
}

static long unknown_command(const struct fake_object *object)
{
	switch (object->kind) {
	case FAKE_DEVICE:
	case FAKE_VM:
		return -object->config->unknown_vm;
	case FAKE_VCPU:
	case FAKE_UFFD:
		return -EINVAL;
	default:
		return -ENOTTY;
	}
}

static bool is_foreign(const struct fake_object *object)
{
	bool owned = object->kind == FAKE_VM || object->kind == FAKE_VCPU;

	return owned && (object->config->foreign || object->owner != getpid());
}

static long run_command(struct fake_object *object, const struct fake_command *command, void *argument)
{
	bool probe = command->size && fake_bad_pointer(argument);
	char call[80];
	long scripted = 0;

	if (!probe && !command->run)
		fake_misused("%s is known to the probe only: teach fakekvm to play it", command->name);
	snprintf(call, sizeof(call), "%s%s", probe ? "probe:" : "", command->name);
	if (probe || !(command->flags & FAKE_IN_PARTS))
		scripted = fake_scripted(call);
	if (scripted)
		return scripted;
	return probe ? -EFAULT : command->run(object, argument);
}

/* A memfd itself answers every ioctl with ENOTTY: nothing of a fake object ever reaches the real call. */
long fake_ioctl(int fd, unsigned long request, void *argument)
{
	const struct fake_command *command;
	struct fake_object *object;
	long result = FAKE_NOT_MINE;

	if (!fake_enabled())
		return FAKE_NOT_MINE;
	fake_lock();
	object = fake_find(fd);
	if (object && is_foreign(object)) {
		result = -EIO;
	} else if (object) {
		command = command_of(object, request);
		result = command ? run_command(object, command, argument) : unknown_command(object);
	}
	fake_unlock();
	return result;
}
