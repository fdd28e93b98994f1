/* SPDX-License-Identifier: MIT */
/* Sentences about failures, and the log sink. */
#include "gt.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gmem/memory.h>
#include <gmem/populate.h>
#include <gmem/vm.h>

#include "err.h"
#include "log.h"

#define LONGEST 400 /* of a sentence, with its end */
#define PAGES 4

static size_t page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static struct gmem_vm *open_vm(void)
{
	struct gmem_vm *vm = NULL;

	assert_int_equal(gmem_vm_open(-1, &vm, NULL), 0);
	return vm;
}

static struct gmem *make_memory(struct gmem_vm *vm)
{
	struct gmem_create_opts opts = { .size = sizeof(opts), .backing = GMEM_BACKING_MEMFD };
	struct gmem *mem = NULL;

	assert_int_equal(gmem_create(vm, PAGES * page(), &mem, &opts), 0);
	return mem;
}

/* Sentences */

static void a_refusal_names_call_reason_code_and_the_library(void **state)
{
	(void)state;
	gmemi_enter("gmem_map");
	assert_int_equal(gmemi_refuse(-EEXIST, "slot %u is taken", 7u), -EEXIST);
	assert_string_equal(gmem_last_error(), "gmem_map: slot 7 is taken (EEXIST, from the library)");
}

static void a_failure_names_call_step_advice_code_and_the_kernel(void **state)
{
	(void)state;
	gmemi_enter("gmem_create");
	assert_int_equal(gmemi_failed(-EMFILE, "memfd_create()", "RLIMIT_NOFILE?"), -EMFILE);
	assert_string_equal(gmem_last_error(), "gmem_create: memfd_create() failed: RLIMIT_NOFILE? (EMFILE, from the kernel)");
	assert_int_equal(gmemi_failed(-ENOSPC, "pwrite()", NULL), -ENOSPC);
	assert_string_equal(gmem_last_error(), "gmem_create: pwrite() failed (ENOSPC, from the kernel)");
}

static void a_code_without_a_name_is_a_number(void **state)
{
	(void)state;
	gmemi_enter("gmem_bind");
	assert_int_equal(gmemi_failed(-3999, "ioctl()", NULL), -3999);
	assert_string_equal(gmem_last_error(), "gmem_bind: ioctl() failed (error 3999, from the kernel)");
}

static void public_calls_put_their_names_into_sentences(void **state)
{
	(void)state;
	assert_int_equal(gmem_vm_open(-1, NULL, NULL), -EINVAL);
	assert_int_equal(strncmp(gmem_last_error(), "gmem_vm_open: ", 14), 0);
	assert_int_equal(gmem_query(NULL, NULL), -EINVAL);
	assert_int_equal(strncmp(gmem_last_error(), "gmem_query: ", 12), 0);
}

static void every_length_of_sentence_is_cut_to_fit(void **state)
{
	char words[2 * LONGEST];

	(void)state;
	gmemi_enter("test_call");
	for (size_t length = 0; length < sizeof(words); length++) {
		size_t shall_be = strlen("test_call:  (EINVAL, from the library)") + length;

		memset(words, 'x', length);
		words[length] = '\0';
		assert_int_equal(gmemi_refuse(-EINVAL, "%s", words), -EINVAL);
		assert_int_equal(strncmp(gmem_last_error(), "test_call: ", 11), 0);
		assert_int_equal(strlen(gmem_last_error()), shall_be < LONGEST ? shall_be : LONGEST - 1);
		assert_int_equal(gmemi_failed(-EINVAL, words, words), -EINVAL);
		assert_true(strlen(gmem_last_error()) < LONGEST);
	}
}

static void every_code_of_the_contract_has_a_name(void **state)
{
	static const int codes[] = { EINVAL, E2BIG,  EOPNOTSUPP, EEXIST, EBUSY,  ENOENT, ESTALE, ECANCELED, ENODATA,
				     EIO,    ENOMEM, EMFILE,     ENFILE, EBADF,  EAGAIN, EINTR,  EISDIR,    ENOSPC,
				     EFAULT, EACCES, EPERM,      ENOSYS, ENOTTY, ENODEV, ESPIPE, ENXIO };

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		assert_non_null(gmemi_error_name(-codes[i]));
	assert_string_equal(gmemi_error_name(-EINVAL), "EINVAL");
	assert_string_equal(gmemi_error_name(-EHWPOISON), "EHWPOISON");
	assert_string_equal(gmemi_error_name(-EOPNOTSUPP), "EOPNOTSUPP");
}

static void other_numbers_have_no_name(void **state)
{
	(void)state;
	assert_null(gmemi_error_name(0));
	assert_null(gmemi_error_name(EINVAL));
	assert_null(gmemi_error_name(-4095));
	assert_null(gmemi_error_name(INT32_MAX));
}

struct talk {
	pthread_barrier_t both;
	int wrong;
};

static void *fail_otherwise(void *arg)
{
	struct talk *talk = arg;

	talk->wrong = strcmp(gmem_last_error(), "") != 0;
	gmem_vm_close(NULL);
	talk->wrong += strcmp(gmem_last_error(), "") != 0;
	pthread_barrier_wait(&talk->both); /* the other thread has its sentence now */
	gmem_query(NULL, NULL);
	pthread_barrier_wait(&talk->both);
	pthread_barrier_wait(&talk->both);
	talk->wrong += strncmp(gmem_last_error(), "gmem_query: ", 12) != 0;
	return NULL;
}

static void threads_have_sentences_of_their_own(void **state)
{
	struct talk talk = { .wrong = 0 };
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_barrier_init(&talk.both, NULL, 2), 0);
	assert_int_equal(gmem_vm_open(-1, NULL, NULL), -EINVAL);
	assert_int_equal(pthread_create(&thread, NULL, fail_otherwise, &talk), 0);
	pthread_barrier_wait(&talk.both);
	pthread_barrier_wait(&talk.both);
	assert_int_equal(strncmp(gmem_last_error(), "gmem_vm_open: ", 14), 0);
	gmem_get_fd(NULL, GMEM_FD_MEMORY);
	pthread_barrier_wait(&talk.both);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(talk.wrong, 0);
	pthread_barrier_destroy(&talk.both);
}

static void success_leaves_the_sentence_alone(void **state)
{
	struct gmem_vm *vm = open_vm();
	struct gmem *mem = make_memory(vm);
	char before[LONGEST] = "";
	void *address;

	(void)state;
	gmem_query(NULL, NULL);
	strcpy(before, gmem_last_error());
	assert_int_equal(gmem_map(mem, 0, page(), &address, NULL), 0);
	assert_int_equal(gmem_populate(mem, 0, sizeof(before), before, NULL, NULL), 0);
	assert_string_equal(gmem_last_error(), before);
	gmem_destroy(mem);
	gmem_vm_close(vm);
	assert_string_equal(gmem_last_error(), before);
}

/* The log */

struct heard {
	unsigned int count[5]; /* by level */
	char last[600];
};

static void hear(void *user, enum gmem_log_level level, const char *text)
{
	struct heard *heard = user;

	heard->count[level]++;
	strncpy(heard->last, text, sizeof(heard->last) - 1);
}

static void say_all(void)
{
	gmemi_note(GMEM_LOG_ERROR, "an %s", "error");
	gmemi_note(GMEM_LOG_WARNING, "a warning");
	gmemi_note(GMEM_LOG_INFO, "information");
	gmemi_note(GMEM_LOG_DEBUG, "a detail");
}

static void a_level_hears_what_is_as_severe_or_more(void **state)
{
	(void)state;
	for (unsigned int wanted = GMEM_LOG_ERROR; wanted <= GMEM_LOG_DEBUG; wanted++) {
		struct heard heard = { .last = "" };

		gmem_set_log((enum gmem_log_level)wanted, hear, &heard);
		say_all();
		gmem_set_log(GMEM_LOG_DEBUG, NULL, NULL);
		for (unsigned int level = GMEM_LOG_ERROR; level <= GMEM_LOG_DEBUG; level++)
			assert_int_equal(heard.count[level], level <= wanted);
	}
}

static void a_replaced_sink_hears_nothing_more(void **state)
{
	struct heard first = { .last = "" }, second = { .last = "" };

	(void)state;
	gmem_set_log(GMEM_LOG_DEBUG, hear, &first);
	say_all();
	gmem_set_log(GMEM_LOG_WARNING, hear, &second);
	say_all();
	gmem_set_log(GMEM_LOG_DEBUG, NULL, &second);
	say_all();
	assert_int_equal(first.count[GMEM_LOG_ERROR], 1);
	assert_string_equal(first.last, "a detail");
	assert_int_equal(second.count[GMEM_LOG_ERROR], 1);
	assert_string_equal(second.last, "a warning");
}

static void a_failed_call_is_a_debug_message_of_one_line(void **state)
{
	struct heard heard = { .last = "" };

	(void)state;
	gmem_set_log(GMEM_LOG_DEBUG, hear, &heard);
	gmem_query(NULL, NULL);
	gmem_set_log(GMEM_LOG_DEBUG, NULL, NULL);
	assert_int_equal(heard.count[GMEM_LOG_DEBUG], 1);
	assert_string_equal(heard.last, gmem_last_error());
	assert_null(strchr(heard.last, '\n'));
}

static void what_was_chosen_is_information(void **state)
{
	struct heard heard = { .last = "" };
	struct gmem_vm *vm = open_vm();

	(void)state;
	gmem_set_log(GMEM_LOG_INFO, hear, &heard);
	gmem_destroy(make_memory(vm));
	gmem_set_log(GMEM_LOG_INFO, NULL, NULL);
	gmem_vm_close(vm);
	assert_int_equal(heard.count[GMEM_LOG_INFO], 1);
	assert_non_null(strstr(heard.last, "memfd"));
}

static int fail_loudly(void *arg)
{
	(void)arg;
	if (gmem_query(NULL, NULL) != -EINVAL || gmem_vm_open(-7, NULL, NULL) != -EINVAL)
		return 1;
	say_all();
	return 0;
}

static void without_a_sink_nothing_is_printed(void **state)
{
	char *text;

	(void)state;
	assert_int_equal(gt_child_output(fail_loudly, NULL, &text), 0);
	assert_string_equal(text, "");
	free(text);
}

/* A sink that calls the library: about the same memory, and in vain. */
struct nosy {
	struct gmem *mem;
	unsigned int messages, queries;
};

static void ask_back(void *user, enum gmem_log_level level, const char *text)
{
	struct gmem_info info = { .size = sizeof(info) };
	struct nosy *nosy = user;
	void *address;

	(void)level;
	(void)text;
	nosy->messages++;
	if (gmem_query(nosy->mem, &info) == 0 && gmem_map(nosy->mem, 0, page(), &address, NULL) == 0)
		nosy->queries++;
	gmem_get_fd(NULL, GMEM_FD_MEMORY); /* what this has to say would go on for ever: it is dropped */
}

/* Each fails at a step that takes a lock inside. */
static int fail_with_nosy_sink(void *arg)
{
	struct gmem_map_opts opts = { .size = sizeof(opts) };
	struct gmem *mem = make_memory(open_vm());
	struct nosy nosy = { .mem = mem };

	alarm(10); /* a deadlock is the failure to be shown */
	assert_int_equal(gmem_bind(mem, 1, 0, 0, 2 * page(), NULL), 0);
	assert_int_equal(gmem_map(mem, 0, page(), &opts.address, NULL), 0);
	gmem_set_log(GMEM_LOG_DEBUG, ask_back, &nosy);
	switch (*(int *)arg) {
	case 0:
		assert_int_equal(gmem_map(mem, 0, page(), &opts.address, &opts), -EINVAL);
		break;
	case 1:
		assert_int_equal(gmem_unmap(mem, 0, 2 * page()), -EBUSY);
		break;
	case 2:
		assert_int_equal(gmem_bind(mem, 2, page(), 0, page(), NULL), -EEXIST);
		break;
	default:
		assert_int_equal(gmem_unbind(mem, 2), -ENOENT);
	}
	assert_int_equal(nosy.messages, 1);
	assert_int_equal(nosy.queries, 1);
	return 0;
}

static void a_sink_may_call_the_library_since_no_lock_is_held(void **state)
{
	(void)state;
	for (int which = 0; which < 4; which++)
		assert_int_equal(gt_in_child(fail_with_nosy_sink, &which), 0);
}

static void a_sink_that_fails_a_call_does_not_change_the_sentence(void **state)
{
	struct gmem_vm *vm = open_vm();
	struct gmem *mem = make_memory(vm);
	struct nosy nosy = { .mem = mem };

	(void)state;
	gmem_set_log(GMEM_LOG_DEBUG, ask_back, &nosy);
	assert_int_equal(gmem_map(mem, 1, page(), NULL, NULL), -EINVAL);
	gmem_set_log(GMEM_LOG_DEBUG, NULL, NULL);
	assert_int_equal(nosy.queries, 1);
	assert_int_equal(strncmp(gmem_last_error(), "gmem_map: ", 10), 0);
	gmem_destroy(mem);
	gmem_vm_close(vm);
}

static void count_message(void *user, enum gmem_log_level level, const char *text)
{
	(void)level;
	(void)text;
	atomic_fetch_add((atomic_uint *)user, 1);
}

static void *talk_much(void *arg)
{
	for (unsigned int i = 0; i < 2000; i++)
		gmemi_note(GMEM_LOG_ERROR, "message %u", i);
	return arg;
}

static void sinks_are_replaced_while_threads_talk(void **state)
{
	static atomic_uint one, other; /* they outlive every call */
	pthread_t thread;

	(void)state;
	gmem_set_log(GMEM_LOG_ERROR, count_message, &one);
	assert_int_equal(pthread_create(&thread, NULL, talk_much, NULL), 0);
	for (unsigned int i = 0; i < 500; i++)
		gmem_set_log(GMEM_LOG_ERROR, count_message, i % 2 ? &one : &other);
	assert_int_equal(pthread_join(thread, NULL), 0);
	gmem_set_log(GMEM_LOG_ERROR, NULL, NULL);
	/* What meets a change may be dropped, and is never told twice. */
	assert_in_range(atomic_load(&one) + atomic_load(&other), 1, 2000);
}

static const struct gt_test tests[] = {
	GT(a_refusal_names_call_reason_code_and_the_library, GT_NEEDS_NOTHING),
	GT(a_failure_names_call_step_advice_code_and_the_kernel, GT_NEEDS_NOTHING),
	GT(a_code_without_a_name_is_a_number, GT_NEEDS_NOTHING),
	GT(public_calls_put_their_names_into_sentences, GT_NEEDS_NOTHING),
	GT(every_length_of_sentence_is_cut_to_fit, GT_NEEDS_NOTHING),
	GT(every_code_of_the_contract_has_a_name, GT_NEEDS_NOTHING),
	GT(other_numbers_have_no_name, GT_NEEDS_NOTHING),
	GT(threads_have_sentences_of_their_own, GT_NEEDS_NOTHING),
	GT(success_leaves_the_sentence_alone, GT_NEEDS_NOTHING),
	GT(a_level_hears_what_is_as_severe_or_more, GT_NEEDS_NOTHING),
	GT(a_replaced_sink_hears_nothing_more, GT_NEEDS_NOTHING),
	GT(a_failed_call_is_a_debug_message_of_one_line, GT_NEEDS_NOTHING),
	GT(what_was_chosen_is_information, GT_NEEDS_NOTHING),
	GT(without_a_sink_nothing_is_printed, GT_NEEDS_NOTHING),
	GT(a_sink_may_call_the_library_since_no_lock_is_held, GT_NEEDS_NOTHING),
	GT(a_sink_that_fails_a_call_does_not_change_the_sentence, GT_NEEDS_NOTHING),
	GT(sinks_are_replaced_while_threads_talk, GT_NEEDS_NOTHING),
};

GT_MAIN("err_log", tests)
