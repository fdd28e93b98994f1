/* SPDX-License-Identifier: MIT */
/* What a VM that is served asks, and is told. */
#include "server.h"

#include "alloc.h"
#include "err.h"

/* --- faults ------------------------------------------------------------------------------------------------------------- */

/* A touch that the VM was told of, and not its userfaultfd. */
struct gmemi_server_fault {
	struct gmemi_forward forward;
	struct gmemi_visitor *visitor;
	struct gmemi_server_fault *next; /* of those that are done */
	uint64_t cookie, offset, length;
	int code;
};

/* In any thread. */
static void is_done(struct gmemi_forward *forward, int code)
{
	struct gmemi_server_fault *fault = (struct gmemi_server_fault *)forward;
	struct gmemi_visitor *visitor = fault->visitor;
	struct gmem_server *server = visitor->server;

	fault->code = code;
	pthread_mutex_lock(&server->lock);
	fault->next = visitor->done;
	visitor->done = fault;
	gmemi_sys_eventfd_raise(server->wakeup);
	pthread_mutex_unlock(&server->lock);
}

static bool is_listening(const struct gmemi_visitor *visitor)
{
	return visitor->channel && !visitor->channel->broken && !visitor->channel->ended;
}

static int say_done(struct gmemi_visitor *visitor, uint64_t cookie, uint64_t offset, uint64_t length, enum gmemi_wire_code code)
{
	struct gmemi_wire wire = {
		.type = GMEMI_WIRE_FAULT_DONE,
		.fault_done = { .cookie = cookie, .offset = offset, .length = length, .code = code },
	};

	return gmemi_channel_answer(visitor->channel, &wire);
}

static enum gmemi_wire_code code_of(int code)
{
	return code == -ENOENT || code == -ESRCH ? GMEMI_WIRE_GONE : gmemi_channel_code(code);
}

/* Of what was not brought, or not so long, nothing is watched. */
static enum gmemi_wire_code check(const struct gmemi_visitor *visitor, const struct gmemi_wire_fault *asked, struct gmem **mem)
{
	uint64_t limit = UINT64_MAX, most = GMEMI_SERVER_FAULT;

	*mem = NULL;
	if (!visitor->uffd || asked->endpoint != visitor->endpoint)
		return GMEMI_WIRE_GONE;
	if (asked->memory != GMEMI_WIRE_NONE) {
		*mem = visitor->channel->build.memories[asked->memory];
		if (!*mem)
			return GMEMI_WIRE_GONE;
		limit = (*mem)->length;
		most = (*mem)->page_size > most ? (*mem)->page_size : most;
	}
	if (asked->offset >= limit || asked->length > limit - asked->offset)
		return GMEMI_WIRE_GONE;
	return visitor->faults >= GMEMI_SERVER_FAULTS || asked->length > most ? GMEMI_WIRE_LIMIT : GMEMI_WIRE_OK;
}

static enum gmemi_wire_code begin(struct gmemi_visitor *visitor, const struct gmemi_wire_fault *asked)
{
	struct gmemi_server_fault *fault;
	struct gmem *mem;
	enum gmemi_wire_code code = check(visitor, asked, &mem);
	int r;

	if (code != GMEMI_WIRE_OK)
		return code;
	fault = gmemi_alloc(1, sizeof(*fault));
	if (!fault)
		return GMEMI_WIRE_SHORTAGE;
	*fault = (struct gmemi_server_fault){
		.forward = { .mem = mem, .at = asked->offset, .end = asked->offset + asked->length, .done = is_done },
		.visitor = visitor,
		.cookie = asked->cookie,
		.offset = asked->offset,
		.length = asked->length,
	};
	r = gmemi_pager_forward(visitor->server->pager, visitor->uffd, &fault->forward);
	if (r < 0)
		gmemi_free(fault);
	else
		visitor->faults++;
	gmemi_tolerated();
	return code_of(r);
}

static int take_fault(struct gmemi_visitor *visitor, const struct gmemi_wire_fault *asked)
{
	enum gmemi_wire_code code = begin(visitor, asked);

	return code == GMEMI_WIRE_OK ? 0 : say_done(visitor, asked->cookie, asked->offset, asked->length, code);
}

static int answer_faults(struct gmemi_visitor *visitor)
{
	struct gmemi_server_fault *fault, *next;
	int r = 0;

	pthread_mutex_lock(&visitor->server->lock);
	next = visitor->done;
	visitor->done = NULL;
	pthread_mutex_unlock(&visitor->server->lock);
	if (!next)
		return 0;
	while ((fault = next)) {
		next = fault->next;
		if (r == 0 && is_listening(visitor))
			r = say_done(visitor, fault->cookie, fault->offset, fault->length, code_of(fault->code));
		visitor->faults--;
		gmemi_free(fault);
	}
	return r == 0 && is_listening(visitor) ? gmemi_channel_flush(visitor->channel) : r;
}

/* --- statistics --------------------------------------------------------------------------------------------------------- */

/* Counting what is empty takes time, so questions that came together have one answer; and one that does not read has none. */
static int say_statistics(struct gmemi_visitor *visitor)
{
	struct gmem_uffd_info info = { .size = sizeof(info) };
	struct gmemi_wire_statistic counters[GMEMI_STATISTICS];
	struct gmemi_wire wire = { .type = GMEMI_WIRE_STATISTICS,
				   .end = { .endpoint = visitor->endpoint },
				   .items = counters,
				   .item_count = GMEMI_STATISTICS };
	int r = gmem_uffd_query(visitor->uffd, &info);

	if (r < 0)
		return r;
	counters[0] = (struct gmemi_wire_statistic){ .what = GMEMI_WIRE_FAULTS, .value = info.faults };
	counters[1] = (struct gmemi_wire_statistic){ .what = GMEMI_WIRE_BYTES, .value = info.bytes };
	counters[2] = (struct gmemi_wire_statistic){ .what = GMEMI_WIRE_ZEROED, .value = info.zeroed };
	counters[3] = (struct gmemi_wire_statistic){ .what = GMEMI_WIRE_POISONED, .value = info.poisoned };
	counters[4] = (struct gmemi_wire_statistic){ .what = GMEMI_WIRE_REMAINING, .value = info.remaining };
	counters[5] = (struct gmemi_wire_statistic){ .what = GMEMI_WIRE_SOURCE_ERRORS, .value = info.source_errors };
	r = gmemi_channel_post(visitor->channel, &wire);
	if (r != -EAGAIN)
		return r;
	gmemi_tolerated();
	return 0;
}

/* --- both --------------------------------------------------------------------------------------------------------------- */

/* What is wrong with them is seen by the channel. */
int gmemi_visitor_notice(void *user, struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	struct gmemi_visitor *visitor = user;

	(void)channel;
	if (wire->type == GMEMI_WIRE_FAULT)
		return take_fault(visitor, &wire->fault);
	if (!visitor->uffd) {
		visitor->gave_up = visitor->gave_up || wire->type == GMEMI_WIRE_DETACH;
		return 0;
	}
	if (wire->end.endpoint != visitor->endpoint)
		return 0;
	visitor->detached = visitor->detached || wire->type == GMEMI_WIRE_DETACH;
	visitor->asks = visitor->asks || wire->type == GMEMI_WIRE_ASK_STATISTICS;
	return 0;
}

int gmemi_visitor_answer(struct gmemi_visitor *visitor)
{
	int r = answer_faults(visitor);

	if (r == 0 && visitor->asks && is_listening(visitor))
		r = say_statistics(visitor);
	visitor->asks = false;
	return r;
}
