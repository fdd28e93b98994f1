#!/bin/sh
# SPDX-License-Identifier: MIT
# The library compiles with musl, whose headers have no <linux/...>, without a warning.
set -u
cd "$(dirname "$0")/../.." || exit 2
name="the library compiles with musl"
echo "# PLAN 1"
if ! command -v musl-gcc > /dev/null; then
	echo "# SKIP $name: there is no musl-gcc here"
	exit 0
fi
echo "# RUN $name"
if musl-gcc -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -Wconversion -Werror -Iinclude -Ilib -fsyntax-only lib/*.c; then
	echo "# PASS $name"
else
	echo "# FAIL $name"
	exit 1
fi
