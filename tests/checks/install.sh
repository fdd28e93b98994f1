#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs into a directory of its own, builds every example from there by pkg-config alone, and takes everything away again.
# install.sh BUILD-DIRECTORY
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$(cd "${1:-${GMEM_BUILD:?is the build directory}}" && pwd) || exit 2
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
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

version=$(sed -n 's/^#define GMEM_VERSION "\(.*\)"/\1/p' include/gmem/base.h)
set -- examples/*.c
echo "# PLAN $(($# + 5))"

echo "# RUN install, with PREFIX and LIBDIR"
make_ install
verdict "install, with PREFIX and LIBDIR" $?

echo "# RUN pkg-config says the version"
[ "$(flags --modversion)" = "$version" ]
verdict "pkg-config says the version" $?

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

echo "# RUN an installed program finds its library"
LD_LIBRARY_PATH=$dir/opt/gmem/lib/x "$dir/opt/gmem/bin/gmem-info" --version | grep -q "$version"
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
