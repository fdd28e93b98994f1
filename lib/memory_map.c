/* SPDX-License-Identifier: MIT */
/* Mappings of guest memory. Few a memory: a list is enough. */
#include "memory.h"

#include <sys/mman.h>

#include "alloc.h"
#include "err.h"
#include "opts.h"
#include "range.h"
#include "sys.h"

static struct gmemi_mapping *find(struct gmem *mem, uint64_t offset, uint64_t length, bool writable)
{
	for (struct gmemi_mapping *m = mem->mappings; m; m = m->next)
		if (!m->alias && m->writable == writable && gmemi_range_contains(m->offset, m->length, offset, length))
			return m;
	return NULL;
}

/* Back to what the caller had there: an address range that nobody else gets. */
static int reserve(void *address, uint64_t length)
{
	return gmemi_sys_map(address, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0, &address);
}

static int establish(struct gmem *mem, struct gmemi_mapping *m, void *at)
{
	int protection = m->writable ? PROT_READ | PROT_WRITE : PROT_READ;
	void *address;
	int r = gmemi_sys_map(at, m->length, protection, MAP_SHARED | (at ? MAP_FIXED : 0), gmemi_memory_shared_fd(mem),
			      m->offset, &address);

	if (r < 0 && at)
		reserve(at, m->length); /* in case the kernel took the old mapping away before it failed */
	if (r < 0)
		return gmemi_failed(r, "mmap() of the memory", r == -ENOMEM ? "address space, or free huge pages?" : NULL);
	m->address = address;
	return 0;
}

/* Mappings of all memories of the VM, so that none is put over another. */

static const struct gmemi_mapping *colliding(const struct gmemi_mapping *m)
{
	const struct gmemi_mapping *other = m->mem->vm->mapped;

	while (other && !gmemi_range_overlaps((uintptr_t)other->address, other->length, (uintptr_t)m->address, m->length))
		other = other->next_of_vm;
	return other;
}

static void enter_vm(struct gmem_vm *vm, struct gmemi_mapping *m)
{
	m->next_of_vm = vm->mapped;
	vm->mapped = m;
}

static void leave_vm(struct gmem_vm *vm, struct gmemi_mapping *m)
{
	struct gmemi_mapping **link = &vm->mapped;

	gmemi_vm_lock(vm);
	while (*link != m)
		link = &(*link)->next_of_vm;
	*link = m->next_of_vm;
	gmemi_vm_unlock(vm);
}

static int check_place(const struct gmemi_mapping *m)
{
	if (!gmemi_aligned((uintptr_t)m->address, m->mem->page_size))
		return gmemi_refuse(-EINVAL, "opts->address %p is not a multiple of the page size", (void *)m->address);
	if (m->length > UINTPTR_MAX - (uintptr_t)m->address)
		return gmemi_refuse(-EINVAL, "opts->address %p leaves no room for the range", (void *)m->address);
	return 0;
}

/* Before anything is mapped there: from then on the place is taken. */
static int take_place(struct gmem_vm *vm, struct gmemi_mapping *m)
{
	const struct gmemi_mapping *other;
	const char *whose = "";
	int r = check_place(m);

	if (r < 0)
		return r;
	gmemi_vm_lock(vm);
	other = colliding(m);
	if (other)
		whose = other->mem == m->mem ? "this memory" : "another memory of this VM";
	else
		enter_vm(vm, m);
	gmemi_vm_unlock(vm);
	return other ? gmemi_refuse(-EINVAL, "opts->address %p overlaps a mapping of %s", (void *)m->address, whose) : 0;
}

static int establish_anywhere(struct gmem *mem, struct gmemi_mapping *m)
{
	int r = establish(mem, m, NULL);

	if (r < 0)
		return r;
	gmemi_vm_lock(mem->vm);
	enter_vm(mem->vm, m);
	gmemi_vm_unlock(mem->vm);
	return 0;
}

static int establish_at(struct gmem *mem, struct gmemi_mapping *m, void *at)
{
	int r;

	m->address = at;
	r = take_place(mem->vm, m);
	if (r < 0)
		return r;
	r = establish(mem, m, at);
	if (r < 0)
		leave_vm(mem->vm, m);
	return r;
}

/* A new mapping in the list; the lock is held. */
static int add_unwatched(struct gmem *mem, uint64_t offset, uint64_t length, bool writable, void *at, struct gmemi_mapping **result)
{
	struct gmemi_mapping *m;
	int r;

	if (!gmemi_memory_mappable(mem))
		return gmemi_refuse(-EOPNOTSUPP, "the memory cannot be mapped: it was created without GMEM_NEED_MAPPABLE");
	m = gmemi_alloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	*m = (struct gmemi_mapping){ .mem = mem, .offset = offset, .length = length, .writable = writable, .placed = at != NULL };
	r = at ? establish_at(mem, m, at) : establish_anywhere(mem, m);
	if (r < 0) {
		gmemi_free(m);
		return r;
	}
	m->next = mem->mappings;
	mem->mappings = m;
	*result = m;
	return 0;
}

static bool is_watched(const struct gmem *mem, uint64_t offset, uint64_t length)
{
	return mem->watch && mem->watch->covers(mem->watch, offset, length);
}

/* The same, unless touching the range there would be seen by nobody. */
static int add(struct gmem *mem, uint64_t offset, uint64_t length, bool writable, void *at, struct gmemi_mapping **result)
{
	if (is_watched(mem, offset, length))
		return gmemi_refuse(-EBADFD, "an endpoint watches a part of the range: make all mappings of it before "
				    "gmem_uffd_register()");
	return add_unwatched(mem, offset, length, writable, at, result);
}

static int find_or_add(struct gmem *mem, uint64_t offset, uint64_t length, bool writable, void *at, struct gmemi_mapping **result)
{
	struct gmemi_mapping *m = at ? NULL : find(mem, offset, length, writable);

	if (!m)
		return add(mem, offset, length, writable, at, result);
	*result = m;
	return 0;
}

int gmem_map(struct gmem *mem, uint64_t offset, uint64_t length, void **address, const struct gmem_map_opts *opts)
{
	struct gmem_map_opts o;
	struct gmemi_mapping *m;
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r == 0)
		r = GMEMI_OPTS_IN(o, opts);
	if (r == 0)
		r = gmemi_opts_flags(o.flags, GMEM_MAP_READONLY, "opts->flags");
	if (r == 0)
		r = gmemi_range_check(offset, length, mem->page_size, mem->length);
	if (r < 0)
		return r;
	if (!address)
		return gmemi_refuse(-EINVAL, "address is NULL");
	gmemi_lock(&mem->lock);
	r = find_or_add(mem, offset, length, !(o.flags & GMEM_MAP_READONLY), o.address, &m);
	if (r == 0) {
		m->told = true;
		mem->exposed = true;
		*address = gmemi_mapping_at(m, offset);
	}
	gmemi_unlock(&mem->lock);
	return r;
}

/* One that nobody has been told of is the library's own. */
static void use(struct gmemi_mapping *m)
{
	m->own = m->own || !m->told;
	m->users++;
}

/* What a mapping has to cover so that it is one the kernel makes. */
static void round_out(const struct gmem *mem, uint64_t *offset, uint64_t *length)
{
	uint64_t end = gmemi_round_down(*offset + *length + mem->page_size - 1, mem->page_size);

	*offset = gmemi_round_down(*offset, mem->page_size);
	*length = end - *offset;
}

int gmemi_mapping_hold(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **mapping)
{
	int r;

	round_out(mem, &offset, &length);
	gmemi_lock(&mem->lock);
	r = find_or_add(mem, offset, length, true, NULL, mapping);
	if (r == 0)
		use(*mapping);
	gmemi_unlock(&mem->lock);
	return r;
}

int gmemi_mapping_hold_alias(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **mapping)
{
	int r;

	round_out(mem, &offset, &length);
	gmemi_lock(&mem->lock);
	r = add_unwatched(mem, offset, length, true, NULL, mapping);
	if (r == 0) {
		(*mapping)->alias = true;
		use(*mapping);
	}
	gmemi_unlock(&mem->lock);
	return r;
}

/* The whole memory is mapped where that can be: a memslot that is bound later uses the same mapping, and what was populated
 * through it is mapped already: measured, that saves a third of the guest's first touch. */
static int add_whole(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **mapping)
{
	int r = add(mem, 0, mem->length, true, NULL, mapping);

	if (r != -ENOMEM && r != -EAGAIN && r != -EBADFD) /* EAGAIN: mlockall(), and RLIMIT_MEMLOCK; EBADFD: a part is watched */
		return r;
	gmemi_tolerated();
	round_out(mem, &offset, &length);
	return add(mem, offset, length, true, NULL, mapping);
}

int gmemi_mapping_hold_some(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping **mapping)
{
	struct gmemi_mapping *m;
	int r = 0;

	gmemi_lock(&mem->lock);
	m = find(mem, offset, length, true);
	if (!m)
		m = find(mem, offset, 1, true);
	if (!m)
		r = add_whole(mem, offset, length, &m);
	if (r == 0) {
		use(m);
		*mapping = m;
	}
	gmemi_unlock(&mem->lock);
	return r;
}

struct gmemi_mapping *gmemi_mapping_hold_present(struct gmem *mem, uint64_t offset)
{
	struct gmemi_mapping *m;

	gmemi_lock(&mem->lock);
	m = find(mem, offset, 1, true);
	if (m)
		use(m);
	gmemi_unlock(&mem->lock);
	return m;
}

int gmemi_mapping_hold_at(struct gmem *mem, uint64_t offset, uint64_t length, const void *address,
			  struct gmemi_mapping **mapping)
{
	struct gmemi_mapping *m;

	gmemi_lock(&mem->lock);
	m = mem->mappings;
	while (m && !(!m->alias && m->writable && gmemi_range_contains(m->offset, m->length, offset, length) &&
		      gmemi_mapping_at(m, offset) == address))
		m = m->next;
	if (m) {
		use(m);
		*mapping = m;
	}
	gmemi_unlock(&mem->lock);
	return m ? 0 : gmemi_refuse(-EINVAL, "opts->address is not where gmem_map() has put this range to be written");
}

/* Bytes from offset on that no mapping has, at most length: to the next one that has some. */
static uint64_t unmapped_part(const struct gmem *mem, uint64_t offset, uint64_t length)
{
	for (const struct gmemi_mapping *m = mem->mappings; m; m = m->next)
		if (!m->alias && m->offset > offset)
			length = gmemi_min(length, m->offset - offset);
	return length;
}

/* The lock is held. Everything in the range is mapped, by whatever number of mappings. */
static int map_all(struct gmem *mem, uint64_t offset, uint64_t length)
{
	uint64_t end = offset + length;

	while (offset < end) {
		struct gmemi_mapping *m = find(mem, offset, 1, true);
		int r = 0;

		if (!m && !mem->mappings)
			r = add_unwatched(mem, 0, mem->length, true, NULL, &m);
		else if (!m)
			r = add_unwatched(mem, offset, unmapped_part(mem, offset, end - offset), true, NULL, &m);
		if (r < 0)
			return r;
		offset = m->offset + m->length;
	}
	return 0;
}

static bool has_part(const struct gmemi_mapping *m, uint64_t offset, uint64_t length)
{
	return !m->alias && gmemi_range_overlaps(m->offset, m->length, offset, length);
}

static int hold_all(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping ***mappings, uint32_t *count)
{
	uint32_t found = 0;
	int r = map_all(mem, offset, length);

	if (r < 0)
		return r;
	for (const struct gmemi_mapping *m = mem->mappings; m; m = m->next)
		found += has_part(m, offset, length);
	*mappings = gmemi_alloc(found, sizeof(**mappings));
	if (!*mappings)
		return -ENOMEM;
	*count = 0;
	for (struct gmemi_mapping *m = mem->mappings; m; m = m->next) {
		if (!has_part(m, offset, length))
			continue;
		use(m);
		(*mappings)[(*count)++] = m;
	}
	return 0;
}

int gmemi_mapping_hold_all(struct gmem *mem, uint64_t offset, uint64_t length, struct gmemi_mapping ***mappings, uint32_t *count)
{
	int r;

	gmemi_lock(&mem->lock);
	r = hold_all(mem, offset, length, mappings, count);
	gmemi_unlock(&mem->lock);
	return r;
}

static int dissolve(struct gmemi_mapping *m)
{
	return m->placed ? reserve(m->address, m->length) : gmemi_sys_unmap(m->address, m->length);
}

static int remove_mapping(struct gmem *mem, struct gmemi_mapping *m)
{
	struct gmemi_mapping **link = &mem->mappings;
	int r = dissolve(m);

	if (r < 0)
		return r;
	leave_vm(mem->vm, m);
	while (*link != m)
		link = &(*link)->next;
	*link = m->next;
	gmemi_free(m);
	return 0;
}

/* Made for one call or memslot, and known to nobody else. One of the whole memory stays: the next call or memslot uses it. */
static bool is_window(const struct gmem *mem, const struct gmemi_mapping *m)
{
	return m->alias || (m->own && !m->told && m->length < mem->length);
}

void gmemi_mapping_drop(struct gmem *mem, struct gmemi_mapping *mapping)
{
	gmemi_lock(&mem->lock);
	mapping->users--;
	if (mapping->users == 0 && is_window(mem, mapping))
		(void)remove_mapping(mem, mapping); /* if it cannot be, it stays in the list for the next */
	gmemi_unlock(&mem->lock);
}

/* The caller may not know how far the library's own mappings reach, also where it was told of a part: those that reach beyond
 * the range stay. */
static bool is_meant(const struct gmemi_mapping *m, uint64_t offset, uint64_t length)
{
	if (m->alias)
		return false;
	return m->own ? gmemi_range_contains(offset, length, m->offset, m->length)
		      : gmemi_range_overlaps(offset, length, m->offset, m->length);
}

/* Nothing is unmapped unless everything in the range can be. */
static int check_unmap(struct gmem *mem, uint64_t offset, uint64_t length)
{
	for (struct gmemi_mapping *m = mem->mappings; m; m = m->next) {
		if (!is_meant(m, offset, length))
			continue;
		if (!gmemi_range_contains(offset, length, m->offset, m->length))
			return gmemi_refuse(-EINVAL, "a mapping at offset 0x%llx, length 0x%llx lies only partly in the range",
					    (unsigned long long)m->offset, (unsigned long long)m->length);
		if (m->users)
			return gmemi_refuse(-EBUSY, "a memslot, an endpoint or another call uses the mapping at offset 0x%llx",
					    (unsigned long long)m->offset);
	}
	return 0;
}

static int unmap(struct gmem *mem, uint64_t offset, uint64_t length)
{
	struct gmemi_mapping *m = mem->mappings, *next;

	for (; m; m = next) {
		int r = 0;

		next = m->next;
		if (is_meant(m, offset, length))
			r = remove_mapping(mem, m);
		if (r < 0)
			return gmemi_failed(r, "munmap() of the memory", "vm.max_map_count?");
	}
	return 0;
}

int gmem_unmap(struct gmem *mem, uint64_t offset, uint64_t length)
{
	int r;

	GMEMI_CALL();
	r = gmemi_memory_check(mem);
	if (r == 0)
		r = gmemi_range_check(offset, length, mem->page_size, mem->length);
	if (r < 0)
		return r;
	gmemi_lock(&mem->lock);
	r = check_unmap(mem, offset, length);
	if (r == 0)
		r = unmap(mem, offset, length);
	gmemi_unlock(&mem->lock);
	return r;
}

void gmemi_mapping_end(struct gmem *mem)
{
	while (mem->mappings) {
		struct gmemi_mapping *m = mem->mappings;

		mem->mappings = m->next;
		if (!m->users)
			dissolve(m); /* nobody is left to hear of a failure: the address range stays, and does no harm */
		leave_vm(mem->vm, m);
		gmemi_free(m);
	}
}
