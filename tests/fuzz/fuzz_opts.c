/* SPDX-License-Identifier: MIT */
/* Options structs from raw bytes, through every public call that takes one: whatever they say, the result is a documented code, the outputs
 * of a failed call are untouched, and nothing leaks. With libFuzzer (clang -fsanitize=fuzzer), or alone: ROUNDS pseudo-random inputs. */
#include <gmem.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LENGTH (UINT64_C(1) << 20)
#define ROOM 128 /* more than any options struct */

static struct gmem_vm *vm;

static void expect(int condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "fuzz_opts: %s: %s\n", what, gmem_last_error());
	abort();
}

static int is_documented(int r)
{
	switch (r) {
	case 0:
	case -EINVAL:
	case -E2BIG:
	case -EOPNOTSUPP:
	case -ENOMEM:
	case -EACCES: /* withheld: an ordinary user's answer */
	case -EPERM:
	case -ECANCELED:
		return 1;
	default:
		return 0;
	}
}

/* Raw bytes as a struct whose size member is no more than what is really there. */
static const void *as_opts(const uint8_t *data, size_t size, uint64_t *room)
{
	uint64_t claimed;

	memset(room, 0, ROOM);
	memcpy(room, data, size < ROOM ? size : ROOM);
	claimed = room[0];
	if (claimed > ROOM && claimed <= 4096)
		room[0] = ROOM;
	return room;
}

static void try_open(const void *opts)
{
	struct gmem_vm *one = NULL;
	int r = gmem_vm_open(-1, &one, opts);

	expect(is_documented(r) && !one == !!r, "gmem_vm_open");
	gmem_vm_close(one);
}

static void try_create(const void *opts)
{
	struct gmem_create_opts o;
	struct gmem *one = NULL;
	int r;

	/* A pointer from raw bytes would be the caller's bug, not an input. */
	memcpy(&o, opts, sizeof(o));
	o.name = NULL;
	if (o.size > sizeof(o) && o.size <= 4096)
		o.size = sizeof(o);
	r = gmem_create(vm, LENGTH, &one, &o);
	expect(is_documented(r) && !one == !!r, "gmem_create");
	gmem_destroy(one);
}

static void try_map(struct gmem *mem, const void *opts)
{
	struct gmem_map_opts o;
	void *address = NULL;
	int r;

	memcpy(&o, opts, sizeof(o));
	o.address = NULL;
	if (o.size > sizeof(o) && o.size <= 4096)
		o.size = sizeof(o);
	r = gmem_map(mem, 0, LENGTH, &address, &o);
	expect(is_documented(r) && !address == !!r, "gmem_map");
}

static void try_bind(struct gmem *mem, const void *opts)
{
	int r = gmem_bind(mem, 0, 0, 0, LENGTH, opts);

	expect(is_documented(r), "gmem_bind");
	if (r == 0)
		expect(gmem_unbind(mem, 0) == 0, "gmem_unbind");
}

static void try_populate(struct gmem *mem, const void *opts)
{
	static const unsigned char content[LENGTH] = { 1 };
	struct gmem_populate_opts o;
	uint64_t done = UINT64_MAX;
	int r;

	memcpy(&o, opts, sizeof(o));
	o.progress = NULL;
	o.user = NULL;
	if (o.size > sizeof(o) && o.size <= 4096)
		o.size = sizeof(o);
	r = gmem_populate(mem, 0, LENGTH, content, &done, &o);
	expect(is_documented(r) && done == (r ? 0 : LENGTH), "gmem_populate");
}

static void try_import(const struct gmem *mem, const void *opts)
{
	struct gmem *one = NULL;
	int r = gmem_import(vm, gmem_get_fd(mem, GMEM_FD_MEMORY), 0, &one, opts);

	expect(is_documented(r) && !one == !!r, "gmem_import");
	gmem_destroy(one);
}

static void try_discard(struct gmem *mem, const void *opts)
{
	uint64_t done = UINT64_MAX;
	int r = gmem_discard(mem, 0, LENGTH, &done, opts);

	expect(is_documented(r) && done == (r ? 0 : LENGTH), "gmem_discard");
}

static void try_set_nodes(struct gmem *mem, const void *opts)
{
	const uint64_t node_0 = 1;

	expect(is_documented(gmem_set_nodes(mem, 0, LENGTH, &node_0, 1, opts)), "gmem_set_nodes");
}

static void try_prefault(struct gmem *mem, const void *opts)
{
	struct gmem_prefault_opts o;
	uint64_t done = UINT64_MAX;
	int r;

	memcpy(&o, opts, sizeof(o));
	o.progress = NULL;
	o.user = NULL;
	if (o.size > sizeof(o) && o.size <= 4096)
		o.size = sizeof(o);
	r = gmem_prefault(mem, 0, LENGTH, &done, &o);
	expect(is_documented(r) && done == (r ? 0 : LENGTH), "gmem_prefault");
}

static int no_data(void *user, uint64_t offset, uint64_t length, void *buffer, uint64_t flags)
{
	(void)user;
	(void)offset;
	(void)length;
	(void)buffer;
	(void)flags;
	return -ENODATA;
}

/* The functions are real, or none. */
static void try_source(const uint64_t *opts)
{
	struct gmem_source_ops ops = { .size = opts[0] };
	struct gmem_source *source = NULL;
	int r;

	if (opts[1] % 2)
		ops.read = no_data;
	if (ops.size > sizeof(ops) && ops.size <= 4096)
		ops.size = sizeof(ops);
	r = gmem_source_create(&ops, NULL, &source);
	expect(is_documented(r) && !source == !!r, "gmem_source_create");
	gmem_source_destroy(source);
}

static void try_channel(const void *opts)
{
	struct gmem_channel_open_opts o;
	struct gmem_channel *one = NULL;
	int ends[2], r;

	memcpy(&o, opts, sizeof(o));
	o.identity = NULL;
	if (o.size > sizeof(o) && o.size <= 4096)
		o.size = sizeof(o);
	expect(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "socketpair()");
	r = gmem_channel_open(ends[0], &one, &o);
	expect(is_documented(r) && !one == !!r, "gmem_channel_open");
	gmem_channel_close(one);
	close(ends[0]);
	close(ends[1]);
}

static void try_info(struct gmem *mem, const uint64_t *opts)
{
	uint64_t info[ROOM / 8], step[ROOM / 8], probe[ROOM / 8], run[ROOM / 8];
	int r;

	memcpy(info, opts, ROOM);
	memcpy(step, opts, ROOM);
	memcpy(probe, opts, ROOM);
	memcpy(run, opts, ROOM);
	expect(is_documented(gmem_query(mem, (struct gmem_info *)info)) && info[0] == opts[0], "gmem_query");
	expect(is_documented(gmem_query_run(mem, 0, (struct gmem_run *)run)) && run[0] == opts[0], "gmem_query_run");
	r = gmem_vm_explain(vm, (enum gmem_task)(opts[1] % 9), opts[2] % 256, (uint32_t)(opts[4] % 5), (uint32_t)(opts[3] % 6),
			    (struct gmem_step *)step);
	expect((r == 1 || is_documented(r)) && step[0] == opts[0], "gmem_vm_explain");
	r = gmem_vm_probe(vm, (enum gmem_feature)(opts[1] % 64), (struct gmem_probe *)probe);
	expect((r >= 0 && r <= 3) || is_documented(r), "gmem_vm_probe");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t room[ROOM / 8];
	const void *opts = as_opts(data, size, room);
	struct gmem *mem;

	if (!vm)
		expect(gmem_vm_open(-1, &vm, NULL) == 0, "opening");
	try_open(opts);
	try_create(opts);
	expect(gmem_create(vm, LENGTH, &mem, NULL) == 0, "creating");
	try_map(mem, opts);
	try_bind(mem, opts);
	try_populate(mem, opts);
	try_import(mem, opts);
	try_discard(mem, opts);
	try_set_nodes(mem, opts);
	try_prefault(mem, opts);
	try_source(room);
	try_channel(opts);
	try_info(mem, room);
	gmem_destroy(mem);
	return 0;
}

#ifdef ROUNDS
/* Half plausible (sizes near the real ones, few bits set), half noise. */
static void make_input(uint8_t *data, size_t size, unsigned int *seed)
{
	uint64_t claimed = (uint64_t)(rand_r(seed) % 80);
	int density = rand_r(seed) % 16;

	for (size_t i = 0; i < size; i++)
		data[i] = rand_r(seed) % 16 < density ? (uint8_t)rand_r(seed) : 0;
	if (rand_r(seed) % 4)
		memcpy(data, &claimed, sizeof(claimed));
}

int main(void)
{
	unsigned int seed = 20260101;
	uint8_t data[ROOM];

	printf("# PLAN 1\n# RUN options from raw bytes\n");
	for (int i = 0; i < ROUNDS; i++) {
		make_input(data, sizeof(data), &seed);
		LLVMFuzzerTestOneInput(data, sizeof(data));
	}
	gmem_vm_close(vm);
	printf("# PASS options from raw bytes\n");
	return 0;
}
#endif
