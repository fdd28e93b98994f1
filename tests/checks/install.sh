#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs into a directory of its own, builds every example from there by pkg-config alone, runs them, as an ordinary user too, and
# takes everything away again.
# install.sh BUILD-DIRECTORY
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$(cd "${1:-${GMEM_BUILD:?is the build directory}}" && pwd) || exit 2
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
mkdir "$dir/sockets"
chmod 1777 "$dir/sockets"
bad=0

verdict() { # name, status
	if [ "$2" = 0 ]; then
		echo "# PASS $1"
	else
		echo "# FAIL $1"
		bad=1
	fi
}

flags() { # what of pkg-config
	PKG_CONFIG_PATH=$dir/opt/gmem/lib/x/pkgconfig pkg-config "$@" libgmem
}

make_() {
	make -s O="$build" PREFIX="$dir/opt/gmem" LIBDIR="$dir/opt/gmem/lib/x" "$@"
}

# What an example is run with, and what it then prints.
run_of() { # name of the example
	words=
	case $1 in
	bind-and-run) phrase='^the guest answered 42$' ;;
	create-and-map) phrase='^Discarded at 4 MiB:$' ;;
	fault-by-hand) phrase='^The pages were right, and zeros where they were given up$' ;;
	pass-to-process-pager) words="$socket $dir/file 1" phrase='^it has left [(]-?[0-9]+[)]: [1-9][0-9]* faults, [1-9][0-9]* bytes filled$' ;;
	pass-to-process-vmm) words="$socket 3000001" phrase='^checksum 0x' ;;
	pager) words="$dir/file" phrase='^finished: [1-9][0-9]* bytes filled, 0 still to come$' ;;
	populate-from-file) words="$dir/file 1" phrase='^3000001 bytes in .* populated, [1-9][0-9]* skipped as zero$' ;;
	prefault) phrase='^64 MiB of .* prefaulted by ' ;;
	probe) phrase='^[*] ' ;;
	*) return 1 ;;
	esac
}

as_user() {
	setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}

installed() { # env or as_user, program, arguments
	as=$1
	shift
	$as env LD_LIBRARY_PATH="$dir/opt/gmem/lib/x" "$@"
}

# The other side, for those that have one; it waits for whoever comes second.
accompany() { # name of the example, env or as_user
	case $1 in
	pass-to-process-pager) installed "$2" "$dir/pass-to-process-vmm" "$socket" 3000001 ;;
	pass-to-process-vmm) installed "$2" "$dir/pass-to-process-pager" "$socket" "$dir/file" 1 ;;
	esac > "$dir/other" 2>&1 &
}

runs() { # name of the example, env or as_user
	socket=$dir/sockets/$1-$2
	accompany "$1" "$2"
	# The words are meant to be split.
	run_of "$1" && installed "$2" "$dir/$1" $words > "$dir/out" 2>&1 && wait $! && grep -Eq "$phrase" "$dir/out" && return
	cat "$dir/out" "$dir/other"
	return 1
}

# Why an example cannot run; nothing where it can.
obstacle() { # name of the example, env or as_user
	if [ "$2" = as_user ] && ! { [ "$(id -u)" -eq 0 ] && as_user test -x "$dir/$1"; } 2> "$dir/out"; then
		echo "cannot become an ordinary user who comes to $dir"
	elif [ "$1" = bind-and-run ] && ! installed "$2" "$dir/opt/gmem/bin/gmem-info" --feature kvm > "$dir/out" 2>&1; then
		echo "no usable /dev/kvm"
	elif [ "$1" = fault-by-hand ] || [ "$1" != "${1%pager}" ] || [ "$1" = pass-to-process-vmm ]; then
		installed "$2" "$dir/opt/gmem/bin/gmem-info" --feature uffd_minor_memfd > "$dir/out" 2>&1 ||
			echo "no userfaultfd for pages of a memfd"
	fi
}

verdict_unless() { # name, reason to skip, command
	what=$1 reason=$2
	shift 2
	echo "# RUN $what"
	if [ -n "$reason" ]; then
		echo "# SKIP $what: $reason"
		return
	fi
	"$@"
	verdict "$what" $?
}

says_what_failed() {
	installed env "$dir/populate-from-file" "$dir/file" 65 > "$dir/out" 2> "$dir/err" && return 1
	grep -q '^gmem_populate_fd: .*threads' "$dir/err" || { cat "$dir/err" && return 1; }
}

reads_a_pipe() {
	cat "$dir/file" | installed env "$dir/populate-from-file" /dev/stdin > "$dir/out" 2>&1
	grep -q '^3000001 bytes in ' "$dir/out" || { cat "$dir/out" && return 1; }
}

version=$(sed -n 's/^#define GMEM_VERSION "\(.*\)"/\1/p' include/gmem/base.h)
set -- examples/*.c
echo "# PLAN $((3 * $# + 7))"

echo "# RUN install, with PREFIX and LIBDIR"
make_ install
verdict "install, with PREFIX and LIBDIR" $?

echo "# RUN pkg-config says the version"
[ "$(flags --modversion)" = "$version" ]
verdict "pkg-config says the version" $?

{ head -c 1000000 /dev/urandom && head -c 1000000 /dev/zero && head -c 1000001 /dev/urandom; } > "$dir/file"
for example; do
	name=${example##*/}
	echo "# RUN $name builds from the installed library"
	status=1
	# The words of pkg-config are meant to be split. 150 lines: an example shows one idea.
	if [ "$(wc -l < "$example")" -le 150 ] &&
		gcc -std=c11 -Wall -Wextra -Wconversion -Werror $(flags --cflags) "$example" -o "$dir/${name%.c}" $(flags --libs); then
		status=0
	fi
	verdict "$name builds from the installed library" $status
done
for example; do
	name=${example##*/}
	verdict_unless "$name runs" "$(obstacle "${name%.c}" env)" runs "${name%.c}" env
	verdict_unless "$name runs as an ordinary user" "$(obstacle "${name%.c}" as_user)" runs "${name%.c}" as_user
done
verdict_unless "an example says what failed" '' says_what_failed
verdict_unless "an example reads a pipe" '' reads_a_pipe

echo "# RUN an installed program finds its library"
installed env "$dir/opt/gmem/bin/gmem-info" --version | grep -q "$version"
verdict "an installed program finds its library" $?

echo "# RUN the static library links by pkg-config"
printf '#include <gmem.h>\nint main(void) { return gmem_version()[0] == 0; }\n' > "$dir/one.c"
gcc $(flags --cflags) "$dir/one.c" -o "$dir/one" -static $(flags --libs --static) && "$dir/one"
verdict "the static library links by pkg-config" $?

echo "# RUN uninstall leaves no file"
make_ uninstall
left=$(find "$dir/opt" ! -type d)
[ -z "$left" ] || echo "$left"
[ -z "$left" ]
verdict "uninstall leaves no file" $?
exit $bad
