/* SPDX-License-Identifier: MIT */
/* A shortage of the moment is the code of the call: it does not decide what the memory is made of. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <gmem.h>

#include "fakekvm.h"
#include "gt.h"

#define LENGTH (UINT64_C(1) << 20)

static uint32_t backing_of(const struct gmem *mem)
{
	struct gmem_info info = { .size = sizeof(info) };

	assert_int_equal(gmem_query(mem, &info), 0);
	return info.backing;
}

struct scene {
	int fd;
	struct gmem_vm *vm;
};

static struct scene enter(void)
{
	struct scene s;

	fakekvm_enable(fakekvm_preset("7.3"));
	s.fd = fakekvm_vm(NULL);
	assert_int_equal(gmem_vm_open(s.fd, &s.vm, NULL), 0);
	return s;
}

static void leave(const struct scene *s, struct gmem *mem)
{
	gmem_destroy(mem);
	gmem_vm_close(s->vm);
	close(s->fd);
	fakekvm_disable();
}

/* The first question about guest_memfd meets the shortage; the second call finds that it works. */
static void check(const char *call, int error)
{
	struct scene s = enter();
	struct gmem *mem = NULL;

	fakekvm_script(call, error, 1, 0);
	assert_int_equal(gmem_create(s.vm, LENGTH, &mem, NULL), -error);
	assert_null(mem);
	assert_non_null(strstr(gmem_last_error(), "gmem_create: "));
	assert_int_equal(gmem_create(s.vm, LENGTH, &mem, NULL), 0);
	assert_int_equal(backing_of(mem), GMEM_BACKING_GUEST_MEMFD);
	leave(&s, mem);
}

static void a_shortage_is_the_calls_code(void **state)
{
	static const int errors[] = { EMFILE, ENFILE, ENOMEM };

	(void)state;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		check("KVM_CREATE_GUEST_MEMFD", errors[i]);
	check("mmap", ENOMEM);
}

/* While it lasts, no way is the one that will be used, and asking is no failure. */
static void a_shortage_is_explained(void **state)
{
	struct gmem_step step = { .size = sizeof(step) };
	struct scene s = enter();
	char before[256];

	(void)state;
	snprintf(before, sizeof(before), "%s", gmem_last_error());
	fakekvm_script("KVM_CREATE_GUEST_MEMFD", EMFILE, 1000, 0);
	for (uint32_t i = 0; gmem_vm_explain(s.vm, GMEM_TASK_CREATE, 0, 0, i, &step) > 0; i++)
		assert_int_equal(step.chosen, 0);
	assert_string_equal(gmem_last_error(), before);
	leave(&s, NULL);
}

/* What is refused for good does let the next way be taken. */
static void a_refusal_lets_the_next_way_be_taken(void **state)
{
	struct scene s = enter();
	struct gmem *mem;

	(void)state;
	fakekvm_script("KVM_CREATE_GUEST_MEMFD", EACCES, 100, 0);
	assert_int_equal(gmem_create(s.vm, LENGTH, &mem, NULL), 0);
	assert_int_equal(backing_of(mem), GMEM_BACKING_MEMFD);
	leave(&s, mem);
}

static const struct gt_test tests[] = {
	GT(a_shortage_is_the_calls_code, GT_NEEDS_NOTHING),
	GT(a_shortage_is_explained, GT_NEEDS_NOTHING),
	GT(a_refusal_lets_the_next_way_be_taken, GT_NEEDS_NOTHING),
};

GT_MAIN("shortages of the moment", tests)
