#!/bin/sh
# SPDX-License-Identifier: MIT
# Doxygen over the public headers: an undocumented item or parameter is an error, and would be seen. docs.sh BUILD-DIRECTORY
set -u
cd "$(dirname "$0")/../.." || exit 2
build=$(cd "${1:-${GMEM_BUILD:?is the build directory}}" && pwd) || exit 2
bad=0
echo "# PLAN 3"
if ! command -v doxygen > /dev/null; then
	echo "# SKIP the headers are documented: there is no doxygen here"
	echo "# SKIP every enumerator has a comment: there is no doxygen here"
	echo "# SKIP an undocumented parameter is an error: there is no doxygen here"
	exit 0
fi

run() { # include directory
	rm -rf "$build/docs-check"
	mkdir -p "$build/docs-check"
	( cat docs/Doxyfile; printf 'INPUT = %s\nSTRIP_FROM_INC_PATH = %s\n' "$1" "$1" ) | DOXYGEN_OUT=$build/docs-check doxygen - 2>&1
}

echo "# RUN the headers are documented"
if run include > "$build/doxygen.log"; then
	echo "# PASS the headers are documented"
else
	grep -iE 'warning|error' "$build/doxygen.log"
	echo "# FAIL the headers are documented"
	bad=1
fi

# The check checks: take one parameter's line away.
echo "# RUN an undocumented parameter is an error"
rm -rf "$build/undocumented"
cp -r include "$build/undocumented"
sed -i '/@param slot  as given to gmem_bind/d' "$build/undocumented/gmem/memory.h"
if cmp -s include/gmem/memory.h "$build/undocumented/gmem/memory.h" || run "$build/undocumented" > "$build/doxygen.log"; then
	echo "# FAIL an undocumented parameter is an error"
	bad=1
else
	echo "# PASS an undocumented parameter is an error"
fi
rm -rf "$build/undocumented"

# Doxygen does not miss these.
echo "# RUN every enumerator has a comment"
bare=$(awk '/^enum/ { inside = 1 } inside && /^\t[A-Z].*[=,]/ && !/\/\*\*</ { print FILENAME ": " FNR ": " $0 } /^};/ { inside = 0 }' include/gmem/*.h)
if [ -z "$bare" ]; then
	echo "# PASS every enumerator has a comment"
else
	echo "$bare"
	echo "# FAIL every enumerator has a comment"
	bad=1
fi
exit $bad
