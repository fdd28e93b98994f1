#!/bin/sh
# SPDX-License-Identifier: MIT
# The floors of the design: a file of lib/ may include only what lies below its floor, or stands in the list of exceptions. Also: only
# sys.c makes system calls, only alloc.c allocates, nothing includes a kernel header, no kernel version is read, nothing is printed.
# layers.sh BUILD-DIRECTORY
set -u
build=${1:-${GMEM_BUILD:?is the build directory}}
cd "$(dirname "$0")/../.." || exit 2
bad=0

fail() {
	echo "# FAIL $1"
	bad=1
}

check() { # name, and a file of complaints
	echo "# RUN $1"
	if [ -s "$2" ]; then
		cat "$2"
		fail "$1"
	else
		echo "# PASS $1"
	fi
}

found=$(mktemp) || exit 2
trap 'rm -f "$found"' EXIT
echo "# PLAN 3"

# Module = file name up to the first underscore. Floors as in CONTRIBUTING.md; uapi/ counts as below everything.
awk '
	BEGIN {
		split("err log alloc version mechanism", f0); split("sys opts range budget bitmap pagemap parallel claim gate json firecracker wire", f1); split("vm", f2)
		split("fill memory source", f3); split("fault populate prefault convert", f4); split("pager channel vcpu", f5)
		split("guard server wset", f6)
		for (i in f0) floor[f0[i]] = 0; for (i in f1) floor[f1[i]] = 1; for (i in f2) floor[f2[i]] = 2
		for (i in f3) floor[f3[i]] = 3; for (i in f4) floor[f4[i]] = 4; for (i in f5) floor[f5[i]] = 5
		for (i in f6) floor[f6[i]] = 6
		# Neighbours that may be called: from to.
		ok["err log"] = ok["alloc err"] = ok["pagemap sys"] = ok["claim range"] = ok["claim sys"] = ok["claim gate"] = ok["gate sys"] = ok["parallel sys"] = ok["parallel range"] = ok["firecracker json"] = ok["fill memory"] = ok["prefault populate"] = 1
	}
	function module(path) { sub(/.*\//, "", path); sub(/[._].*/, "", path); return path }
	/^#include "/ {
		split($0, q, "\""); if (q[2] ~ /^uapi\//) next
		from = module(FILENAME); to = module(q[2])
		if (from == to) next
		if (!(from in floor)) { print FILENAME ": module " from " has no floor"; next }
		if (!(to in floor)) { print FILENAME ": module " to " has no floor"; next }
		if (floor[to] < floor[from] || (from " " to) in ok) next
		print FILENAME ": floor " floor[from] " includes " q[2] " of floor " floor[to]
	}' lib/*.[ch] > "$found"
check "every include goes down" "$found"

grep -nE '^#include <(linux|asm)' lib/*.[ch] lib/uapi/*.h include/gmem.h include/gmem/*.h > "$found"
check "no kernel header in lib and include" "$found"

# What an object takes from libc shows what it does: all but sys.o and alloc.o live on memory, strings and mutexes.
for object in "$build"/static/lib/*.o; do
	case ${object##*/} in
	sys_event.o) allowed='clock_gettime|epoll_create1|epoll_ctl|epoll_wait|eventfd|getpid|read|sched_yield|syscall|timerfd_create|timerfd_settime|write|__errno_location' ;;
	sys_socket.o) allowed='accept4|syscall|recvmsg|sendmsg|getsockopt|setsockopt|getpeername|ppoll|shutdown|__errno_location' ;;
	sys.o) allowed='open|openat|close|fcntl|memfd_create|ftruncate|getrlimit|lseek|fstat|fstatfs|read|pread|pwrite|posix_fadvise|fallocate|sysconf|mmap|munmap|madvise|mprotect|mincore|ioctl|syscall|__errno_location|readlink|geteuid|pipe2|splice|sigfillset|sigdelset|pthread_sigmask|pthread_create|prctl|pthread_join' ;;
	alloc.o) allowed='calloc|free' ;;
	gate.o) allowed='pthread_mutexattr_init|pthread_mutexattr_settype|pthread_mutexattr_destroy' ;;
	*) allowed='none' ;;
	esac
	nm -u "$object" | awk -v object="${object##*/}" -v allowed="^($allowed)(64)?$" '
		{ name = $2; sub(/^__/, "", name); sub(/_chk$/, "", name) }
		$2 ~ /^(gmemi?_|__(asan|ubsan|tsan)_|_GLOBAL_OFFSET_TABLE_$|__stack_chk_fail$|__tls_get_addr$)/ { next }
		name ~ /^(mem(cpy|set|cmp|move|chr)|strn?len|strstr|v?snprintf|pthread_(mutex_(init|lock|unlock|destroy)|rwlock_(init|rdlock|wrlock|unlock|destroy)))$/ { next }
		$2 !~ allowed && name !~ allowed { print object ": " $2 }'
done > "$found"
check "system calls in sys.c and allocation in alloc.c alone" "$found"

exit $bad
