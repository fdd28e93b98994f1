/* SPDX-License-Identifier: MIT */
/* What threads of a pager wait on. One epoll serves lent threads, the program's own poll, and a single thread. Own threads, if
 * there are several but not many, have one each: a fault wakes them all, and the one on the CPU of whoever waits is there
 * first, since it need not wake that CPU; the others find nothing, and sleep again. */
#include "pager.h"

#include <sys/epoll.h>

#include "err.h"
#include "sys.h"

#define APART 8 /* threads, at most: what each of them costs the others */

static int watch(int epoll, const struct gmemi_endpoint *endpoint)
{
	return gmemi_sys_epoll_add(epoll, endpoint->uffd->fd, EPOLLIN | EPOLLET, endpoint->tag);
}

int gmemi_wait_begin(const struct gmem_pager *pager, int *epoll)
{
	int r;

	*epoll = gmemi_sys_epoll();
	if (*epoll < 0)
		return *epoll;
	r = gmemi_sys_epoll_add(*epoll, pager->timer, EPOLLIN, GMEMI_TAG_TIMER);
	if (r == 0)
		r = gmemi_sys_epoll_add(*epoll, pager->wakeup, EPOLLIN, GMEMI_TAG_WAKEUP);
	for (uint32_t i = 0; r == 0 && i < pager->table_room; i++)
		if (pager->table[i])
			r = watch(*epoll, pager->table[i]);
	if (r < 0) {
		gmemi_sys_close(*epoll);
		*epoll = -1;
	}
	return r;
}

void gmemi_wait_apart(struct gmemi_seat *seat)
{
	const struct gmem_pager *pager = seat->pager;

	seat->epoll = -1;
	if (pager->threads > 1 && pager->threads <= APART && gmemi_wait_begin(pager, &seat->epoll) < 0)
		seat->epoll = -1; /* together with the others, then */
}

int gmemi_wait_on(const struct gmemi_seat *seat)
{
	return seat->own && seat->epoll >= 0 ? seat->epoll : seat->pager->epoll;
}

/* Every epoll of the pager; the pager's lock is held. */
static int for_all(const struct gmemi_endpoint *endpoint, int (*call)(int epoll, const struct gmemi_endpoint *endpoint))
{
	const struct gmem_pager *pager = endpoint->pager;
	int r = call(pager->epoll, endpoint);

	for (const struct gmemi_seat *seat = pager->own_seats; r == 0 && seat; seat = seat->next)
		if (seat->epoll >= 0)
			r = call(seat->epoll, endpoint);
	return r;
}

static int forget(int epoll, const struct gmemi_endpoint *endpoint)
{
	(void)gmemi_sys_epoll_remove(epoll, endpoint->uffd->fd); /* fails for what is not there alone */
	return 0;
}

static int ask_again(int epoll, const struct gmemi_endpoint *endpoint)
{
	return gmemi_sys_epoll_change(epoll, endpoint->uffd->fd, EPOLLIN | EPOLLET, endpoint->tag);
}

int gmemi_wait_add(const struct gmemi_endpoint *endpoint)
{
	int r = for_all(endpoint, watch);

	if (r < 0)
		(void)for_all(endpoint, forget);
	return r;
}

void gmemi_wait_remove(const struct gmemi_endpoint *endpoint)
{
	(void)for_all(endpoint, forget);
}

int gmemi_wait_rearm(const struct gmemi_endpoint *endpoint)
{
	struct gmem_pager *pager = endpoint->pager;
	int r;

	pthread_mutex_lock(&pager->lock);
	r = for_all(endpoint, ask_again);
	pthread_mutex_unlock(&pager->lock);
	return r;
}
