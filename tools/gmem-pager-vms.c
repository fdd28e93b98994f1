/* SPDX-License-Identifier: MIT */
/* gmem-pager: the VMs that are served. */
#include "gmem-pager.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SLICE UINT64_C(50000000) /* nanoseconds for one VM before the next has its turn */

struct vm {
	struct vm *next;
	struct gmem_uffd *uffd;
	char name[PAGER_NAME + 1];
	uint32_t pid, uid, protocol;
	bool busy, settled; /* in use by a finish; nothing more can be done for it */
};

struct pager_vms {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct vm *first;
	uint64_t unfinished;
	uint64_t strangers; /* who may not connect, and did; the server's thread's */
	_Atomic uint64_t failures; /* of sources */
	bool closed;
};

int pager_vms_create(struct pager_vms **vms)
{
	*vms = calloc(1, sizeof(**vms));
	if (!*vms)
		return -ENOMEM;
	pthread_mutex_init(&(*vms)->lock, NULL);
	pthread_cond_init(&(*vms)->idle, NULL);
	return 0;
}

void pager_vms_destroy(struct pager_vms *vms)
{
	if (!vms)
		return;
	pthread_cond_destroy(&vms->idle);
	pthread_mutex_destroy(&vms->lock);
	free(vms);
}

void pager_vms_close(struct pager_vms *vms)
{
	pthread_mutex_lock(&vms->lock);
	vms->closed = true;
	pthread_mutex_unlock(&vms->lock);
}

uint64_t pager_vms_unfinished(const struct pager_vms *vms)
{
	return vms->unfinished; /* asked when the server is gone */
}

/* The first, the second, the fourth, ...: a VM decides how many there are, and not how much is said. */
static bool is_worth_saying(uint64_t count)
{
	return !(count & (count - 1));
}

/* --- coming and going --------------------------------------------------------------------------------------------------- */

int pager_meet(void *user, const struct gmem_channel_info *peer)
{
	struct pager_daemon *daemon = user;
	uint64_t count;

	if (pager_is_allowed(daemon->request, peer->uid))
		return 0;
	count = ++daemon->vms->strangers;
	if (is_worth_saying(count))
		pager_complain(0, "pid %u, uid %u: this user is not allowed; connection %llu of such", peer->pid, peer->uid,
			       (unsigned long long)count);
	return -EACCES;
}

static void say_served(const struct vm *vm)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };

	if (gmem_uffd_query(vm->uffd, &info) == 0)
		pager_complain(0, "VM '%s' of pid %u, uid %u: serving %llu MiB in %llu ranges", vm->name, vm->pid, vm->uid,
			       (unsigned long long)(info.length >> 20), (unsigned long long)info.ranges);
}

static int enlist(struct pager_vms *vms, struct vm *vm)
{
	int r = 0;

	pthread_mutex_lock(&vms->lock);
	if (vms->closed) {
		r = -EBUSY;
	} else {
		vm->next = vms->first;
		vms->first = vm;
	}
	pthread_mutex_unlock(&vms->lock);
	return r;
}

static int admit_named(struct pager_daemon *daemon, const struct gmem_channel_info *peer, struct vm *vm,
		       struct gmem_source **source)
{
	int r = pager_name_of(daemon->request, peer, vm->name);

	if (r < 0)
		return pager_complain(r, "pid %u, uid %u: its name is refused", peer->pid, peer->uid);
	r = pager_open_source(daemon, vm->name, peer->uid, source);
	if (r < 0)
		return r;
	r = enlist(daemon->vms, vm);
	if (r < 0) {
		gmem_source_destroy(*source);
		return r;
	}
	say_served(vm);
	return 0;
}

int pager_admit(void *user, const struct gmem_channel_info *peer, struct gmem_uffd *uffd, struct gmem_source **source,
		struct gmem_pager_add_opts *opts)
{
	struct pager_daemon *daemon = user;
	struct vm *vm;
	int r;

	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return -ENOMEM;
	vm->uffd = uffd;
	vm->pid = peer->pid;
	vm->uid = peer->uid;
	vm->protocol = peer->protocol;
	opts->background = daemon->request->background;
	opts->max_faults = daemon->request->max_faults;
	r = admit_named(daemon, peer, vm, source);
	if (r < 0)
		free(vm);
	return r;
}

static struct vm *take(struct pager_vms *vms, const struct gmem_uffd *uffd)
{
	struct vm **place = &vms->first, *vm;

	pthread_mutex_lock(&vms->lock);
	while (*place && (*place)->uffd != uffd)
		place = &(*place)->next;
	vm = *place;
	while (vm && vm->busy)
		pthread_cond_wait(&vms->idle, &vms->lock);
	for (place = &vms->first; vm && *place != vm;) /* others may have gone meanwhile */
		place = &(*place)->next;
	if (vm)
		*place = vm->next;
	pthread_mutex_unlock(&vms->lock);
	return vm;
}

static const char *reason_of(int reason)
{
	switch (reason) {
	case 0:
		return "it needs no pager any more";
	case -ESRCH:
		return "it has ended";
	case -ENOTCONN:
		return "it has closed its connection";
	case -ESHUTDOWN:
		return "it was let go";
	default:
		return strerror(-reason);
	}
}

void pager_leave(void *user, struct gmem_uffd *uffd, int reason)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };
	struct pager_daemon *daemon = user;
	struct vm *vm = take(daemon->vms, uffd);

	if (!vm)
		return;
	if (gmem_uffd_query(uffd, &info) == 0)
		pager_complain(0, "VM '%s' of pid %u: %s; %llu faults, %llu MiB filled, %llu pages poisoned", vm->name, vm->pid,
			       reason_of(reason), (unsigned long long)info.faults, (unsigned long long)(info.bytes >> 20),
			       (unsigned long long)info.poisoned);
	if (reason == -ESHUTDOWN && info.remaining)
		daemon->vms->unfinished++;
	free(vm);
}

int pager_event(void *user, const struct gmem_pager_event *event)
{
	struct pager_daemon *daemon = user;
	bool waits = daemon->request->waits_on_failure;
	uint64_t count;

	if (event->kind != GMEM_PAGER_SOURCE_FAILED)
		return 0;
	count = atomic_fetch_add(&daemon->vms->failures, 1) + 1;
	if (is_worth_saying(count))
		pager_complain(0, "%llu bytes at %#llx cannot be read (%s): %s; failure %llu",
			       (unsigned long long)event->length, (unsigned long long)event->offset, strerror(-event->error),
			       waits ? "left waiting" : "poisoned", (unsigned long long)count);
	return waits ? GMEM_FAILURE_WAIT : GMEM_FAILURE_POISON;
}

/* --- the end, and looking on -------------------------------------------------------------------------------------------- */

/* pager_leave() waits for the slice, so that neither the endpoint nor vm goes away in it. */
static void finish_one(struct pager_daemon *daemon, struct vm *vm)
{
	struct pager_vms *vms = daemon->vms;
	int r;

	vm->busy = true;
	pthread_mutex_unlock(&vms->lock);
	r = gmem_pager_finish(daemon->pager, vm->uffd, SLICE);
	pthread_mutex_lock(&vms->lock);
	vm->busy = false;
	vm->settled = r != -ETIMEDOUT && r != -EINTR;
	pthread_cond_broadcast(&vms->idle);
}

uint32_t pager_vms_finish_some(struct pager_daemon *daemon)
{
	struct pager_vms *vms = daemon->vms;
	uint32_t count = 0;

	pthread_mutex_lock(&vms->lock);
	for (struct vm *vm = vms->first; vm; vm = vm->next) {
		if (!vm->settled)
			finish_one(daemon, vm);
		count += !vm->settled;
	}
	pthread_mutex_unlock(&vms->lock);
	return count;
}

void pager_vms_each(struct pager_vms *vms, void (*fn)(void *user, const struct pager_vm_report *vm), void *user)
{
	pthread_mutex_lock(&vms->lock);
	for (const struct vm *vm = vms->first; vm; vm = vm->next) {
		struct pager_vm_report report = { .pid = vm->pid, .uid = vm->uid, .protocol = vm->protocol };

		memcpy(report.name, vm->name, sizeof(report.name));
		report.info.size = sizeof(report.info);
		if (gmem_uffd_query(vm->uffd, &report.info) == 0)
			fn(user, &report);
	}
	pthread_mutex_unlock(&vms->lock);
}
