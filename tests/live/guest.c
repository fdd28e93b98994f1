/* SPDX-License-Identifier: MIT */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "gt.h"

#define HOME_SIZE ((size_t)64 << 10)
#define PATIENCE 60 /* seconds; an emulated machine is slow */

#define PORT_LOW 0x10
#define PORT_HIGH 0x11
#define PORT_STORED 0x12

/* Pages of the home. */
#define CODE 0
#define PML4 1
#define PDPT 2
#define DIRECTORY 3 /* and the three after it: 4 GiB in all */
#define TASK 7

#define TASK_BITMAP 102 /* where a task state segment says at which byte its map of ports begins */

struct guest {
	int vm, vcpu;
	struct kvm_run *run;
	size_t run_size;
	unsigned char *home;
};

enum job { SUM, LOAD, STORE };

/* What the guest's program works on: so many words, so many bytes from one to the next. */
struct words {
	uint64_t gpa, count, step;
};

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

#ifdef __x86_64__

/* rsi = where, rcx = how many words, rdx = bytes from one to the next, rax = h or the word to store. */
__asm__(".pushsection .rodata\n"
	".globl guest_code, guest_code_load, guest_code_store, guest_code_end\n"
	"guest_code:\n"
	"1:	rol $5, %rax\n"
	"	xor (%rsi), %rax\n"
	"	add %rdx, %rsi\n"
	"	dec %rcx\n"
	"	jnz 1b\n"
	"	jmp 2f\n"
	"guest_code_load:\n"
	"	mov (%rsi), %rax\n"
	"2:	out %eax, $0x10\n"
	"	shr $32, %rax\n"
	"	out %eax, $0x11\n"
	"	ud2\n"
	"guest_code_store:\n"
	"	mov %rax, (%rsi)\n"
	"	out %eax, $0x12\n"
	"	ud2\n"
	"guest_code_end:\n"
	".popsection\n");
extern const unsigned char guest_code[], guest_code_load[], guest_code_store[], guest_code_end[];

static volatile struct kvm_run *watched;

static void stop_guest(int signal)
{
	(void)signal;
	if (watched)
		watched->immediate_exit = 1;
}

/* Again and again, so that no moment at which the signal comes can be the wrong one. */
static void watch(struct kvm_run *run, time_t seconds)
{
	struct itimerval timer = { .it_value.tv_sec = seconds, .it_interval.tv_sec = seconds ? 1 : 0 };
	struct sigaction action = { .sa_handler = seconds ? stop_guest : SIG_DFL };

	watched = run;
	if (seconds)
		sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	if (!seconds)
		sigaction(SIGALRM, &action, NULL);
}

static void write_tables(unsigned char *home)
{
	uint64_t *pml4 = (uint64_t *)(void *)(home + PML4 * 4096), *pdpt = (uint64_t *)(void *)(home + PDPT * 4096);
	uint64_t *directory = (uint64_t *)(void *)(home + DIRECTORY * 4096);

	pml4[0] = (GUEST_HOME + PDPT * 4096) | 7; /* present, writable, user */
	for (uint64_t i = 0; i < 4; i++)
		pdpt[i] = (GUEST_HOME + (DIRECTORY + i) * 4096) | 7;
	for (uint64_t i = 0; i < 2048; i++)
		directory[i] = i << 21 | 0x87; /* ... and 2 MiB large */
}

/* A map of zeros: all ports allowed. IOPL says so too, but a KVM without hardware loses that after some exits, and then
 * looks for a task state segment, which is at guest address 0 unless told otherwise: in the memory under test. */
static void write_task(unsigned char *home)
{
	home[TASK * 4096 + TASK_BITMAP] = TASK_BITMAP + 2;
}

static void make_home(struct guest *guest)
{
	struct kvm_userspace_memory_region region = { .slot = GUEST_SLOT,
						      .guest_phys_addr = GUEST_HOME,
						      .memory_size = HOME_SIZE };

	guest->home = mmap(NULL, HOME_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(guest->home != MAP_FAILED);
	memcpy(guest->home + CODE * 4096, guest_code, (size_t)(guest_code_end - guest_code));
	write_tables(guest->home);
	write_task(guest->home);
	region.userspace_addr = (uintptr_t)guest->home;
	assert_int_equal(ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &region), 0);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .dpl = 3, .s = 1, .g = 1
	};
}

static void set_mode(int vcpu)
{
	struct kvm_sregs sregs;

	assert_int_equal(ioctl(vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs = segment(0x1b, 11);
	sregs.cs.l = 1;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(0x23, 3);
	sregs.ss.db = 1;
	sregs.tr = segment(0x28, 11);
	sregs.tr.base = GUEST_HOME + TASK * 4096;
	sregs.tr.limit = 4095;
	sregs.tr.s = sregs.tr.dpl = sregs.tr.g = 0;
	sregs.cr3 = GUEST_HOME + PML4 * 4096;
	sregs.cr4 = 1 << 5;                    /* PAE */
	sregs.cr0 = 0x80000000u | 1u << 4 | 1; /* paging, protection */
	sregs.efer = 1 << 10 | 1 << 8;         /* long mode, active and enabled */
	assert_int_equal(ioctl(vcpu, KVM_SET_SREGS, &sregs), 0);
}

static void set_cpuid(int vcpu)
{
	enum { ROOM = 200 };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ROOM * sizeof(cpuid->entries[0]));
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	assert_true(cpuid && kvm >= 0);
	cpuid->nent = ROOM;
	assert_int_equal(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), 0);
	assert_int_equal(ioctl(vcpu, KVM_SET_CPUID2, cpuid), 0);
	close(kvm);
	free(cpuid);
}

static void make_vcpu(struct guest *guest)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	close(kvm);
	assert_true(size >= (int)sizeof(struct kvm_run));
	guest->vcpu = ioctl(guest->vm, KVM_CREATE_VCPU, 0ul);
	assert_true(guest->vcpu >= 0);
	guest->run_size = (size_t)size;
	guest->run = mmap(NULL, guest->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, guest->vcpu, 0);
	assert_true(guest->run != MAP_FAILED);
}

struct guest *guest_start(int vm_fd)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	assert_non_null(guest);
	guest->vm = vm_fd;
	make_home(guest);
	make_vcpu(guest);
	set_cpuid(guest->vcpu);
	set_mode(guest->vcpu);
	return guest;
}

/* One stretch until something comes out. An error may leave the last reason behind: a sentinel tells. */
static uint32_t run_once(struct guest *guest)
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

static uint32_t reported(const struct kvm_run *run)
{
	uint32_t word;

	memcpy(&word, (const unsigned char *)run + run->io.data_offset, sizeof(word));
	return word;
}

/* Until `port` is written to. False: an access to memory came out instead, which must be the one to `gpa`. */
static bool run_until(struct guest *guest, uint16_t port, uint64_t gpa, uint32_t *word)
{
	const struct kvm_run *run = guest->run;

	switch (run_once(guest)) {
	case KVM_EXIT_IO:
		assert_int_equal(run->io.direction, KVM_EXIT_IO_OUT);
		assert_int_equal(run->io.port, port);
		*word = reported(run);
		return true;
	case KVM_EXIT_MMIO:
		assert_int_equal(run->mmio.phys_addr, gpa);
		assert_int_equal(run->mmio.is_write, port == PORT_STORED);
		return false;
	default:
		fail_msg("the guest ended with exit reason %u, suberror %u", run->exit_reason, run->internal.suberror);
		return false;
	}
}

static void set_regs(struct guest *guest, const unsigned char *code, uint64_t rax, const struct words *words)
{
	struct kvm_regs regs = { .rax = rax, .rsi = words->gpa, .rcx = words->count, .rdx = words->step };

	regs.rflags = 3u << 12 | 2; /* IOPL 3 */
	regs.rip = GUEST_HOME + CODE * 4096 + (uint64_t)(code - guest_code);
	assert_int_equal(ioctl(guest->vcpu, KVM_SET_REGS, &regs), 0);
}

static bool run_code(struct guest *guest, enum job job, uint64_t rax, const struct words *words, uint64_t *result)
{
	static const unsigned char *const codes[] = {
		[SUM] = guest_code, [LOAD] = guest_code_load, [STORE] = guest_code_store
	};
	uint32_t low = 0, high = 0;
	bool memory;

	set_regs(guest, codes[job], rax, words);
	watch(guest->run, PATIENCE);
	memory = run_until(guest, job == STORE ? PORT_STORED : PORT_LOW, words->gpa, &low);
	if (memory && job != STORE)
		memory = run_until(guest, PORT_HIGH, words->gpa, &high);
	watch(NULL, 0);
	finish_exit(guest);
	*result = (uint64_t)high << 32 | low;
	return memory;
}

#else

struct guest *guest_start(int vm_fd)
{
	(void)vm_fd;
	gt_skip("no guest program is written for this architecture");
}

static bool run_code(struct guest *guest, enum job job, uint64_t rax, const struct words *words, uint64_t *result)
{
	(void)guest, (void)job, (void)rax, (void)words, (void)result;
	return false;
}

#endif

void guest_end(struct guest *guest)
{
	munmap(guest->run, guest->run_size);
	close(guest->vcpu);
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
