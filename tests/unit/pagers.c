/* SPDX-License-Identifier: MIT */
#include "pagers.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "content.h"
#include "gt.h"
#include "handles.h"

#define LONG_MS 60000

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* --- memory that is watched --- */

struct paged bare_memory(uint32_t backing, uint64_t length)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY };
	struct paged paged = { .length = length, .vm = open_vm_for(&backing) };

	if (backing == GMEM_BACKING_HUGETLB)
		opts.need |= GMEM_NEED_HUGE_2M;
	opts.backing = backing;
	if (gmem_create(paged.vm, length, &paged.mem, &opts) < 0)
		fail_msg("%s", gmem_last_error());
	paged.page = info_of(paged.mem).page_size;
	if (gmem_uffd_create(paged.vm, &paged.uffd, NULL) < 0)
		fail_msg("%s", gmem_last_error());
	return paged;
}

void watch_part(struct paged *paged, uint64_t offset, uint64_t length, uint32_t strategy)
{
	struct gmem_uffd_register_opts opts = { .size = sizeof(opts), .strategy = strategy };
	void *at;

	if (gmem_uffd_register(paged->uffd, paged->mem, offset, length, &opts) < 0)
		fail_msg("%s", gmem_last_error());
	assert_int_equal(gmem_map(paged->mem, offset, length, &at, NULL), 0);
	paged->at = (unsigned char *)at - offset;
}

struct paged page_memory(uint32_t backing, uint64_t length, uint32_t strategy)
{
	struct paged paged = bare_memory(backing, length);

	watch_part(&paged, 0, length, strategy);
	return paged;
}

void end_paged(struct paged *paged)
{
	gmem_uffd_destroy(paged->uffd);
	gmem_destroy(paged->mem);
	gmem_vm_close(paged->vm);
}

struct gmem_uffd_info uffd_info(const struct paged *paged)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_uffd_query(paged->uffd, &info), 0);
	return info;
}

static uint64_t resolved(const struct gmem_uffd_info *info)
{
	uint64_t sum = 0;

	for (int i = 0; i < GMEM_LATENCY_BUCKETS; i++)
		sum += info->latency[i];
	return sum;
}

/* Whoever waits goes on a moment before it is counted. */
static bool has_settled(const struct paged *paged)
{
	struct gmem_uffd_info info = uffd_info(paged);

	return info.pending == 0 && resolved(&info) == info.faults;
}

void assert_adds_up(const struct paged *paged)
{
	struct gmem_uffd_info info;

	WAIT_FOR(has_settled(paged));
	info = uffd_info(paged);
	assert_int_equal(info.faults, info.missing + info.minor);
	assert_int_equal(info.bytes, info.filled * paged->page);
	assert_true(info.p50 <= info.p90 && info.p90 <= info.p99 && info.p99 <= info.p999);
}

uint64_t huge_pages_for(uint64_t most)
{
	want_huge_pages(most);
	return most;
}

/* --- pagers --- */

struct paging make_pager(enum way way, const struct gmem_pager_create_opts *opts)
{
	struct gmem_pager_create_opts o = { .size = sizeof(o) };
	struct paging paging = { .way = way, .quit = -1 };

	if (opts)
		o = *opts;
	o.threads = way == THREE_OWN ? 3 : 1;
	if (gmem_pager_create(&paging.pager, &o) < 0)
		fail_msg("%s", gmem_last_error());
	return paging;
}

static void *lend(void *arg)
{
	struct paging *paging = arg;
	int r;

	do
		r = gmem_pager_run(paging->pager, GMEM_FOREVER);
	while (r >= 0 || r == -EINTR);
	atomic_store(&paging->returned, true);
	return (void *)(intptr_t)r;
}

static void *turn(void *arg)
{
	struct paging *paging = arg;
	struct pollfd fds[] = { { .fd = gmem_pager_get_fd(paging->pager), .events = POLLIN },
				{ .fd = paging->quit, .events = POLLIN } };
	int r = 0;

	while (r >= 0 || r == -EINTR) {
		if (poll(fds, 2, LONG_MS) <= 0)
			return (void *)(intptr_t)-ETIMEDOUT;
		if (fds[1].revents)
			return (void *)(intptr_t)-ESHUTDOWN;
		r = gmem_pager_run(paging->pager, 0);
	}
	return (void *)(intptr_t)r;
}

void begin_paging(struct paging *paging)
{
	paging->goes = true;
	atomic_store(&paging->returned, false);
	if (paging->way <= THREE_OWN) {
		assert_int_equal(gmem_pager_start(paging->pager), 0);
		return;
	}
	if (paging->way == POLLED)
		paging->quit = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pthread_create(&paging->thread, NULL, paging->way == POLLED ? turn : lend, paging), 0);
}

uint64_t stop_paging(struct paging *paging)
{
	uint64_t pending = UINT64_MAX;
	void *result = (void *)(intptr_t)-ESHUTDOWN;

	if (paging->goes && paging->way == POLLED) {
		assert_int_equal(eventfd_write(paging->quit, 1), 0);
		pthread_join(paging->thread, &result);
		close(paging->quit);
	}
	assert_int_equal(gmem_pager_stop(paging->pager, &pending), 0);
	while (paging->goes && paging->way == LENT && !atomic_load(&paging->returned)) { /* it may not have come in yet */
		assert_int_equal(gmem_pager_stop(paging->pager, &pending), 0);
		sched_yield();
	}
	if (paging->goes && paging->way == LENT)
		pthread_join(paging->thread, &result);
	assert_int_equal((intptr_t)result, -ESHUTDOWN);
	paging->goes = false;
	return pending;
}

void end_paging(struct paging *paging)
{
	stop_paging(paging);
	gmem_pager_destroy(paging->pager);
}

void serve(struct paging *paging, const struct paged *paged, struct gmem_source *source, uint64_t background, uint64_t ahead)
{
	struct gmem_pager_add_opts opts = { .size = sizeof(opts), .background = background, .ahead = ahead };

	if (gmem_pager_add(paging->pager, paged->uffd, source, &opts) < 0)
		fail_msg("%s", gmem_last_error());
}

struct gmem_pager_info pager_info(const struct paging *paging)
{
	struct gmem_pager_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_pager_query(paging->pager, &info), 0);
	return info;
}

/* --- sources --- */

static int feed(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	int (*answer)(struct feeder *, uint64_t, uint64_t, void *);
	struct feeder *feeder = user;
	int r = FEEDER_GIVES;

	if (offset + length > feeder->length || length == 0 || length > UINT64_C(2) << 20)
		atomic_fetch_add(&feeder->strayed, 1);
	pthread_mutex_lock(&feeder->lock);
	feeder->asked[feeder->count++ % QUESTIONS] = (struct question){ offset, length, flags, now_ns() };
	pthread_cond_broadcast(&feeder->more);
	pthread_mutex_unlock(&feeder->lock);
	answer = feeder->answer;
	if (answer)
		r = answer(feeder, offset, length, buffer);
	if (r != FEEDER_GIVES)
		return r;
	memcpy(buffer, feeder->content + offset, length);
	return GMEM_ANSWER_DATA;
}

static void release(void *user)
{
	atomic_fetch_add(&((struct feeder *)user)->released, 1);
}

void make_feeder(struct feeder *feeder, const unsigned char *content, uint64_t length)
{
	struct gmem_source_ops ops = { .size = sizeof(ops), .read = feed, .release = release };

	memset(feeder, 0, sizeof(*feeder));
	feeder->content = content;
	feeder->length = length;
	assert_int_equal(pthread_mutex_init(&feeder->lock, NULL), 0);
	assert_int_equal(pthread_cond_init(&feeder->more, NULL), 0);
	assert_int_equal(gmem_source_create(&ops, feeder, &feeder->source), 0);
}

void end_feeder(struct feeder *feeder)
{
	assert_int_equal(atomic_load(&feeder->released), 0);
	gmem_source_destroy(feeder->source);
	assert_int_equal(atomic_load(&feeder->released), 1);
	assert_int_equal(atomic_load(&feeder->strayed), 0);
	pthread_mutex_destroy(&feeder->lock);
	pthread_cond_destroy(&feeder->more);
}

unsigned int asked(struct feeder *feeder)
{
	unsigned int count;

	pthread_mutex_lock(&feeder->lock);
	count = feeder->count;
	pthread_mutex_unlock(&feeder->lock);
	return count;
}

struct question question(struct feeder *feeder, unsigned int number)
{
	struct question question;

	pthread_mutex_lock(&feeder->lock);
	assert_true(number < feeder->count);
	question = feeder->asked[number % QUESTIONS];
	pthread_mutex_unlock(&feeder->lock);
	return question;
}

void wait_asked(struct feeder *feeder, unsigned int count)
{
	WAIT_FOR(asked(feeder) >= count);
}

bool next_question(struct feeder *feeder, struct question *question)
{
	struct timespec limit;
	bool there;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 60;
	pthread_mutex_lock(&feeder->lock);
	while (feeder->seen == feeder->count)
		if (pthread_cond_timedwait(&feeder->more, &feeder->lock, &limit) != 0)
			break;
	there = feeder->seen < feeder->count;
	if (there)
		*question = feeder->asked[feeder->seen++ % QUESTIONS];
	pthread_mutex_unlock(&feeder->lock);
	return there;
}

int deliver(struct feeder *feeder, uint64_t offset, uint64_t length)
{
	return gmem_source_deliver(feeder->source, offset, length, feeder->content + offset, GMEM_ANSWER_DATA);
}

int answers_later(struct feeder *feeder, uint64_t offset, uint64_t length, void *buffer)
{
	(void)feeder;
	(void)offset;
	memset(buffer, 0xbd, length);
	return GMEM_ANSWER_LATER;
}

int waits_until_open(struct feeder *feeder, uint64_t offset, uint64_t length, void *buffer)
{
	(void)offset;
	(void)length;
	(void)buffer;
	while (!atomic_load(&feeder->open))
		sched_yield();
	return FEEDER_GIVES;
}

/* --- events --- */

int take_event(void *user, const struct gmem_pager_event *event)
{
	struct events *events = user;

	switch (event->kind) {
	case GMEM_PAGER_SOURCE_FAILED:
		atomic_store(&events->error, event->error);
		atomic_store(&events->offset, event->offset);
		atomic_store(&events->length, event->length);
		atomic_fetch_add(&events->failed, 1);
		break;
	case GMEM_PAGER_OWNER_GONE:
		atomic_fetch_add(&events->gone, 1);
		break;
	case GMEM_PAGER_COMPLETE:
		atomic_fetch_add(&events->complete, 1);
		break;
	default:
		atomic_store(&events->offset, event->offset);
		atomic_store(&events->length, event->length);
		atomic_fetch_add(&events->protect, 1);
	}
	return atomic_load(&events->verdict);
}

struct gmem_pager_create_opts with_events(struct events *events, uint64_t deadline_ns)
{
	return (struct gmem_pager_create_opts){ .size = sizeof(struct gmem_pager_create_opts), .event = take_event,
						.user = events, .deadline_ns = deadline_ns };
}

/* --- threads that wait --- */

static int look(const struct toucher *t)
{
	int sink = memfd_create("sink", MFD_CLOEXEC), r = 0;
	ssize_t got;

	if (sink < 0)
		return -errno;
	got = pwrite(sink, t->at, t->length, 0);
	if (got != (ssize_t)t->length)
		r = got < 0 ? -errno : -EFAULT;
	close(sink);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < t->length; i++)
		if (((const volatile unsigned char *)t->at)[i] != (t->expected ? t->expected[i] : 0))
			return -EILSEQ;
	return 0;
}

static void *wait_for_page(void *arg)
{
	struct toucher *toucher = arg;

	atomic_store(&toucher->result, look(toucher));
	return NULL;
}

void touch_in_pager(struct toucher *toucher, const unsigned char *at, uint64_t length, const unsigned char *expected)
{
	pthread_attr_t attr;

	*toucher = (struct toucher){ .at = at, .length = length, .expected = expected };
	atomic_store(&toucher->result, 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	assert_int_equal(pthread_create(&toucher->thread, &attr, wait_for_page, toucher), 0);
	pthread_attr_destroy(&attr);
}

bool still_waits(const struct toucher *toucher)
{
	return atomic_load(&toucher->result) == 1;
}

int touched(struct toucher *toucher)
{
	WAIT_FOR(!still_waits(toucher));
	pthread_join(toucher->thread, NULL);
	return atomic_load(&toucher->result);
}

void wait_pending(const struct paged *paged, uint64_t count)
{
	WAIT_FOR(uffd_info(paged).pending >= count);
}
