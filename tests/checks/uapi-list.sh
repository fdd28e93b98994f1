#!/bin/sh
# SPDX-License-Identifier: MIT
# Every definition and structure of lib/uapi stands in the list that is compared with the kernel's headers, and nothing else does.
set -u
cd "$(dirname "$0")/../.." || exit 2
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
{
	sed -n 's/^#define \([A-Z0-9_]*\)[ \t].*/\1/p' lib/uapi/*.h
	sed -n 's/^\t\([A-Z][A-Z0-9_]*\) = .*/\1/p' lib/uapi/*.h
	sed -n 's/^struct \([a-z0-9_]*\) {.*/\1/p' lib/uapi/*.h
} | grep -v '^GMEMI_UAPI_' | sort > "$dir/defined"
awk '/^#/ { next } $1 == "BIT" || $1 == "STRUCT" { print $2; next } { print $1 }' tests/uapi/list | sort > "$dir/listed"
echo "# PLAN 1"
echo "# RUN every definition is compared"
if diff "$dir/defined" "$dir/listed"; then
	echo "# PASS every definition is compared"
else
	echo "# FAIL every definition is compared"
	exit 1
fi
