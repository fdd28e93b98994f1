/* SPDX-License-Identifier: MIT */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "gt.h"
#include "guest_int.h"

#define PATIENCE 60 /* seconds; an emulated machine is slow */

uint64_t host_sum(uint64_t h, const void *data, size_t length)
{
	const unsigned char *at = data;

	for (size_t i = 0; i < length; i += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, at + i, sizeof(word));
		h = (h << 5 | h >> 59) ^ word;
	}
	return h;
}

int guest_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;

	assert_true(kvm >= 0);
	vm = ioctl(kvm, KVM_CREATE_VM, 0ul);
	assert_true(vm >= 0);
	close(kvm);
	return vm;
}

int guest_vcpu(const struct guest *guest)
{
	return guest->vcpu;
}

/* vCPUs that run now, each in a thread: two at most. */
static struct {
	struct kvm_run *run;
	pthread_t thread;
	atomic_bool used;
} watched[2];
static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static int watched_count;

static void stop_guests(int signal)
{
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++) {
		if (!atomic_load(&watched[i].used))
			continue;
		((volatile struct kvm_run *)watched[i].run)->immediate_exit = 1;
		if (!pthread_equal(watched[i].thread, pthread_self()))
			pthread_kill(watched[i].thread, signal);
	}
}

/* Again and again, so that no moment at which the signal comes can be the wrong one. */
static void set_timer(time_t seconds)
{
	struct itimerval timer = { .it_value.tv_sec = seconds, .it_interval.tv_sec = seconds ? 1 : 0 };
	struct sigaction action = { .sa_handler = seconds ? stop_guests : SIG_IGN };

	if (seconds)
		sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	if (!seconds)
		sigaction(SIGALRM, &action, NULL);
}

/* The number of its place. */
static size_t watch(struct kvm_run *run)
{
	size_t i = 0;

	pthread_mutex_lock(&watch_lock);
	while (atomic_load(&watched[i].used))
		i++;
	watched[i].run = run;
	watched[i].thread = pthread_self();
	atomic_store(&watched[i].used, true);
	watched_count++;
	set_timer(PATIENCE);
	pthread_mutex_unlock(&watch_lock);
	return i;
}

static void unwatch(size_t i)
{
	pthread_mutex_lock(&watch_lock);
	atomic_store(&watched[i].used, false);
	if (--watched_count == 0)
		set_timer(0);
	pthread_mutex_unlock(&watch_lock);
}

static void make_home(struct guest *guest)
{
	struct kvm_userspace_memory_region region = { .slot = GUEST_SLOT,
						      .guest_phys_addr = GUEST_HOME,
						      .memory_size = HOME_SIZE };

	guest->home = mmap(NULL, HOME_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(guest->home != MAP_FAILED);
	guest_write_home(guest->home);
	region.userspace_addr = (uintptr_t)guest->home;
	assert_int_equal(ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &region), 0);
}

static void make_vcpu(struct guest *guest, unsigned long number)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	close(kvm);
	assert_true(size >= (int)sizeof(struct kvm_run));
	guest->vcpu = ioctl(guest->vm, KVM_CREATE_VCPU, number);
	assert_true(guest->vcpu >= 0);
	guest->run_size = (size_t)size;
	guest->run = mmap(NULL, guest->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, guest->vcpu, 0);
	assert_true(guest->run != MAP_FAILED);
}

struct guest *guest_start(int vm_fd)
{
	struct guest *guest;

	if (!guest_has_program)
		gt_skip("no guest program is written for this architecture");
	guest = calloc(1, sizeof(*guest));
	assert_non_null(guest);
	guest->vm = vm_fd;
	make_home(guest);
	make_vcpu(guest, 0);
	guest_set_mode(guest);
	return guest;
}

struct guest *guest_join(const struct guest *first)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	assert_non_null(guest);
	guest->vm = first->vm;
	make_vcpu(guest, 1);
	guest_set_mode(guest);
	return guest;
}

/* One stretch until something comes out. An error may leave the last reason behind: a sentinel tells. */
uint32_t guest_run_once(struct guest *guest)
{
	int r;

	guest->run->exit_reason = UINT32_MAX;
	r = ioctl(guest->vcpu, KVM_RUN, 0);
	if (r < 0 && errno == EINTR)
		fail_msg("the guest did not come to an end within %d s", PATIENCE);
	if (r < 0)
		fail_msg("KVM_RUN: %s, exit reason %d", strerror(errno), (int)guest->run->exit_reason);
	return guest->run->exit_reason;
}

/* An exit is only over when KVM was entered again: lets it finish the instruction, and no more. */
static void finish_exit(struct guest *guest)
{
	guest->run->immediate_exit = 1;
	assert_true(ioctl(guest->vcpu, KVM_RUN, 0) < 0 && errno == EINTR);
	guest->run->immediate_exit = 0;
}

static bool run_code(struct guest *guest, enum job job, uint64_t value, const struct words *words, uint64_t *result)
{
	size_t place;
	bool memory;

	guest_set_regs(guest, job, value, words);
	place = watch(guest->run);
	memory = guest_run_job(guest, job, words->gpa, result);
	unwatch(place);
	finish_exit(guest);
	return memory;
}

void guest_end(struct guest *guest)
{
	munmap(guest->run, guest->run_size);
	close(guest->vcpu);
	if (guest->home)
		munmap(guest->home, HOME_SIZE);
	free(guest);
}

static uint64_t sum_words(struct guest *guest, uint64_t h, const struct words *words)
{
	uint64_t result;

	if (!run_code(guest, SUM, h, words, &result))
		fail_msg("the guest found no memory somewhere in 0x%llx + 0x%llx", (unsigned long long)words->gpa,
			 (unsigned long long)(words->count * words->step));
	return result;
}

uint64_t guest_sum(struct guest *guest, uint64_t h, uint64_t gpa, uint64_t length)
{
	assert_true(length % sizeof(uint64_t) == 0);
	return sum_words(guest, h, &(struct words){ gpa, length / sizeof(uint64_t), sizeof(uint64_t) });
}

void guest_touch(struct guest *guest, uint64_t gpa, uint64_t length, uint64_t step)
{
	(void)sum_words(guest, 0, &(struct words){ gpa, length / step, step });
}

bool guest_load(struct guest *guest, uint64_t gpa, uint64_t *word)
{
	return run_code(guest, LOAD, 0, &(struct words){ .gpa = gpa, .count = 1 }, word);
}

bool guest_store(struct guest *guest, uint64_t gpa, uint64_t word)
{
	uint64_t unused;

	return run_code(guest, STORE, word, &(struct words){ .gpa = gpa, .count = 1 }, &unused);
}
