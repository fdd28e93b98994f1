/* SPDX-License-Identifier: MIT */
/* The VM's side. */
#include "station.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channels.h"
#include "faults.h"
#include "gt.h"
#include "handles.h"

struct owner {
	struct vm_spec spec;
	struct gmem_vm *vm;
	struct gmem *mem;
	struct gmem_uffd *uffd;
	struct gmem_guard *guard;
	struct gmem_channel *channel; /* of the last attaching */
	unsigned char *at;
	uint64_t length;
	bool *discarded;
	struct toucher toucher;
	uint64_t touched;
	int last_event;
	int *results; /* of what was forwarded, by the first page; 1 = none yet */
};

/* In a process that is not the test's an assertion has nowhere to go. */
#define MUST(condition)                                                                 \
	do {                                                                            \
		if (!(condition)) {                                                     \
			printf("  a VM, line %d: %s\n", __LINE__, gmem_last_error());   \
			fflush(stdout);                                                 \
			abort();                                                        \
		}                                                                       \
	} while (0)

static int note_event(void *user, enum gmem_guard_event event)
{
	((struct owner *)user)->last_event = (int)event;
	return 0;
}

static void note_done(void *user, uint64_t cookie, int result)
{
	((struct owner *)user)->results[cookie] = result;
}

static uint64_t part_length(const struct owner *o)
{
	return o->length / o->spec.parts;
}

static int64_t add(struct owner *o, uint64_t part)
{
	struct gmem_uffd_register_opts how = { .size = sizeof(how), .strategy = o->spec.strategy };

	return gmem_uffd_register(o->uffd, o->mem, part * part_length(o), part_length(o), &how);
}

struct owner *owner_make(const struct vm_spec *spec)
{
	struct gmem_create_opts need = { .size = sizeof(need),
					 .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY,
					 .backing = spec->backing ? spec->backing : GMEM_BACKING_MEMFD };
	struct gmem_guard_create_opts watch = { .size = sizeof(watch), .event = note_event, .done = note_done };
	struct owner *o = calloc(1, sizeof(*o));
	uint32_t first;
	void *at;

	MUST(o != NULL);
	o->spec = *spec;
	o->spec.parts = spec->parts ? spec->parts : 1;
	o->length = spec->pages * page();
	o->discarded = calloc(spec->pages, sizeof(bool));
	watch.user = o;
	first = o->spec.parts > 1 ? o->spec.parts / 2 : 1;
	o->results = calloc(spec->pages, sizeof(int));
	MUST(o->discarded != NULL && o->results != NULL);
	o->vm = open_vm_for(&need.backing);
	MUST(gmem_create(o->vm, o->length, &o->mem, &need) == 0);
	MUST(gmem_map(o->mem, 0, o->length, &at, NULL) == 0);
	o->at = at;
	MUST(gmem_uffd_create(o->vm, &o->uffd, NULL) == 0);
	for (uint32_t i = 0; i < first; i++)
		MUST(add(o, i) == 0);
	MUST(gmem_guard_create(o->uffd, &o->guard, &watch) == 0);
	return o;
}

void owner_end(struct owner *o)
{
	gmem_guard_destroy(o->guard);
	gmem_channel_close(o->channel);
	gmem_uffd_destroy(o->uffd);
	gmem_destroy(o->mem);
	gmem_vm_close(o->vm);
	free(o->discarded);
	free(o->results);
	free(o);
}

static int64_t attach(struct owner *o, const struct address *address)
{
	struct gmem_channel_open_opts speak = { .size = sizeof(speak),
						.timeout_ns = UINT64_C(60000000000),
						.protocol = o->spec.protocol,
						.identity = o->spec.identity };
	int socket = address_connect(address);
	int64_t r;

	if (socket < 0)
		return socket;
	gmem_channel_close(o->channel);
	o->channel = NULL;
	r = gmem_channel_open(socket, &o->channel, &speak);
	close(socket);
	if (r == 0)
		r = gmem_guard_attach(o->guard, o->channel);
	if (r < 0)
		printf("  attach: %s\n", gmem_last_error());
	return r;
}

static int64_t check(const struct owner *o, uint64_t first, uint64_t count)
{
	for (uint64_t number = first; number < first + count; number++)
		for (uint64_t i = 0; i < page(); i++) {
			uint64_t place = number * page() + i;

			if (o->at[place] != (o->discarded[number] ? 0 : content_at(place)))
				return 1 + (int64_t)number;
		}
	return 0;
}

static int64_t touch_begin_here(struct owner *o, uint64_t number)
{
	o->touched = number;
	touch_begin(&o->toucher, o->at + number * page(), READ);
	return 0;
}

static int64_t touch_end_here(struct owner *o)
{
	return touch_end(&o->toucher) < 0 ? -1 : check(o, o->touched, 1);
}

/* As the end of a VM whose content will never come. */
static int64_t poison(struct owner *o)
{
	return gmem_uffd_resolve(o->uffd, o->mem, 0, part_length(o), GMEM_RESOLVE_POISON, NULL, NULL);
}

static int64_t discard(struct owner *o, uint64_t first, uint64_t count)
{
	int64_t r = gmem_discard(o->mem, first * page(), count * page(), NULL, NULL);

	for (uint64_t i = 0; r == 0 && i < count; i++)
		o->discarded[first + i] = true;
	return r;
}

static int64_t await_event(struct owner *o)
{
	struct pollfd fd = { .fd = gmem_guard_get_fd(o->guard), .events = POLLIN };
	int r;

	o->last_event = 0;
	do {
		MUST(poll(&fd, 1, -1) == 1);
		r = gmem_guard_run(o->guard, 0);
	} while (r == 0);
	return r < 0 ? r : o->last_event;
}

static int64_t forward(struct owner *o, uint64_t first, uint64_t count)
{
	struct gmem_guard_forward_opts how = { .size = sizeof(how), .flags = GMEM_FORWARD_WRITE, .vcpu = 3 };

	o->results[first] = 1;
	return gmem_guard_forward(o->guard, o->mem, first * page() + 1, count * page() - 1, first, &how);
}

static int64_t forwarded(struct owner *o, uint64_t first)
{
	while (o->results[first] == 1)
		MUST(gmem_guard_run(o->guard, GMEM_FOREVER) > 0);
	return o->results[first];
}

static int64_t guard_state(const struct owner *o)
{
	struct gmem_guard_info info = { .size = sizeof(info) };
	int r = gmem_guard_query(o->guard, &info);

	return r < 0 ? r : (int64_t)info.state;
}

static int64_t pager_counted(const struct owner *o, uint64_t what)
{
	struct gmem_guard_info info = { .size = sizeof(info) };
	int r = gmem_guard_query(o->guard, &info);
	const uint64_t said[] = {
		[COUNTED_ANSWERS] = info.pager_answers,	    [COUNTED_FAULTS] = info.pager_faults,
		[COUNTED_BYTES] = info.pager_bytes,	    [COUNTED_ZEROED] = info.pager_zeroed,
		[COUNTED_POISONED] = info.pager_poisoned,   [COUNTED_REMAINING] = info.pager_remaining,
		[COUNTED_ERRORS] = info.pager_errors,
	};

	return r < 0 ? r : (int64_t)said[what];
}

static int64_t let_go(struct owner *o)
{
	gmem_guard_destroy(o->guard);
	o->guard = NULL;
	return 0;
}

/* A process whose handshake is over, and that does not need its connection: as Firecracker's was before 1.12. */
static int64_t hang_up(struct owner *o)
{
	int64_t r = let_go(o);

	gmem_channel_close(o->channel);
	o->channel = NULL;
	return r;
}

int64_t owner_obey(struct owner *o, const struct address *address, enum vm_order order, uint64_t a, uint64_t b)
{
	switch (order) {
	case VM_ATTACH:
		return attach(o, address);
	case VM_CHECK:
		return check(o, a, b);
	case VM_TOUCH:
		return touch_begin_here(o, a);
	case VM_TOUCHED:
		return touch_end_here(o);
	case VM_IS_BLOCKED:
		return !atomic_load(&o->toucher.done);
	case VM_RUN:
		return await_event(o);
	case VM_STATE:
		return guard_state(o);
	case VM_DISCARD:
		return discard(o, a, b);
	case VM_ADD:
		return add(o, a);
	case VM_REMOVE:
		return gmem_uffd_unregister(o->uffd, o->mem, a * part_length(o), part_length(o));
	case VM_POISON:
		return poison(o);
	case VM_LET_GO:
		return let_go(o);
	case VM_HANG_UP:
		return hang_up(o);
	case VM_ASK:
		return gmem_guard_ask(o->guard);
	case VM_FORWARD:
		return forward(o, a, b);
	case VM_FORWARDED:
		return forwarded(o, a);
	case VM_PAGE:
		return state_of(o->mem, a);
	case VM_COUNTED:
		return pager_counted(o, a);
	default:
		return -EINVAL;
	}
}

/* --- as a process ------------------------------------------------------------------------------------------------------- */

struct message {
	uint64_t order, a, b;
};

static void live(const struct address *address, const struct vm_spec *spec, int line)
{
	struct owner *o;
	struct message m;

	alarm(100);
	close(address->listener);
	o = owner_make(spec);
	while (read(line, &m, sizeof(m)) == sizeof(m) && m.order != VM_END) {
		int64_t answer = owner_obey(o, address, (enum vm_order)m.order, m.a, m.b);

		MUST(write(line, &answer, sizeof(answer)) == sizeof(answer));
	}
	_exit(0);
}

struct vm vm_make(const struct address *address, const struct vm_spec *spec)
{
	struct vm vm;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	vm.pid = fork();
	assert_true(vm.pid >= 0);
	if (vm.pid == 0) {
		close(ends[0]);
		live(address, spec, ends[1]);
	}
	close(ends[1]);
	vm.line = ends[0];
	return vm;
}

void vm_tell(struct vm *vm, enum vm_order order, uint64_t a, uint64_t b)
{
	struct message m = { order, a, b };

	assert_int_equal(send(vm->line, &m, sizeof(m), MSG_NOSIGNAL), sizeof(m));
}

int64_t vm_answer(struct vm *vm)
{
	int64_t answer;

	assert_int_equal(read(vm->line, &answer, sizeof(answer)), sizeof(answer));
	return answer;
}

int64_t vm_do(struct vm *vm, enum vm_order order, uint64_t a, uint64_t b)
{
	vm_tell(vm, order, a, b);
	return vm_answer(vm);
}

static int reap(struct vm *vm)
{
	int status;

	assert_int_equal(waitpid(vm->pid, &status, 0), vm->pid);
	return status;
}

void vm_kill(struct vm *vm)
{
	assert_int_equal(kill(vm->pid, SIGKILL), 0);
	close(vm->line);
	(void)reap(vm);
}

void vm_end(struct vm *vm)
{
	int status;

	vm_tell(vm, VM_END, 0, 0);
	close(vm->line);
	status = reap(vm);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}
