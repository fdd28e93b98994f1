#!/bin/sh
# SPDX-License-Identifier: MIT
# The specification of the protocol has the tables that the library has: the same members in the same order, as wide. protocol.sh
# BUILD-DIRECTORY
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${1:-${GMEM_BUILD:?is the build directory}}
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
name="the specification has the library's messages"
echo "# PLAN 1"
echo "# RUN $name"

# One line a section of a message: its name, then the widths in all its tables. Which tables stand where is in the C program below.
awk -F'|' '/^### / { section = substr($0, 5); print ""; printf "%s:", section; next } /^## / { section = "" }
	section && $2 ~ /^ *[48] *$/ { gsub(/ /, "", $2); printf " %s", $2 } END { print "" }' docs/guide/protocol.md | sed '/^$/d' > "$dir/said"

cat > "$dir/tables.c" << 'END'
#include <stdio.h>
#include "wire_table.h"
static void widths(const struct gmemi_wire_layout *layout)
{
	for (uint32_t i = 0; i < layout->count; i++)
		printf(" %u", layout->fields[i].width);
}
static void section(const char *name, uint32_t first, uint32_t second, int fixed)
{
	printf("%s:", name);
	if (fixed)
		widths(&gmemi_wire_row(first)->fixed);
	widths(&gmemi_wire_row(first)->item);
	if (second)
		widths(&gmemi_wire_row(second)->fixed);
	printf("\n");
}
int main(void)
{
	section("HELLO", GMEMI_WIRE_HELLO, 0, 1);
	section("ENDPOINT", GMEMI_WIRE_ENDPOINT, 0, 1);
	section("MEMORY", GMEMI_WIRE_MEMORY, 0, 1);
	section("REGIONS", GMEMI_WIRE_REGIONS, 0, 1);
	section("READY", GMEMI_WIRE_READY, 0, 1);
	section("REMOVE", GMEMI_WIRE_REMOVE, 0, 0);
	section("HEARTBEAT", GMEMI_WIRE_HEARTBEAT, 0, 1);
	section("FAULT and FAULT_DONE", GMEMI_WIRE_FAULT, GMEMI_WIRE_FAULT_DONE, 1);
	section("ASK_STATISTICS and STATISTICS", GMEMI_WIRE_STATISTICS, 0, 0);
	section("DETACH and RELEASE", GMEMI_WIRE_RELEASE, 0, 1);
	section("ERROR", GMEMI_WIRE_ERROR, 0, 1);
	return 0;
}
END
if ${CC:-cc} -std=gnu11 -Ilib "$dir/tables.c" "$build/libgmem.a" -pthread -o "$dir/tables" && "$dir/tables" > "$dir/has" &&
	[ -s "$dir/has" ] && diff "$dir/said" "$dir/has"; then
	echo "# PASS $name"
else
	echo "# FAIL $name"
	exit 1
fi
