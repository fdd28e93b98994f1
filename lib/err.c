/* SPDX-License-Identifier: MIT */
#include "err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

#define NO_CALL "libgmem"

/* A failure becomes the thread's last when the public call returns with it, not before: some are tolerated on the way. */
static _Thread_local struct last {
	const char *call;
	bool failed; /* draft is to become text */
	char draft[sizeof(struct gmemi_sentence)], text[sizeof(struct gmemi_sentence)];
} last = { .call = NO_CALL };

static const struct {
	int code;
	const char *name;
} names[] = {
#define NAME(code) { code, #code }
	NAME(E2BIG),	 NAME(EACCES),	  NAME(EAGAIN),	 NAME(EBADF),	   NAME(EBADFD),  NAME(EBADMSG), NAME(EBUSY),
	NAME(ECANCELED), NAME(EDEADLK),	  NAME(EEXIST),	 NAME(EFAULT),	   NAME(EFBIG),	  NAME(EINTR),	 NAME(EINVAL),
	NAME(EIO),	 NAME(EISDIR),	  NAME(EMFILE),	 NAME(ENFILE),	   NAME(ENODATA), NAME(ENODEV),	 NAME(ENOENT),
	NAME(ENOMEM),	 NAME(ENOSPC),	  NAME(ENOSYS),	 NAME(ENOTTY),	   NAME(ENXIO),	  NAME(EOPNOTSUPP),
	NAME(ENOTCONN),	 NAME(EOVERFLOW), NAME(EPERM),	 NAME(EPIPE),	   NAME(EPROTO),  NAME(ESHUTDOWN), NAME(ESPIPE),
	NAME(ESRCH),	 NAME(ECONNRESET), NAME(EMSGSIZE), NAME(ENOTSOCK), NAME(ETOOMANYREFS),
	NAME(ESTALE),	 NAME(ETIMEDOUT), NAME(EHWPOISON),
#undef NAME
};

const char *gmemi_error_name(int code)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].code == -code)
			return names[i].name;
	return NULL;
}

const char *gmemi_enter(const char *call)
{
	const char *previous = last.call;

	last.call = call;
	return previous;
}

void gmemi_leave(const char **previous)
{
	if (last.failed) {
		last.failed = false;
		memcpy(last.text, last.draft, sizeof(last.text));
		gmemi_note(GMEM_LOG_DEBUG, "%s", last.text);
	}
	last.call = *previous;
}

void gmemi_tolerated(void)
{
	last.failed = false;
}

void gmemi_sentence_take(struct gmemi_sentence *sentence)
{
	memcpy(sentence->text, last.draft, sizeof(sentence->text));
	last.failed = false;
}

void gmemi_sentence_give(const struct gmemi_sentence *sentence)
{
	memcpy(last.draft, sentence->text, sizeof(last.draft));
	last.failed = true;
}

const char *gmemi_entered(void)
{
	return last.call;
}

void gmemi_note(enum gmem_log_level level, const char *format, ...)
{
	struct last before = last;
	va_list arguments;

	va_start(arguments, format);
	gmemi_log(level, format, arguments);
	va_end(arguments);
	last = before;
}

/* Appends " (CODE, from WHOM)". */
static int conclude(int code, size_t used, const char *whom)
{
	const char *name = gmemi_error_name(code);

	if (used >= sizeof(last.draft))
		used = sizeof(last.draft) - 1;
	if (name)
		snprintf(last.draft + used, sizeof(last.draft) - used, " (%s, from %s)", name, whom);
	else
		snprintf(last.draft + used, sizeof(last.draft) - used, " (error %d, from %s)", -code, whom);
	last.failed = true;
	return code;
}

int gmemi_refuse(int code, const char *format, ...)
{
	int used = snprintf(last.draft, sizeof(last.draft), "%s: ", last.call);
	va_list arguments;

	va_start(arguments, format);
	used += vsnprintf(last.draft + used, sizeof(last.draft) - (size_t)used, format, arguments);
	va_end(arguments);
	return conclude(code, (size_t)used, "the library");
}

/* What to check where the step itself knows nothing better. */
static const char *advice_for(int code)
{
	switch (code) {
	case -EMFILE:
		return "no fd left: RLIMIT_NOFILE?";
	case -ENFILE:
		return "no fd left: fs.file-max?";
	case -EFBIG:
		return "RLIMIT_FSIZE?";
	case -EPERM:
	case -EACCES:
		return "a security module or a seccomp filter?";
	case -EBADF:
		return "is the fd open, and for this?";
	default:
		return NULL;
	}
}

int gmemi_failed(int code, const char *step, const char *advice)
{
	int used;

	if (!advice)
		advice = advice_for(code);
	used = snprintf(last.draft, sizeof(last.draft), "%s: %s failed%s%s", last.call, step, advice ? ": " : "", advice ? advice : "");
	return conclude(code, (size_t)used, "the kernel");
}

const char *gmem_last_error(void)
{
	return last.failed ? last.draft : last.text;
}
