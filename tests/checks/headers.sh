#!/bin/sh
# SPDX-License-Identifier: MIT
# Each installed header compiles alone and drags in no kernel header; each public function carries the tags that the conventions ask for.
set -u
cd "$(dirname "$0")/../.." || exit 2
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
bad=0
warnings="-Wall -Wextra -Wpedantic -Wconversion -Werror"

verdict() { # name, status
	if [ "$2" = 0 ]; then
		echo "# PASS $1"
	else
		echo "# FAIL $1"
		bad=1
	fi
}

compile() { # name, compiler, language, standard
	echo "# RUN $1"
	status=0
	if command -v "$2" > "$dir/null"; then
		for header in gmem.h $(cd include && ls gmem/*.h); do
			printf '#include <%s>\nint main(void) { return 0; }\n' "$header" > "$dir/one.c"
			"$2" -x "$3" -std="$4" $warnings -Iinclude -fsyntax-only "$dir/one.c" || status=1
		done
		verdict "$1" $status
	else
		echo "# SKIP $1: there is no $2 here"
	fi
}

set -- gcc c c99 gcc c c11 gcc c gnu17 g++ c++ c++11 g++ c++ c++20 clang c c99 clang c c11 clang++ c++ c++11 clang++ c++ c++20
echo "# PLAN $(($# / 3 + 4))"
while [ $# -gt 0 ]; do
	compile "headers alone: $1 -std=$3" "$1" "$2" "$3"
	shift 3
done

compile "headers alone: musl-gcc -std=c11" musl-gcc c c11

echo "# RUN no kernel header comes with ours"
echo '#include <gmem.h>' > "$dir/one.c"
gcc -E -Iinclude "$dir/one.c" | grep -E '"[^"]*/(linux|asm)/(kvm|userfaultfd)' && status=1 || status=0
verdict "no kernel header comes with ours" $status

# Every function: thread class, blocking, since; results named where there is one; errors of the library among the known ones.
echo "# RUN every function says its class, blocking and version"
awk '
	/^\/\*\*/ { text = "" }
	{ text = text "\n" $0 }
	/^GMEM_API/ {
		name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name)
		if (text !~ /@threads\{(any|object|callback)\}/) { print name ": no @threads"; bad = 1 }
		if (text !~ /@blocks\{(no|bounded|waits)\}/) { print name ": no @blocks"; bad = 1 }
		if (text !~ /@since\{[0-9.]+\}/) { print name ": no @since"; bad = 1 }
		if ($0 !~ /^GMEM_API void/ && text !~ /@return/) { print name ": no @return"; bad = 1 }
		seen++
	}
	END { exit bad || !seen }' include/gmem/*.h
verdict "every function says its class, blocking and version" $?

echo "# RUN one SPDX line in every file"
files=$(git ls-files 2> "$dir/null") || files=$(find . -name build -prune -o -type f -print | sed 's|^\./||')
missing=$(echo "$files" | grep -E '\.([chS]|sh|inc|map)$|^Makefile$|^\.ci/run$|^tests/run$' | while read -r f; do
	head -3 "$f" | grep -q 'SPDX-License-Identifier: ' || echo "$f"
done)
[ -z "$missing" ] || echo "$missing"
[ -n "$files" ] && [ -z "$missing" ]
verdict "one SPDX line in every file" $?
exit $bad
