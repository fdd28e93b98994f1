#!/bin/sh
# SPDX-License-Identifier: MIT
# Header = map = library: the same set of names in all three, nothing else exported, and no symbol of the archive without our prefix.
# symbols.sh BUILD-DIRECTORY
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${1:-${GMEM_BUILD:?is the build directory}}
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
bad=0

same() { # name, two files
	echo "# RUN $1"
	if [ -s "$2" ] && diff "$2" "$3"; then
		echo "# PASS $1"
	else
		echo "# FAIL $1"
		bad=1
	fi
}

echo "# PLAN 5"
# GMEM_API before every declaration of a function.
sed -n '/^GMEM_API/s/.*[ *]\(gmem_[a-z0-9_]*\)(.*/\1/p' include/gmem/*.h | sort > "$dir/header"
sed -n 's/^[[:space:]]*\(gmem_[a-z0-9_]*\);/\1/p' lib/gmem.map | sort > "$dir/map"
nm -D --defined-only "$build/libgmem.so" | awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' | sort > "$dir/so"
nm -D --defined-only "$build/libgmem.so" | awk '$2 != "T" && $3 !~ /^GMEM_/' > "$dir/other"
nm -g --defined-only "$build/libgmem.a" | awk 'NF == 3 && $3 !~ /^gmemi?_/' >> "$dir/other"
same "the headers declare what the map lists" "$dir/header" "$dir/map"
same "the library exports what the map lists" "$dir/so" "$dir/map"
grep -oE '\bgmem_[a-z0-9_]+' CHANGELOG | sort -u > "$dir/changelog"
same "the CHANGELOG names what the map lists" "$dir/changelog" "$dir/map"
echo "# RUN nothing else is visible"
if [ -s "$dir/other" ]; then
	cat "$dir/other"
	echo "# FAIL nothing else is visible"
	bad=1
else
	echo "# PASS nothing else is visible"
fi
echo "# RUN the library needs libc alone"
needed=$(objdump -p "$build/libgmem.so" | awk '/NEEDED/ { print $2 }' | grep -vE '^(libc\.so|ld-linux|libpthread\.so)')
soname=$(objdump -p "$build/libgmem.so" | awk '/SONAME/ { print $2 }')
if [ -z "$needed" ] && [ "$soname" = libgmem.so.0 ]; then
	echo "# PASS the library needs libc alone"
else
	echo "needed: $needed, soname: $soname"
	echo "# FAIL the library needs libc alone"
	bad=1
fi
exit $bad
