/* SPDX-License-Identifier: MIT */
#include "faults.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gt.h"
#include "handles.h"
#include "inject.h"

#define PATIENCE 30000 /* ms: for what comes at once */

typedef unsigned long long ull;

/* --- memory ----------------------------------------------------------------------------------------------------------- */

struct lazy make_lazy(uint32_t backing, uint64_t pages)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct lazy lazy = { .page = backing == GMEM_BACKING_HUGETLB ? UINT64_C(2) << 20 : page() };
	void *address = NULL;

	lazy.length = pages * lazy.page;
	lazy.vm = open_vm_for(&backing);
	opts.backing = backing;
	if (gmem_create(lazy.vm, lazy.length, &lazy.mem, &opts) || gmem_map(lazy.mem, 0, lazy.length, &address, NULL) ||
	    gmem_uffd_create(lazy.vm, &lazy.uffd, NULL))
		fail_msg("%s", gmem_last_error());
	lazy.at = address;
	return lazy;
}

void watch_pages(struct lazy *lazy, uint64_t first, uint64_t count, enum gmem_strategy strategy)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .strategy = strategy };

	if (gmem_uffd_register(lazy->uffd, lazy->mem, first * lazy->page, count * lazy->page, &opts))
		fail_msg("%s", gmem_last_error());
}

struct lazy make_watched(uint32_t backing, uint64_t pages, enum gmem_strategy strategy)
{
	struct lazy lazy = make_lazy(backing, pages);

	watch_pages(&lazy, 0, pages, strategy);
	return lazy;
}

void end_lazy(struct lazy *lazy)
{
	gmem_uffd_destroy(lazy->uffd);
	gmem_destroy(lazy->mem);
	gmem_vm_close(lazy->vm);
	*lazy = (struct lazy){ .vm = NULL };
}

void want_feature(enum gmem_feature feature, const char *what)
{
	struct gmem_probe probe = { .size = sizeof(probe) };
	struct gmem_vm *vm = open_vm(-1);
	int state = gmem_vm_probe(vm, feature, &probe);

	gmem_vm_close(vm);
	if (state != GMEM_PRESENT)
		gt_skip("no %s in this kernel", what);
}

int resolve_pages(struct lazy *lazy, uint64_t first, uint64_t count, enum gmem_resolve how, const void *data)
{
	uint64_t done = 77;
	int r = gmem_uffd_resolve(lazy->uffd, lazy->mem, first * lazy->page, count * lazy->page, how, data, &done);

	assert_true(done % lazy->page == 0 && done <= count * lazy->page);
	if (r == 0)
		assert_int_equal(done, count * lazy->page);
	return r;
}

void must_resolve(struct lazy *lazy, uint64_t first, uint64_t count, enum gmem_resolve how, const void *data)
{
	if (resolve_pages(lazy, first, count, how, data))
		fail_msg("%s", gmem_last_error());
}

unsigned int state_of(const struct gmem *mem, uint64_t page)
{
	uint64_t word;

	assert_int_equal(pread(gmem_get_fd(mem, GMEM_FD_PAGE_MAP), &word, sizeof(word), (off_t)(page / 32 * sizeof(word))),
			 sizeof(word));
	return (unsigned int)(word >> page % 32 * 2 & 3);
}

void assert_map(const struct gmem *mem, const char *states)
{
	char is[100] = "";

	for (uint64_t page = 0; states[page]; page++)
		is[page] = "EFD?"[state_of(mem, page)];
	assert_string_equal(is, states);
}

struct gmem_uffd_info counted(const struct gmem_uffd *uffd)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_uffd_query(uffd, &info), 0);
	return info;
}

void assert_bytes(const unsigned char *at, int byte, uint64_t length)
{
	for (uint64_t i = 0; i < length; i++)
		if (at[i] != byte)
			fail_msg("byte 0x%llx is 0x%x, not 0x%x", (ull)i, at[i], byte);
}

/* --- events ----------------------------------------------------------------------------------------------------------- */

struct gmem_fault next_event(struct gmem_uffd *uffd)
{
	struct pollfd fd = { .fd = gmem_uffd_get_fd(uffd), .events = POLLIN };
	struct gmem_fault fault;
	int r;

	while ((r = gmem_uffd_read(uffd, &fault, 1)) == 0)
		if (poll(&fd, 1, PATIENCE) != 1)
			fail_msg("no event has come");
	if (r != 1)
		fail_msg("%s", gmem_last_error());
	return fault;
}

struct gmem_fault expect_event(struct gmem_uffd *uffd, enum gmem_fault_kind kind, const struct gmem *mem, uint64_t offset,
			       uint64_t length)
{
	struct gmem_fault fault = next_event(uffd);

	if (fault.kind != kind || fault.mem != mem || fault.offset != offset || fault.length != length)
		fail_msg("an event of kind %u at 0x%llx + 0x%llx, not %u at 0x%llx + 0x%llx", fault.kind, (ull)fault.offset,
			 (ull)fault.length, kind, (ull)offset, (ull)length);
	return fault;
}

void no_event(struct gmem_uffd *uffd)
{
	struct gmem_fault fault;

	assert_int_equal(gmem_uffd_read(uffd, &fault, 1), 0);
}

/* --- threads that touch ----------------------------------------------------------------------------------------------- */

static _Thread_local sigjmp_buf way_out;
static _Thread_local volatile sig_atomic_t prepared;

static void leave(int signal)
{
	if (!prepared) {
		static const char text[] = "a fatal signal outside of touch()\n";
		ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);

		(void)ignored;
		_exit(1);
	}
	prepared = 0;
	siglongjmp(way_out, signal);
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = leave, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static int access_byte(unsigned char *at, int what)
{
	volatile unsigned char *byte = at;
	int signal = sigsetjmp(way_out, 1), result;

	if (signal)
		return -signal;
	prepared = 1;
	if (what >= 0)
		*byte = (unsigned char)what;
	result = what >= 0 ? what : *byte;
	prepared = 0;
	return result;
}

int touch(unsigned char *at)
{
	catch_signals();
	return access_byte(at, READ);
}

static void *run(void *arg)
{
	struct toucher *t = arg;

	inject_exempt_thread(true);
	if (t->what >= ADVISE)
		t->result = madvise(t->at, t->length, t->what - ADVISE) ? -errno : 0;
	else
		t->result = access_byte(t->at, t->what);
	atomic_store(&t->done, true);
	return NULL;
}

static void begin(struct toucher *t)
{
	t->result = 0;
	atomic_store(&t->done, false);
	catch_signals();
	inject_pause();
	assert_int_equal(pthread_create(&t->thread, NULL, run, t), 0);
	inject_resume();
}

void touch_begin(struct toucher *t, unsigned char *at, int what)
{
	t->at = at;
	t->what = what;
	begin(t);
}

void advise_begin(struct toucher *t, unsigned char *at, uint64_t length, int advice)
{
	t->at = at;
	t->length = length;
	t->what = ADVISE + advice;
	begin(t);
}

int touch_end(struct toucher *t)
{
	assert_int_equal(pthread_join(t->thread, NULL), 0);
	return t->result;
}
