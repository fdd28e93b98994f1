/* SPDX-License-Identifier: MIT */
/* gmem-pager: the system calls that serving needs. Any other ends the process, and the kernel's log says which it was:
 * code that makes one is not the program's. */
#include "gmem-pager.h"

#include <errno.h>
#include <string.h>

#ifdef HAVE_SECCOMP
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define UFFD_TYPE 0xaa00u /* of its ioctls, in bits 8 to 15 */

static const char *const allowed[] = {
	/* content, and memory files */
	"read",
	"write",
	"writev",
	"pread64",
	"preadv2",
	"pwrite64",
	"pwritev2",
	"lseek",
	"fadvise64",
	"fallocate",
	"ftruncate",
	"splice",
	"pipe2",
	"memfd_create",
	"mincore",
	"cachestat",
	"munmap",
	"madvise",
	"mremap",
	"brk",
	"mbind",
	/* what an fd is */
	"openat2",
	"close",
	"dup",
	"dup3",
	"fcntl",
	"fstat",
	"newfstatat",
	"statx",
	"fstatfs",
	"readlink",
	"readlinkat",
	"faccessat2",
	/* events */
	"epoll_create1",
	"epoll_ctl",
	"epoll_wait",
	"epoll_pwait",
	"eventfd2",
	"timerfd_create",
	"timerfd_settime",
	"poll",
	"ppoll",
	"pidfd_open",
	"futex",
	"clock_gettime",
	"clock_nanosleep",
	"restart_syscall",
	/* sockets */
	"accept4",
	"recvmsg",
	"sendmsg",
	"sendto",
	"getsockopt",
	"getsockname",
	"getpeername",
	"shutdown",
	"unlink",
	"unlinkat",
	/* threads and their ends */
	"set_robust_list",
	"rseq",
	"set_tid_address",
	"rt_sigprocmask",
	"rt_sigreturn",
	"sched_getaffinity",
	"sched_setaffinity",
	"sched_yield",
	"getcpu",
	"exit",
	"exit_group",
	"getpid",
	"gettid",
	"geteuid",
	"getuid",
	"getrandom",
};

static int allow_all(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		int number = seccomp_syscall_resolve_name(allowed[i]);
		int r;

		if (number < 0)
			continue; /* not on this architecture, or younger than libseccomp: nobody may call it then */
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Nothing becomes code, no process is made, and ioctls are userfaultfd's. clone3() has its flags in memory, where no filter
 * can see them: the C library takes clone() instead. Before its free() gives memory back to the kernel it looks into a file of
 * /proc, and before it makes another heap into one of /sys; it can do without either. */
static int allow_some(scmp_filter_ctx filter)
{
	int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00, UFFD_TYPE));

	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
	return r;
}

int pager_confine(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = filter ? seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) : -ENOMEM;

	if (r == 0)
		r = allow_all(filter);
	if (r == 0)
		r = allow_some(filter);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r < 0 ? pager_complain(r, "seccomp: %s; --no-seccomp does without", strerror(-r)) : 0;
}
#else
int pager_confine(void)
{
	return pager_complain(-EOPNOTSUPP, "seccomp: this gmem-pager was built without libseccomp; --no-seccomp does without");
}
#endif
