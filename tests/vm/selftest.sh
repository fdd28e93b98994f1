#!/bin/bash
# SPDX-License-Identifier: MIT
# What the matrix says when something is wrong: reports that must be judged wrong, machines that never come to their end, downloads that
# fail. Speaks the runner's protocol. Wants `make deps-vm`, root, and for the last part the Debian archive or what was kept of it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
status_of_all=0

# expect NAME STATUS WORDS COMMAND...: this status, these words in the output, and no machine left running.
expect() {
	local name=$1 want=$2 words=$3 got=0
	shift 3
	echo "# RUN $name"
	"$@" > "$dir/out" 2>&1 || got=$?
	if [ "$got" -ne "$want" ] || ! grep -qF -e "$words" "$dir/out" || pgrep -f "initrd $dir" > /dev/null; then
		echo "expected status $want and '$words', and nothing left running; got status $got and:"
		sed 's/^/  /' "$dir/out"
		echo "# FAIL $name"
		status_of_all=1
		return
	fi
	echo "# PASS $name"
}

echo "# PLAN 32"

# --- judge -----------------------------------------------------------------------------------------------------------------------------

cat > "$dir/expectations" << 'END'
feature kvm present forbidden
skip (root|nobody) unit/test_a: two: no such thing .*
END

# report [SED-EXPRESSION]: a report in which all is well, changed.
report() {
	sed -E "${1:-}" << 'END' > "$dir/report"
@@ boot 7.3
@@ begin probe root gmem-info
  {"name": "kvm", "number": 1, "state": "present", "advice": ""},
@@ end 0 1
@@ begin probe nobody gmem-info
  {"name": "kvm", "number": 1, "state": "forbidden", "advice": ""},
@@ end 0 1
@@ begin create root unit/test_a
# PLAN 2
# RUN one
# PASS one
# RUN two
# SKIP two: no such thing here
@@ end 0 3
@@ log
[    0.1] all quiet
@@ done
END
}

judged() { # name, status, words, change
	report "$4"
	expect "judge: $1" "$2" "$3" "$here/judge" -v whole=1 "$dir/expectations" "$dir/report"
}

judged "all is well" 0 "= create 1 0 1 3" ''
judged "a test failed" 1 "! root unit/test_a: failed: one" 's/# PASS one/# FAIL one/; s/end 0 3/end 1 3/'
judged "a crash" 1 "killed by signal 11 in two" '/# SKIP/d; s/end 0 3/end 139 3/'
judged "a program that took too long" 1 "ended for taking too long" '/# SKIP/d; s/end 0 3/end 137 3/'
judged "fewer results than announced" 1 "announced 3 results, reported 2" 's/PLAN 2/PLAN 3/'
judged "no results" 1 "announced no results" '/PLAN/d'
judged "a status without a failure" 1 "exit status 3" 's/end 0 3/end 3 3/'
judged "another skip than expected" 1 "skipped, which is not expected: root unit/test_a: two: too late" 's/no such thing here/too late/'
judged "no skip where one was expected" 1 "expected to be skipped, and was not" 's/# SKIP two.*/# PASS two/'
judged "a feature in another state" 1 "nobody: feature kvm is present, expected forbidden" 's/"forbidden"/"present"/'
judged "a feature that nobody listed" 1 "feature warp is present, and no line says" 's/"kvm", "number": 1, "state": "present"/"warp", "number": 9, "state": "present"/'
judged "a feature that was not told of" 1 "root: feature kvm: gmem-info did not tell of it" '/"present"/d'
judged "gmem-info failed" 1 "root gmem-info: exit status 2" '4s/end 0/end 2/'
judged "a module is missing" 1 "the module kvm cannot be loaded" 's/^(@@ begin probe root.*)/@@ no module kvm\n\1/'
judged "the kernel warned" 1 "the kernel says: [    0.1] WARNING: at mm/shmem.c" 's/all quiet/WARNING: at mm\/shmem.c/'
judged "a task hung" 1 "blocked for more than" 's/all quiet/INFO: task sh blocked for more than 120 seconds/'
judged "no end" 1 "did not come to its end" '/@@ done/d'
judged "no beginning" 1 "did not come up" 's/.*//'

# --- boot ------------------------------------------------------------------------------------------------------------------------------

# A machine whose first program is this script.
machine() { # name; script on stdin
	local root=$dir/root-$1 busybox=${XDG_CACHE_HOME:-$HOME/.cache}/libgmem/busybox-amd64/bin/busybox
	mkdir -p "$root"/{bin,dev,proc,sys}
	cp "$busybox" "$root/bin/busybox"
	{ echo '#!/bin/busybox sh' && cat; } > "$root/init"
	chmod 755 "$root" "$root/init"
	(cd "$root" && find . -print0 | cpio --null --create --format=newc --owner=0:0 --quiet) | gzip -1 > "$dir/$1"
}

machine hang << 'END'
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
stty -F /dev/ttyS1 raw
echo "@@ boot" > /dev/ttyS1
exec sleep 1000000
END
machine panic << 'END'
exit 1
END
machine silent << 'END'
exec /bin/busybox sleep 1000000
END

kernel=$("$here/kernel" amd64 7.3)
boot() { # initial file system, environment...
	local initial=$dir/$1
	shift
	env "$@" "$here/boot" amd64 "${vmlinuz:-$kernel/vmlinuz}" "$initial" "$dir/machine"
}

expect "boot: a machine that hangs is ended" 1 "still running after 30 s: ended" boot hang SECONDS_LIMIT=30
expect "boot: a panic before the first program said a word" 1 "the machine did not come up" boot panic
grep -qa 'Kernel panic' "$dir/machine/console" || { echo "the console has no panic"; status_of_all=1; }
expect "boot: a machine that says nothing gets a second try" 1 "once more" boot silent BOOT_SECONDS=15
boot_and_end() {
	local ended=0
	env SECONDS_LIMIT=60 "$here/boot" amd64 "$kernel/vmlinuz" "$dir/hang" "$dir/machine" &
	until grep -qa '@@ boot' "$dir/machine/report" 2> /dev/null; do sleep 1; done
	kill $! && wait $! || ended=$?
	echo "it ended with $ended"
	return "$ended"
}
rm -f "$dir/machine/report"
expect "boot: one that is ended takes its machine with it" 130 "it ended with 130" boot_and_end
head -c 100000 /dev/zero > "$dir/zeros"
vmlinuz=$dir/zeros expect "boot: a kernel that is none" 1 "the machine did not come up" boot silent BOOT_SECONDS=10
mkdir "$dir/bin"
for tool in bash basename dirname grep mkdir env; do ln -s "$(command -v "$tool")" "$dir/bin/"; done
expect "boot: no qemu" 1 "qemu-system-x86_64 is not installed: make deps-vm" boot hang PATH="$dir/bin"

# --- what is fetched -------------------------------------------------------------------------------------------------------------------

kept=${XDG_CACHE_HOME:-$HOME/.cache}/libgmem
fresh=$dir/cache/libgmem
mkdir -p "$fresh/kernels"
cp -r "$kept/kernels/7.3-amd64" "$fresh/kernels/"
cp -r "$kept/archive" "$fresh/"
copy=$(ls -d "$fresh"/kernels/7.3-amd64/*)
fetch() { # arguments of kernel
	XDG_CACHE_HOME=$dir/cache "$here/kernel" "$@"
}
offline() {
	XDG_CACHE_HOME=$dir/${1:?} unshare -n "$here/kernel" amd64 7.3
}

expect "kernel: without a network the one that is kept serves" 0 "7.3" offline cache
truncate -s 100000 "$copy/vmlinuz"
expect "kernel: a damaged one is unpacked again" 0 "$copy" fetch amd64 7.3
expect "kernel: and is whole then" 0 "vmlinuz: OK" sh -c "cd '$copy' && sha256sum -c SHA256SUMS"
unpack() {
	XDG_CACHE_HOME=$dir/cache "$here/../archive" unpack busybox-static:amd64/bookworm "$dir/busybox"
}
unpack
for package in "$fresh"/archive/debs/busybox*_amd64.deb; do truncate -s 100000 "$package"; done
expect "archive: a damaged package is fetched again" 0 "is damaged, fetching it again" unpack
expect "kernel: no network and nothing kept" 1 "no network" offline empty
expect "kernel: a series that has left the archive" 3 "has left the archive" fetch amd64 3.2
mkdir "$dir/small"
if mount -t tmpfs -o size=1m tmpfs "$dir/small"; then
	expect "kernel: no space" 1 "space" env XDG_CACHE_HOME="$dir/small" "$here/kernel" amd64 7.3
	umount "$dir/small"
else
	echo "# SKIP kernel: no space: nothing can be mounted here"
fi
expect "check: an unknown kernel" 1 "no kernel 'none' in tests/vm/matrix" env KERNEL=none O="$dir/build" "$here/check"
exit $status_of_all
