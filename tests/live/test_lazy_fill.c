/* SPDX-License-Identifier: MIT */
/* Memory that a userfaultfd watches: what touches it on purpose waits for whoever serves it, and what fills it meets no fault. */
#include "gt.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <gmem.h>

#include "huge.h"

#define PAGES 64
#define CONTENT 0x5a

/* Serves each page once by UFFDIO_COPY. */
struct pager {
	int uffd;
	uint64_t page;
	unsigned char *content;
	unsigned int served;
	pthread_t thread;
};

static int open_uffd(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	return fd;
}

static void watch(int uffd, void *at, uint64_t length, uint64_t mode)
{
	struct uffdio_register range = { .range = { (uintptr_t)at, length }, .mode = mode };

	assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &range), 0);
}

static void *serve(void *arg)
{
	struct pager *pager = arg;
	struct uffd_msg message;

	while (read(pager->uffd, &message, sizeof(message)) == sizeof(message)) {
		struct uffdio_copy copy = { .dst = message.arg.pagefault.address & ~(pager->page - 1),
					    .src = (uintptr_t)pager->content,
					    .len = pager->page };

		if (ioctl(pager->uffd, UFFDIO_COPY, &copy) != 0)
			return NULL;
		if (++pager->served == PAGES)
			return NULL;
	}
	return NULL;
}

static struct gmem_vm *vm;
static struct gmem *mem;
static unsigned char *at;

static void make(uint32_t backing, uint64_t length)
{
	struct gmem_create_opts opts = { .size = sizeof(opts),
					 .need = GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY,
					 .backing = backing };
	void *address;

	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	assert_int_equal(gmem_create(vm, length, &mem, &opts), 0);
	assert_int_equal(gmem_map(mem, 0, length, &address, NULL), 0);
	at = address;
}

static void end(void)
{
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

/* A page that the call made by itself would raise no event, and stay zeros. */
static int prefault_watched(void *arg)
{
	struct pager pager = { .page = (uint64_t)sysconf(_SC_PAGESIZE) };
	uint64_t done;

	(void)arg;
	alarm(30); /* a wait without an end ends the child */
	make(GMEM_BACKING_MEMFD, PAGES * pager.page);
	pager.content = malloc(pager.page);
	memset(pager.content, CONTENT, pager.page);
	pager.uffd = open_uffd(0);
	watch(pager.uffd, at, PAGES * pager.page, UFFDIO_REGISTER_MODE_MISSING);
	assert_int_equal(pthread_create(&pager.thread, NULL, serve, &pager), 0);
	assert_int_equal(gmem_prefault(mem, 0, PAGES * pager.page, &done, NULL), 0);
	assert_int_equal(done, PAGES * pager.page);
	pthread_join(pager.thread, NULL);
	assert_int_equal(pager.served, PAGES);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_memory_equal(at + page * pager.page, pager.content, pager.page);
	close(pager.uffd);
	free(pager.content);
	end();
	return 0;
}

static void prefault_waits_for_the_pager(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(prefault_watched, NULL), 0);
}

/* Nobody serves here: a fill through the watched mapping would wait for ever. */
static int fill_watched(void *arg)
{
	uint64_t length = 2 * HUGE_PAGE, done;
	unsigned char *content = malloc(length);
	struct gmem_run run = { .size = sizeof(run) };
	int uffd = open_uffd(UFFD_FEATURE_MINOR_HUGETLBFS);

	(void)arg;
	alarm(30);
	memset(content, CONTENT, length);
	make(GMEM_BACKING_HUGETLB, length);
	watch(uffd, at, length, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
	assert_int_equal(gmem_populate(mem, 0, length, content, &done, NULL), 0);
	assert_int_equal(done, length);
	assert_int_equal(gmem_query_run(mem, 0, &run), 0);
	assert_true(run.state & GMEM_RUN_FILLED);
	close(uffd);
	assert_memory_equal(at, content, length);
	free(content);
	end();
	return 0;
}

static void filling_huge_pages_meets_no_fault(void **state)
{
	(void)state;
	assert_int_equal(gt_in_child(fill_watched, NULL), 0);
}

static const struct gt_test tests[] = {
	GT(prefault_waits_for_the_pager, GT_NEEDS_UFFD_MINOR),
	GT(filling_huge_pages_meets_no_fault, GT_NEEDS_UFFD_MINOR | GT_NEEDS_HUGETLB_2M),
};

GT_MAIN("lazy_fill", tests)
