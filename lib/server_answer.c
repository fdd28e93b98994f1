/* SPDX-License-Identifier: MIT */
/* What a VM that is served asks, and is told. */
#include "server.h"

#include "err.h"

/* What is wrong with them is seen by the channel. */
int gmemi_visitor_notice(void *user, struct gmem_channel *channel, const struct gmemi_wire *wire)
{
	struct gmemi_visitor *visitor = user;

	(void)channel;
	if (!visitor->uffd || wire->end.endpoint != visitor->endpoint)
		return 0;
	if (wire->type == GMEMI_WIRE_DETACH)
		visitor->detached = true;
	if (wire->type == GMEMI_WIRE_ASK_STATISTICS)
		visitor->asks = true;
	return 0;
}

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

int gmemi_visitor_answer(struct gmemi_visitor *visitor)
{
	int r = visitor->asks ? say_statistics(visitor) : 0;

	visitor->asks = false;
	return r;
}
