/* SPDX-License-Identifier: MIT */
#include "served.h"

#include <stdlib.h>
#include <string.h>

#include "content.h"
#include "handles.h"
#include "memories.h"

struct feeder feeder;
struct events events;
struct paged paged;
struct paging paging;
unsigned char *content;

void begin_served(enum way way, uint64_t pages, answer_fn *answer, gmem_pager_fn event, uint64_t deadline_ns)
{
	struct gmem_pager_create_opts opts = with_events(&events, deadline_ns);

	memset(&events, 0, sizeof(events));
	opts.around_mode = GMEM_AROUND_NONE;
	opts.event = event;
	content = pages_of_content(pages, 0);
	paged = page_memory(GMEM_BACKING_MEMFD, pages * page(), GMEM_STRATEGY_FILL);
	paging = make_pager(way, &opts);
	make_feeder(&feeder, content, pages * page());
	feeder.answer = answer;
	serve(&paging, &paged, feeder.source, 0, 0);
	begin_paging(&paging);
}

void end_served(void)
{
	end_paging(&paging);
	end_feeder(&feeder);
	end_paged(&paged);
	free(content);
}

void touch_page(struct toucher *toucher, uint64_t number, const unsigned char *expected)
{
	touch_in_pager(toucher, paged.at + number * page(), page(), expected);
}
