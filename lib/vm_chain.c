/* SPDX-License-Identifier: MIT */
#include "vm_chain.h"

#include <stdio.h>

#include "err.h"

static const struct gmemi_chain_row rows[] = {
	{ GMEM_TASK_CREATE, GMEM_MECH_GUEST_MEMFD, GMEM_FEATURE_GUEST_MEMFD, GMEMI_ON(GUEST_MEMFD), 0, { -ENOTTY, -ENOSYS } },
	{ GMEM_TASK_CREATE, GMEM_MECH_GUEST_MEMFD_PAIR, GMEM_FEATURE_GUEST_MEMFD, GMEMI_ON(GUEST_MEMFD), 0, { -ENOTTY, -ENOSYS } },
	{ GMEM_TASK_CREATE, GMEM_MECH_HUGETLB, GMEM_FEATURE_MEMFD, GMEMI_ON(HUGETLB), 0, { -ENOSYS } },
	{ GMEM_TASK_CREATE, GMEM_MECH_MEMFD, GMEM_FEATURE_MEMFD, GMEMI_ON(MEMFD), 0, { -ENOSYS } },

	{ GMEM_TASK_POPULATE, GMEM_MECH_WRITE, GMEM_FEATURE_GUEST_MEMFD_WRITE, GMEMI_ON(GUEST_MEMFD), 0, { -ENODEV, -ESPIPE } },
	{ GMEM_TASK_POPULATE, GMEM_MECH_WRITE, 0, GMEMI_ON(MEMFD), 0, { -EOPNOTSUPP, -ESPIPE } },
	{ GMEM_TASK_POPULATE, GMEM_MECH_SPLICE, 0, GMEMI_ON(MEMFD), 0, { -EINVAL, -ENOSYS } },
	{ GMEM_TASK_POPULATE, GMEM_MECH_MAPPING, GMEM_FEATURE_GUEST_MEMFD_INIT_SHARED, GMEMI_ON(GUEST_MEMFD), 0, { -ENODEV } },
	{ GMEM_TASK_POPULATE, GMEM_MECH_MAPPING, 0, GMEMI_ON(MEMFD), 0, { -ENODEV } },
	{ GMEM_TASK_POPULATE, GMEM_MECH_MAPPING, 0, GMEMI_ON(HUGETLB), 0, { -ENODEV } },

	{ GMEM_TASK_POPULATE_PRIVATE, GMEM_MECH_IN_PLACE, GMEM_FEATURE_ATTRIBUTES_FILE, GMEMI_ON(GUEST_MEMFD), 0, { -ENOTTY } },
	{ GMEM_TASK_POPULATE_PRIVATE, GMEM_MECH_SNP_UPDATE, GMEM_FEATURE_SEV_COMMANDS, GMEMI_ON(GUEST_MEMFD), GMEM_VM_SNP, { -ENOTTY } },
	{ GMEM_TASK_POPULATE_PRIVATE, GMEM_MECH_TDX_REGION, GMEM_FEATURE_VM_TDX, GMEMI_ON(GUEST_MEMFD), GMEM_VM_TDX, { -ENOTTY } },
	{ GMEM_TASK_POPULATE_PRIVATE, GMEM_MECH_POPULATE_IOCTL, GMEM_FEATURE_POPULATE_IOCTL, GMEMI_ON(GUEST_MEMFD), 0, { -ENOTTY } },

	{ GMEM_TASK_PREFAULT, GMEM_MECH_PRE_FAULT, GMEM_FEATURE_PRE_FAULT, 0, 0, { -EOPNOTSUPP, -ENOTTY } },
	{ GMEM_TASK_PREFAULT, GMEM_MECH_MAP_MEMORY, GMEM_FEATURE_MAP_MEMORY, 0, 0, { -EOPNOTSUPP, -ENOTTY } },
	{ GMEM_TASK_PREFAULT, GMEM_MECH_MAP_MEMORY_V1, GMEM_FEATURE_MAP_MEMORY_V1, 0, 0, { -EOPNOTSUPP, -ENOTTY } },
	{ GMEM_TASK_PREFAULT, GMEM_MECH_HOST_FAULT, 0, 0, 0, { 0 } },

	{ GMEM_TASK_RESOLVE, GMEM_MECH_UFFD_CONTINUE, GMEM_FEATURE_UFFD_GUEST_MEMFD_MINOR, GMEMI_ON(GUEST_MEMFD), 0, { 0 } },
	{ GMEM_TASK_RESOLVE, GMEM_MECH_UFFD_CONTINUE, GMEM_FEATURE_UFFD_MINOR_MEMFD, GMEMI_ON(MEMFD), 0, { 0 } },
	{ GMEM_TASK_RESOLVE, GMEM_MECH_UFFD_CONTINUE, GMEM_FEATURE_UFFD_MINOR_HUGETLB, GMEMI_ON(HUGETLB), 0, { 0 } },
	{ GMEM_TASK_RESOLVE, GMEM_MECH_UFFD_COPY, GMEM_FEATURE_UFFD_GUEST_MEMFD_MISSING, GMEMI_ON(GUEST_MEMFD), 0, { 0 } },
	{ GMEM_TASK_RESOLVE, GMEM_MECH_UFFD_COPY, GMEM_FEATURE_UFFD_MISSING_MEMFD, GMEMI_ON(MEMFD), 0, { 0 } },
	{ GMEM_TASK_RESOLVE, GMEM_MECH_UFFD_COPY, GMEM_FEATURE_UFFD_MISSING_HUGETLB, GMEMI_ON(HUGETLB), 0, { 0 } },
	{ GMEM_TASK_RESOLVE, GMEM_MECH_KVM_USERFAULT, GMEM_FEATURE_KVM_USERFAULT, 0, 0, { 0 } },

	{ GMEM_TASK_CONVERT, GMEM_MECH_ATTRIBUTES_FILE, GMEM_FEATURE_ATTRIBUTES_FILE, GMEMI_ON(GUEST_MEMFD), 0, { -ENOTTY } },
	{ GMEM_TASK_CONVERT, GMEM_MECH_ATTRIBUTES_VM, GMEM_FEATURE_ATTRIBUTES_VM, GMEMI_ON(GUEST_MEMFD), 0, { -ENOTTY } },

	{ GMEM_TASK_DISCARD, GMEM_MECH_PUNCH_HOLE, 0, 0, 0, { -EOPNOTSUPP } },
	{ GMEM_TASK_DISCARD, GMEM_MECH_MADV_REMOVE, 0, 0, 0, { 0 } },
};

#define COUNT (sizeof(rows) / sizeof(rows[0]))
_Static_assert(COUNT <= GMEMI_ROWS, "gmem_vm.demoted has room for every row");

const struct gmemi_chain_row *gmemi_chain_row(enum gmem_task task, uint32_t index)
{
	for (size_t i = 0; i < COUNT; i++)
		if (rows[i].task == task && index-- == 0)
			return &rows[i];
	return NULL;
}

enum gmem_backing gmemi_chain_backing(const struct gmemi_chain_row *row)
{
	bool one = row->backings && !(row->backings & (row->backings - 1));

	return one ? (enum gmem_backing)__builtin_ctz(row->backings) : GMEM_BACKING_AUTO;
}

enum gmem_backing gmemi_backing_of(enum gmem_mechanism made_by)
{
	switch (made_by) {
	case GMEM_MECH_GUEST_MEMFD:
	case GMEM_MECH_GUEST_MEMFD_PAIR:
		return GMEM_BACKING_GUEST_MEMFD;
	case GMEM_MECH_HUGETLB:
		return GMEM_BACKING_HUGETLB;
	case GMEM_MECH_MEMFD:
		return GMEM_BACKING_MEMFD;
	default:
		return GMEM_BACKING_AUTO;
	}
}

static struct gmemi_judgement passed_over(const char *why)
{
	return (struct gmemi_judgement){ .state = GMEM_ABSENT, .why = why };
}

static const char *why_not(const struct gmemi_verdict *verdict)
{
	if (verdict->hint)
		return verdict->hint;
	return verdict->state == GMEM_ABSENT ? "this kernel or this VM has it not" : "could not be asked";
}

static struct gmemi_judgement by_feature(struct gmem_vm *vm, enum gmem_feature feature)
{
	struct gmemi_verdict verdict = { .state = GMEM_PRESENT };

	if (feature)
		verdict = gmemi_vm_verdict(vm, feature);
	return (struct gmemi_judgement){
		.usable = verdict.state == GMEM_PRESENT,
		.feature = feature,
		.state = verdict.state,
		.error = verdict.error,
		.why = verdict.state == GMEM_PRESENT ? NULL : why_not(&verdict),
	};
}

/* Serving a guest's faults takes an endpoint that hears KVM's. */
static struct gmemi_judgement faults_heard(struct gmem_vm *vm)
{
	return by_feature(vm, vm->fd >= 0 ? GMEM_FEATURE_UFFD_KERNEL_FAULTS : GMEM_FEATURE_UFFD);
}

/* Why this way could never serve the needs, whatever the kernel; NULL = it could. */
static const char *never_serves(const struct gmemi_chain_row *row, uint64_t need)
{
	for (uint64_t bit = 1; bit <= need; bit <<= 1) {
		enum gmem_feature feature;
		const char *never = need & bit ? gmemi_need_feature(row->mechanism, bit, &feature) : NULL;

		if (never)
			return never;
	}
	return NULL;
}

/* Every need has to be served. */
static struct gmemi_judgement by_needs(struct gmem_vm *vm, const struct gmemi_chain_row *row, uint64_t need)
{
	struct gmemi_judgement judgement = by_feature(vm, row->feature);

	for (uint64_t bit = 1; judgement.usable && bit <= need; bit <<= 1) {
		enum gmem_feature feature = GMEM_FEATURE_NONE;

		if (need & bit)
			gmemi_need_feature(row->mechanism, bit, &feature);
		if (feature)
			judgement = by_feature(vm, feature);
	}
	return judgement.usable && need & GMEM_NEED_LAZY ? faults_heard(vm) : judgement;
}

/* Ways to create that are only for those who ask for what sets them apart. */
static const char *not_asked_for(const struct gmemi_chain_row *row, uint64_t need)
{
	if (row->mechanism == GMEM_MECH_HUGETLB && !(need & (GMEM_NEED_HUGE_2M | GMEM_NEED_HUGE_1G)))
		return "huge pages are not asked for";
	if (row->mechanism == GMEM_MECH_GUEST_MEMFD_PAIR && !(need & GMEM_NEED_PRIVATE))
		return "private memory is not asked for";
	return NULL;
}

static struct gmemi_judgement judge_create(struct gmem_vm *vm, const struct gmemi_chain_row *row, uint64_t need)
{
	const char *why = not_asked_for(row, need);

	if (!why)
		why = never_serves(row, need);
	if (!why && vm->kind == GMEM_VM_PKVM && row->backings & GMEMI_ON(GUEST_MEMFD))
		why = "a pKVM guest cannot use it";
	return why ? passed_over(why) : by_needs(vm, row, need);
}

int gmemi_chain_serves(struct gmem_vm *vm, enum gmem_mechanism way, uint64_t need)
{
	const struct gmemi_chain_row *row = rows;
	struct gmemi_judgement judgement;
	const char *never;

	while (row->task != GMEM_TASK_CREATE || row->mechanism != way)
		row++;
	never = never_serves(row, need);
	judgement = never ? passed_over(never) : by_needs(vm, row, need);
	if (judgement.usable)
		return 0;
	if (judgement.state != GMEM_ABSENT && judgement.error)
		return gmemi_failed(judgement.error, "finding out what the file can serve", judgement.why);
	return gmemi_refuse(-EOPNOTSUPP, "%s: %s (%s)", gmem_mechanism_name(way), judgement.why,
			    judgement.feature ? gmem_feature_name(judgement.feature) : "never");
}

static int demoted(struct gmem_vm *vm, const struct gmemi_chain_row *row)
{
	int error;

	gmemi_vm_lock(vm);
	error = vm->demoted[row - rows];
	gmemi_vm_unlock(vm);
	return error;
}

static bool uses_uffd(const struct gmemi_chain_row *row)
{
	return row->mechanism == GMEM_MECH_UFFD_CONTINUE || row->mechanism == GMEM_MECH_UFFD_COPY;
}

static struct gmemi_judgement judge_use(struct gmem_vm *vm, const struct gmemi_chain_row *row, const struct gmemi_wish *wish)
{
	bool proven = row->mechanism == GMEM_MECH_MAPPING && wish->mappable;
	struct gmemi_judgement judgement = by_feature(vm, proven ? GMEM_FEATURE_NONE : row->feature);
	uint64_t need = wish->need;

	if (row->mechanism == GMEM_MECH_SPLICE && !wish->splices)
		return passed_over("only from a file or pipe, with GMEM_POPULATE_KEEP_ZEROS, into memory without a page map");
	if (row->mechanism == GMEM_MECH_MAPPING && row->feature && !(need & (GMEM_NEED_MAPPABLE | GMEM_NEED_LAZY)))
		return passed_over("the memory cannot be mapped");
	if (row->task == GMEM_TASK_POPULATE && row->feature && need & GMEM_NEED_PRIVATE && !(need & GMEM_NEED_MAPPABLE))
		return passed_over("the host cannot reach private memory");
	return judgement.usable && uses_uffd(row) ? faults_heard(vm) : judgement;
}

struct gmemi_judgement gmemi_chain_judge(struct gmem_vm *vm, const struct gmemi_chain_row *row, const struct gmemi_wish *wish)
{
	if (row->backings && wish->backing && !(row->backings & 1u << wish->backing))
		return passed_over(row->task == GMEM_TASK_CREATE ? "another backing was asked for" : "for memory of another backing");
	if (row->kind && row->kind != vm->kind)
		return passed_over(vm->kind ? "for a VM of another kind" : "for one kind of VM: say the kind when opening it");
	if (wish->forced && wish->forced != row->mechanism)
		return passed_over("another mechanism was asked for");
	if (demoted(vm, row))
		return passed_over("demoted at run time: it failed as if it were absent");
	if (row->task == GMEM_TASK_CREATE)
		return judge_create(vm, row, wish->need);
	return judge_use(vm, row, wish);
}

static bool is_short(const struct gmemi_judgement *judgement)
{
	int error = judgement->error;

	if (judgement->usable || judgement->state != GMEM_UNDETERMINED)
		return false;
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EINTR || error == -EAGAIN;
}

const struct gmemi_chain_row *gmemi_chain_pick_for_good(struct gmem_vm *vm, enum gmem_task task, const struct gmemi_wish *wish,
							const struct gmemi_chain_row *after, int *shortage)
{
	for (const struct gmemi_chain_row *row = after ? after + 1 : rows; row < rows + COUNT; row++) {
		struct gmemi_judgement judgement;

		if (row->task != task)
			continue;
		judgement = gmemi_chain_judge(vm, row, wish);
		if (judgement.usable)
			return row;
		if (shortage && is_short(&judgement)) {
			*shortage = gmemi_failed(judgement.error, "asking for a better way", judgement.why);
			return NULL;
		}
	}
	return NULL;
}

const struct gmemi_chain_row *gmemi_chain_pick(struct gmem_vm *vm, enum gmem_task task, const struct gmemi_wish *wish,
					       const struct gmemi_chain_row *after)
{
	return gmemi_chain_pick_for_good(vm, task, wish, after, NULL);
}

bool gmemi_chain_means_absent(const struct gmemi_chain_row *row, int error)
{
	for (size_t i = 0; i < GMEMI_ABSENT_CODES; i++)
		if (row->absent[i] == error)
			return error != 0;
	return false;
}

bool gmemi_chain_demote(struct gmem_vm *vm, const struct gmemi_chain_row *row, int error)
{
	const char *name = gmemi_error_name(error);

	if (!gmemi_chain_means_absent(row, error))
		return false;
	gmemi_tolerated();
	gmemi_vm_lock(vm);
	vm->demoted[row - rows] = error;
	gmemi_vm_unlock(vm);
	gmemi_note(GMEM_LOG_WARNING, "%s: %s is out of use for this VM: it failed with %s", gmemi_entered(),
		  gmem_mechanism_name(row->mechanism), name ? name : "a code of the kernel");
	return true;
}

/* " guest_memfd: this kernel or this VM has it not (no_direct_map);" */
static size_t reason(char *text, size_t room, const struct gmemi_chain_row *row, const struct gmemi_judgement *judgement)
{
	int used = snprintf(text, room, " %s: %s%s%s%s;", gmem_mechanism_name(row->mechanism), judgement->why,
			    judgement->feature ? " (" : "", judgement->feature ? gmem_feature_name(judgement->feature) : "",
			    judgement->feature ? ")" : "");

	return used < 0 || (size_t)used >= room ? room - 1 : (size_t)used;
}

/* Rows that nobody asked for do not explain why what was asked for cannot be had. */
static bool matters(const struct gmemi_chain_row *row, const struct gmemi_wish *wish)
{
	if (row->task == GMEM_TASK_CREATE && not_asked_for(row, wish->need))
		return false;
	if (wish->forced == row->mechanism)
		return true;
	return !wish->backing || !row->backings || row->backings & 1u << wish->backing;
}

int gmemi_chain_refuse(struct gmem_vm *vm, enum gmem_task task, const struct gmemi_wish *wish)
{
	const struct gmemi_chain_row *row;
	char text[300] = "";
	size_t used = 0;
	int withheld = 0;

	for (uint32_t i = 0; (row = gmemi_chain_row(task, i)); i++) {
		struct gmemi_judgement judgement = gmemi_chain_judge(vm, row, wish);

		if (judgement.usable || !matters(row, wish))
			continue;
		used += reason(text + used, sizeof(text) - used, row, &judgement);
		if (judgement.state != GMEM_ABSENT && !withheld)
			withheld = judgement.error;
	}
	if (used)
		text[used - 1] = '\0';
	if (withheld)
		return gmemi_failed(withheld, "finding a way", text + (*text == ' '));
	return gmemi_refuse(-EOPNOTSUPP, "nothing here can do it:%s", text);
}
