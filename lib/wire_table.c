/* SPDX-License-Identifier: MIT */
/* docs/guide/protocol.md has the same tables. */
#include "wire_table.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define WIDTH(type, member) ((uint32_t)sizeof(((struct gmemi_wire_##type *)0)->member))
#define BETWEEN(type, member, low, high)                                                                                       \
	{                                                                                                                      \
		.name = #member, .offset = (uint32_t)offsetof(struct gmemi_wire_##type, member), .width = WIDTH(type, member), \
		.least = (low), .most = (high)                                                                                 \
	}
#define ANY(type, member) BETWEEN(type, member, 0, UINT64_MAX)
#define MEMORY(type)                                                                                          \
	{                                                                                                     \
		.name = "memory", .offset = (uint32_t)offsetof(struct gmemi_wire_##type, memory), .width = 4, \
		.most = GMEMI_WIRE_MEMORIES - 1, .or_none = true                                              \
	}
#define FD(type, member, none)                                                                               \
	{                                                                                                    \
		.name = #member, .offset = (uint32_t)offsetof(struct gmemi_wire_##type, member), .width = 4, \
		.most = GMEMI_WIRE_FDS - 1, .or_none = (none), .fd = true                                    \
	}
#define LENGTH(type) BETWEEN(type, length, 1, GMEMI_WIRE_LENGTH)
#define PAGE_SIZE(type) BETWEEN(type, page_size, 4096, UINT64_C(1) << 30)

static const struct gmemi_wire_field hello[] = {
	BETWEEN(hello, version_least, 1, UINT32_MAX),
	BETWEEN(hello, version_most, 1, UINT32_MAX),
	BETWEEN(hello, role, 1, 2),
	ANY(hello, reserved),
	ANY(hello, capabilities),
};
static const struct gmemi_wire_field endpoint[] = {
	ANY(endpoint, endpoint), FD(endpoint, uffd, false), BETWEEN(endpoint, memories, 0, GMEMI_WIRE_MEMORIES),
	ANY(endpoint, regions),  ANY(endpoint, features),   ANY(endpoint, length),
};
static const struct gmemi_wire_field memory[] = {
	ANY(memory, endpoint),   BETWEEN(memory, memory, 0, GMEMI_WIRE_MEMORIES - 1),
	FD(memory, file, false), FD(memory, map, true),
	LENGTH(memory),          PAGE_SIZE(memory),
};
static const struct gmemi_wire_field regions[] = { ANY(regions, endpoint), ANY(regions, reserved) };
static const struct gmemi_wire_field region[] = {
	MEMORY(region),       BETWEEN(region, strategy, GMEMI_WIRE_FILL, GMEMI_WIRE_COPY),
	ANY(region, flags),   ANY(region, reserved),
	ANY(region, offset),  LENGTH(region),
	ANY(region, hva),     ANY(region, gpa),
	ANY(region, content), PAGE_SIZE(region),
};
static const struct gmemi_wire_field range[] = { MEMORY(range), ANY(range, reserved), ANY(range, offset), LENGTH(range) };
static const struct gmemi_wire_field heartbeat[] = { ANY(heartbeat, interval_ns) };
static const struct gmemi_wire_field fault[] = {
	ANY(fault, endpoint), MEMORY(fault),     ANY(fault, cookie), ANY(fault, offset),   LENGTH(fault),
	ANY(fault, gpa),      ANY(fault, flags), ANY(fault, vcpu),   ANY(fault, reserved),
};
static const struct gmemi_wire_field fault_done[] = {
	ANY(fault_done, cookie), ANY(fault_done, offset), LENGTH(fault_done), ANY(fault_done, code), ANY(fault_done, reserved),
};
static const struct gmemi_wire_field statistic[] = { ANY(statistic, what), ANY(statistic, reserved), ANY(statistic, value) };
static const struct gmemi_wire_field end[] = { ANY(end, endpoint), ANY(end, code) };
static const struct gmemi_wire_field release[] = { ANY(release, endpoint), ANY(release, code), ANY(release, pending) };
static const struct gmemi_wire_field error[] = { ANY(error, code), ANY(error, reserved), ANY(error, about) };

#define LAYOUT(name, fields)                \
	{                                   \
		name, fields, COUNT(fields) \
	}

static const struct gmemi_wire_type_row rows[GMEMI_WIRE_TYPES] = {
	[GMEMI_WIRE_HELLO] = { .fixed = LAYOUT("HELLO", hello) },
	[GMEMI_WIRE_ENDPOINT] = { .fixed = LAYOUT("ENDPOINT", endpoint) },
	[GMEMI_WIRE_MEMORY] = { .fixed = LAYOUT("MEMORY", memory) },
	[GMEMI_WIRE_REGIONS] = { LAYOUT("REGIONS", regions), LAYOUT("a region", region), sizeof(struct gmemi_wire_region) },
	[GMEMI_WIRE_READY] = { .fixed = LAYOUT("READY", end) },
	[GMEMI_WIRE_REMOVE] = { LAYOUT("REMOVE", end), LAYOUT("a range", range), sizeof(struct gmemi_wire_range) },
	[GMEMI_WIRE_HEARTBEAT] = { .fixed = LAYOUT("HEARTBEAT", heartbeat) },
	[GMEMI_WIRE_FAULT] = { .fixed = LAYOUT("FAULT", fault) },
	[GMEMI_WIRE_FAULT_DONE] = { .fixed = LAYOUT("FAULT_DONE", fault_done) },
	[GMEMI_WIRE_ASK_STATISTICS] = { .fixed = LAYOUT("ASK_STATISTICS", end) },
	[GMEMI_WIRE_STATISTICS] = { LAYOUT("STATISTICS", end), LAYOUT("a statistic", statistic),
				    sizeof(struct gmemi_wire_statistic) },
	[GMEMI_WIRE_DETACH] = { .fixed = LAYOUT("DETACH", end) },
	[GMEMI_WIRE_RELEASE] = { .fixed = LAYOUT("RELEASE", release) },
	[GMEMI_WIRE_ERROR] = { .fixed = LAYOUT("ERROR", error) },
};

const struct gmemi_wire_type_row *gmemi_wire_row(uint32_t type)
{
	return type > 0 && type < GMEMI_WIRE_TYPES ? &rows[type] : NULL;
}
