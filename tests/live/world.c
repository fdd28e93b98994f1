/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "content.h"
#include "gt.h"

struct gmem *world_memory(struct world *w, uint32_t backing, uint64_t length)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = backing };
	struct gmem *mem;

	if (gmem_create(w->vm, length, &mem, &opts))
		fail_msg("%s", gmem_last_error());
	return mem;
}

struct world world_start_with(uint64_t vm_flags)
{
	struct gmem_vm_open_opts opts = { .size = sizeof(opts), .flags = vm_flags };
	struct world w = { .seed = content_seed() };

	w.vm_fd = guest_vm();
	w.guest = guest_start(w.vm_fd);
	assert_int_equal(gmem_vm_open(w.vm_fd, &w.vm, &opts), 0);
	return w;
}

struct world world_start(void)
{
	return world_start_with(0);
}

struct world world_make(uint32_t backing, uint64_t length)
{
	struct world w = world_start();

	w.length = length;
	w.mem = world_memory(&w, backing, length);
	return w;
}

uint32_t world_backing(uint32_t backing)
{
	return backing == GMEM_BACKING_MEMFD && gt_over_guest_memfd() ? GMEM_BACKING_GUEST_MEMFD : backing;
}

void world_end(struct world *w)
{
	guest_end(w->guest);
	gmem_destroy(w->mem);
	gmem_vm_close(w->vm);
	close(w->vm_fd);
}

struct gmem_info world_query(struct world *w)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(w->mem, &info), 0);
	return info;
}

void world_bind(struct world *w, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t length, uint64_t flags)
{
	struct gmem_bind_opts opts = { .size = sizeof(opts), .flags = flags };

	if (gmem_bind(w->mem, slot, gpa, offset, length, &opts))
		fail_msg("%s", gmem_last_error());
}

unsigned char *world_fill(struct world *w)
{
	unsigned char *content = content_make(w->length, &w->seed);
	uint64_t done;

	if (gmem_populate(w->mem, 0, w->length, content, &done, NULL))
		fail_msg("%s", gmem_last_error());
	assert_int_equal(done, w->length);
	return content;
}

void world_assert_guest_sees(struct world *w, uint64_t gpa, const unsigned char *content, uint64_t length)
{
	assert_int_equal(guest_sum(w->guest, WORLD_SUM, gpa, length), host_sum(WORLD_SUM, content, length));
}

void world_assert_nothing_at(struct world *w, uint64_t gpa)
{
	uint64_t word;

	assert_false(guest_load(w->guest, gpa, &word));
}

struct gmem_vcpu *world_vcpu(struct world *w)
{
	struct gmem_vcpu *vcpu;

	if (gmem_vcpu_open(w->vm, guest_vcpu(w->guest), &vcpu))
		fail_msg("%s", gmem_last_error());
	return vcpu;
}

long world_faults(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_THREAD, &usage), 0);
	return usage.ru_minflt;
}

volatile sig_atomic_t world_ticks;

static void count_tick(int number)
{
	(void)number;
	world_ticks++;
}

void world_tick(long microseconds)
{
	const struct itimerval timer = { { 0, microseconds }, { 0, microseconds } };
	struct sigaction action = { .sa_handler = count_tick };

	if (microseconds)
		world_ticks = 0;
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
}
