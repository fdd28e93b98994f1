/* SPDX-License-Identifier: MIT */
/* Floor 3: where content comes from. */
#ifndef GMEMI_SOURCE_H
#define GMEMI_SOURCE_H

#include <stdbool.h>

#include <gmem/source.h>

/* A claim on it while a call uses it. -EINVAL for NULL. */
int gmemi_source_claim(struct gmem_source *source);
void gmemi_source_release(struct gmem_source *source);

/* GMEM_ANSWER_*, or a negative errno with a sentence: never anything else. */
int gmemi_source_read(struct gmem_source *source, uint64_t offset, uint64_t length, void *buffer, uint64_t flags);
/* The same without ever waiting, and never LATER. -EAGAIN, which has no sentence: only gmemi_source_read() can tell. */
int gmemi_source_read_now(struct gmem_source *source, uint64_t offset, uint64_t length, void *buffer);
/* DATA, ZERO or an error; the first two and -ENODATA for as many bytes as *length says after: more than 0, and no more than
 * before. */
int gmemi_source_extent(struct gmem_source *source, uint64_t offset, uint64_t *length);
void gmemi_source_advise(struct gmem_source *source, uint64_t offset, uint64_t length);
/* Can it answer LATER, or deliver by itself? */
bool gmemi_source_late(const struct gmem_source *source);

/* Who is told of what the source delivers. deliver() is called in any thread, several at a time, with no lock held, and may
 * call the source. It returns 0 also for what it has no use for; -ENOTCONN means that there is nobody behind it. */
struct gmemi_source_user {
	struct gmemi_source_user *next;
	int (*deliver)(struct gmemi_source_user *user, uint64_t offset, uint64_t length, const void *data, int answer);
};

void gmemi_source_attach(struct gmem_source *source, struct gmemi_source_user *user);
/* Waits for deliveries to it that are under way, but for those that the calling thread itself is in. */
void gmemi_source_detach(struct gmem_source *source, struct gmemi_source_user *user);
/* Tells all users, and returns the first failure. -ENOTCONN when there are none. The caller has a claim. */
int gmemi_source_deliver(struct gmem_source *source, uint64_t offset, uint64_t length, const void *data, int answer);

#endif
