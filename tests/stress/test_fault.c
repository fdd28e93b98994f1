/* SPDX-License-Identifier: MIT */
/* Pages touched, resolved, given up in every way and populated at the same time: each holds its content as long as it was never
 * given up, zeros after that, or what was written last. Nobody hangs. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../live/content.h"
#include "gt.h"
#include "stress.h"

#define FREE 96u   /* pages that all threads do anything to */
#define STRICT 96u /* ... that one thread at a time does something to: what they hold is known for sure */
#define OTHER 32u  /* that are watched now and then */
#define PAGES (FREE + STRICT + OTHER)
#define TOUCHERS 4u
#define RESOLVERS 2u
#define TOUCHES (STRESS_WATCHED ? 500 : 3000)
#define WRITTEN UINT64_C(0xabcd000000000000)

struct field {
	struct gmem_vm *vm;
	struct gmem *mem;
	struct gmem_uffd *uffd;
	unsigned char *at, *image;
	uint64_t page, length, seed;
	atomic_bool begun[FREE], done[FREE]; /* was it given up, once? */
	pthread_mutex_t locks[STRICT];
	uint64_t holds[STRICT]; /* the first word */
	atomic_uint touchers;
	enum gmem_strategy strategy;
	atomic_bool over; /* nobody needs to be served any more */
};

static uint64_t image_word(const struct field *f, uint64_t page)
{
	uint64_t word;

	memcpy(&word, f->image + page * f->page, sizeof(word));
	return word;
}

static _Atomic uint64_t *word_at(const struct field *f, uint64_t page, uint64_t offset)
{
	return (_Atomic uint64_t *)(void *)(f->at + page * f->page + offset);
}

static struct field field;

static void make(struct field *f, enum gmem_strategy strategy)
{
	struct gmem_create_opts need = { .size = sizeof(need), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY, .backing = GMEM_BACKING_MEMFD };
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .strategy = strategy };
	int vm_fd = gt_over_guest_memfd() ? gt_make_vm() : -1;
	void *address;

	if (vm_fd >= 0)
		need.backing = GMEM_BACKING_GUEST_MEMFD;
	*f = (struct field){ .page = (uint64_t)sysconf(_SC_PAGESIZE), .seed = content_seed(), .strategy = strategy };
	f->length = PAGES * f->page;
	assert_int_equal(gmem_vm_open(vm_fd, &f->vm, NULL), 0);
	if (vm_fd >= 0)
		close(vm_fd);
	assert_int_equal(gmem_create(f->vm, f->length, &f->mem, &need), 0);
	assert_int_equal(gmem_map(f->mem, 0, f->length, &address, NULL), 0);
	f->at = address;
	f->image = mmap(NULL, f->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (uint64_t i = 0; i < f->length; i += sizeof(uint64_t)) {
		uint64_t word = content_random(&f->seed) & 0xffffffffffff;

		word = i / f->page % 7 == 3 ? 0 : word | 1;
		memcpy(f->image + i, &word, sizeof(word));
	}
	for (uint64_t i = 0; i < STRICT; i++) {
		f->holds[i] = image_word(f, FREE + i);
		pthread_mutex_init(&f->locks[i], NULL);
	}
	assert_int_equal(gmem_uffd_create(f->vm, &f->uffd, NULL), 0);
	/* in several regions, so that calls and events go over their borders */
	assert_int_equal(gmem_uffd_register(f->uffd, f->mem, 0, 40 * f->page, &opts), 0);
	assert_int_equal(gmem_uffd_register(f->uffd, f->mem, 40 * f->page, 100 * f->page, &opts), 0);
	assert_int_equal(gmem_uffd_register(f->uffd, f->mem, 140 * f->page, (FREE + STRICT - 140) * f->page, &opts), 0);
}

/* --- touching --------------------------------------------------------------------------------------------------------- */

/* Loads before and after tell what was possible. */
static void touch_free(struct crew *crew, struct field *f, uint64_t page, uint64_t *seed)
{
	bool gone = atomic_load(&f->done[page]);
	uint64_t offset = content_random(seed) % (f->page / 8) * 8, wanted, word;

	memcpy(&wanted, f->image + page * f->page + offset, sizeof(wanted));
	word = atomic_load(word_at(f, page, offset));
	if (word == 0 ? wanted != 0 && !atomic_load(&f->begun[page]) : word != wanted && word >> 48 != WRITTEN >> 48)
		crew_failed(crew, "page %u has 0x%llx at 0x%llx", (unsigned int)page, (unsigned long long)word, (unsigned long long)offset);
	if (gone && word == wanted && wanted != 0)
		crew_failed(crew, "page %u has its old content, after it was given up", (unsigned int)page);
	if (content_random(seed) % 8 == 0)
		atomic_store(word_at(f, page, offset), WRITTEN | page);
}

static void touch_strict(struct crew *crew, struct field *f, uint64_t number, uint64_t *seed)
{
	uint64_t page = FREE + number, word;

	pthread_mutex_lock(&f->locks[number]);
	word = atomic_load(word_at(f, page, 0));
	if (word != f->holds[number])
		crew_failed(crew, "page %u holds 0x%llx, not 0x%llx", (unsigned int)page, (unsigned long long)word,
			    (unsigned long long)f->holds[number]);
	if (content_random(seed) % 2) {
		f->holds[number] = WRITTEN | (content_random(seed) & 0xffffffff);
		atomic_store(word_at(f, page, 0), f->holds[number]);
	}
	pthread_mutex_unlock(&f->locks[number]);
}

static void touch_pages(struct crew *crew, unsigned int number)
{
	struct field *f = crew->arg;
	uint64_t seed = f->seed * (2 * number + 3) + 1;

	for (int i = 0; i < TOUCHES && crew_goes_on(crew); i++) {
		if (content_random(&seed) % 2)
			touch_free(crew, f, content_random(&seed) % FREE, &seed);
		else
			touch_strict(crew, f, content_random(&seed) % STRICT, &seed);
	}
	if (atomic_fetch_sub(&f->touchers, 1) == 1)
		atomic_store(&crew->stop, true);
}

/* --- giving up -------------------------------------------------------------------------------------------------------- */

static int give_up(struct field *f, uint64_t page, uint64_t count, uint64_t dice)
{
	unsigned char *at = f->at + page * f->page;
	int r;

	if (dice % 3 == 2 && f->strategy == GMEM_STRATEGY_COPY) /* MADV_DONTNEED would leave what the file has */
		dice = 1;
	if (dice % 3 == 0)
		return gmem_discard(f->mem, page * f->page, count * f->page, NULL, NULL);
	r = madvise(at, count * f->page, dice % 3 == 1 ? MADV_REMOVE : MADV_DONTNEED) ? -errno : 0;
	return r;
}

static void give_up_free(struct crew *crew, struct field *f, uint64_t *seed)
{
	uint64_t page = content_random(seed) % FREE, count = 1 + content_random(seed) % 6;
	int r;

	count = count < FREE - page ? count : FREE - page;
	for (uint64_t i = page; i < page + count; i++)
		atomic_store(&f->begun[i], true);
	r = give_up(f, page, count, content_random(seed));
	if (r)
		crew_failed(crew, "giving up %u pages: %d", (unsigned int)count, r);
	for (uint64_t i = page; i < page + count; i++)
		atomic_store(&f->done[i], true);
}

/* One that is given up, or filled again by gmem_populate(). */
static void change_strict(struct crew *crew, struct field *f, uint64_t *seed)
{
	uint64_t number = content_random(seed) % STRICT, page = FREE + number;
	bool fill = content_random(seed) % 3 == 0;
	int r;

	pthread_mutex_lock(&f->locks[number]);
	if (fill)
		r = gmem_populate(f->mem, page * f->page, f->page, f->image + page * f->page, NULL, NULL);
	else
		r = give_up(f, page, 1, content_random(seed));
	if (r)
		crew_failed(crew, "%s page %u: %d", fill ? "filling" : "giving up", (unsigned int)page, r);
	f->holds[number] = fill ? image_word(f, page) : 0;
	pthread_mutex_unlock(&f->locks[number]);
}

static void give_pages_up(struct crew *crew, unsigned int number)
{
	struct field *f = crew->arg;
	uint64_t seed = f->seed * (2 * number + 3) + 1;

	/* not for ever: while madvise() is under way no page can be made */
	for (int i = 0; i < 300 && crew_goes_on(crew); i++) {
		if (content_random(&seed) % 4 == 0)
			give_up_free(crew, f, &seed);
		else
			change_strict(crew, f, &seed);
	}
}

/* --- serving ---------------------------------------------------------------------------------------------------------- */

/* Reads what there is, and answers it; what cannot be answered now is for later. Returns how much that is. */
static unsigned int serve(struct crew *crew, struct field *f, struct gmem_fault *open, unsigned int count, unsigned int room)
{
	unsigned int left = 0;
	int r = gmem_uffd_read(f->uffd, open + count, room - count);

	if (r < 0)
		crew_failed(crew, "reading: %s", gmem_last_error());
	count += r > 0 ? (unsigned int)r : 0;
	for (unsigned int i = 0; i < count; i++) {
		if (open[i].kind != GMEM_FAULT_PAGE)
			continue;
		r = gmem_uffd_resolve(f->uffd, f->mem, open[i].offset, open[i].length, GMEM_RESOLVE_DATA, f->image + open[i].offset, NULL);
		if (r == -EAGAIN)
			open[left++] = open[i];
		else if (r)
			crew_failed(crew, "resolving: %s", gmem_last_error());
	}
	return left;
}

static void serve_faults(struct crew *crew, unsigned int number)
{
	struct field *f = crew->arg;
	uint64_t seed = f->seed * (2 * number + 3) + 1;
	struct pollfd fd = { .fd = gmem_uffd_get_fd(f->uffd), .events = POLLIN };
	struct gmem_fault open[64];
	unsigned int left = 0;

	/* some ask for few events at a time, so that ranges are told in parts */
	while (!atomic_load(&f->over)) {
		if (!left)
			poll(&fd, 1, 5);
		left = serve(crew, f, open, left, number % 2 ? left + 1 : 64);
		if (content_random(&seed) % 4 == 0) { /* ahead of those who come */
			uint64_t page = content_random(&seed) % (FREE + STRICT - 8), count = 1 + content_random(&seed) % 8;
			int r = gmem_uffd_resolve(f->uffd, f->mem, page * f->page, count * f->page, GMEM_RESOLVE_DATA,
						  f->image + page * f->page, NULL);

			if (r && r != -EAGAIN)
				crew_failed(crew, "resolving ahead: %s", gmem_last_error());
		}
	}
}

static void watch_now_and_then(struct crew *crew, unsigned int number)
{
	struct field *f = crew->arg;
	uint64_t seed = f->seed * (2 * number + 3) + 1, first = FREE + STRICT;

	while (crew_goes_on(crew)) {
		uint64_t page = first + content_random(&seed) % (OTHER - 8), count = 1 + content_random(&seed) % 8;
		uint64_t offset = page * f->page, length = count * f->page;
		int r = gmem_uffd_register(f->uffd, f->mem, offset, length, NULL);

		do
			r = r ? r : gmem_uffd_resolve(f->uffd, f->mem, offset, length, GMEM_RESOLVE_DATA, f->image + offset, NULL);
		while (r == -EAGAIN && !(r = 0));
		if (r == 0 && memcmp(f->at + offset, f->image + offset, length) != 0)
			crew_failed(crew, "page %u is not as it was filled", (unsigned int)page);
		r = r ? r : gmem_uffd_unregister(f->uffd, f->mem, offset, length);
		if (r)
			crew_failed(crew, "watching for a moment: %s", gmem_last_error());
	}
}

/* --- all of them ------------------------------------------------------------------------------------------------------ */

struct last {
	pthread_t thread;
	int pipe, result;
	unsigned char *at;
};

static void *write_it(void *arg)
{
	struct last *last = arg;

	last->result = write(last->pipe, last->at, 1) < 0 ? -errno : 0;
	return NULL;
}

/* Threads that wait when the memory ends: they hear of that, and read nothing. */
static void end_with_waiters(struct field *f)
{
	struct gmem_discard_opts refetch = { .size = sizeof(refetch), .flags = GMEM_DISCARD_REFETCH };
	struct last last[4];
	int ends[4][2];

	assert_int_equal(gmem_discard(f->mem, 0, FREE * f->page, NULL, &refetch), 0);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(pipe2(ends[i], O_CLOEXEC), 0); /* one each: a pipe is locked while it is written */
		last[i] = (struct last){ .pipe = ends[i][1], .at = f->at + i * 20 * f->page };
		assert_int_equal(pthread_create(&last[i].thread, NULL, write_it, &last[i]), 0);
	}
	for (unsigned int got = 0; got < 4;) {
		struct gmem_fault fault;
		int r = gmem_uffd_read(f->uffd, &fault, 1);

		assert_true(r >= 0);
		got += r == 1 && fault.kind == GMEM_FAULT_PAGE;
	}
	gmem_uffd_destroy(f->uffd);
	gmem_destroy(f->mem);
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(last[i].thread, NULL);
		assert_int_equal(last[i].result, -EFAULT);
		close(ends[i][0]);
		close(ends[i][1]);
	}
	for (uint64_t i = 0; i < STRICT; i++)
		pthread_mutex_destroy(&f->locks[i]);
	munmap(f->image, f->length);
	gmem_vm_close(f->vm);
}

static void round_of(enum gmem_strategy strategy)
{
	struct field *f = &field;
	struct crew crew, servers;

	make(f, strategy);
	atomic_store(&f->touchers, TOUCHERS);
	crew_begin(&crew, f);
	crew_begin(&servers, f);
	for (unsigned int i = 0; i < RESOLVERS; i++)
		crew_start(&servers, serve_faults, 10 + i);
	for (unsigned int i = 0; i < TOUCHERS; i++)
		crew_start(&crew, touch_pages, i);
	crew_start(&crew, give_pages_up, 20);
	crew_start(&crew, give_pages_up, 21);
	crew_start(&crew, watch_now_and_then, 30);
	crew_wait(&crew);
	atomic_store(&f->over, true);
	crew_wait(&servers);
	crew_end(&crew);
	crew_end(&servers);
	end_with_waiters(f);
}

static void rounds_of(enum gmem_strategy strategy)
{
	struct stress_time time = stress_begin();

	do
		round_of(strategy);
	while (stress_goes_on(&time));
}

static void all_at_once_by_filling(void **state)
{
	(void)state;
	rounds_of(GMEM_STRATEGY_FILL);
}

static void all_at_once_by_copying(void **state)
{
	(void)state;
	rounds_of(GMEM_STRATEGY_COPY);
}

static const struct gt_test tests[] = {
	GT(all_at_once_by_filling, GT_NEEDS_UFFD_MINOR),
	GT(all_at_once_by_copying, GT_NEEDS_UFFD_MINOR),
};

GT_MAIN("stress fault", tests)
