#!/bin/sh
# SPDX-License-Identifier: MIT
# make-image.sh OUTPUT [MIB]
#
# Builds a memory image of MIB MiB (default: 256) from real files of this machine (shared objects, static libraries,
# executables; of large ones the beginning), each at the next 64 KiB boundary, with holes between that make up about a third
# of the image. The same machine gives the same image. Needs coreutils and findutils.
set -u
LC_ALL=C
export LC_ALL

block=65536

fail() {
    echo "make-image.sh: $*" >&2
    exit 1
}

usage() {
    echo "usage: make-image.sh OUTPUT [MIB=256]" >&2
    exit 2
}

[ $# -ge 1 ] && [ $# -le 2 ] && [ -n "$1" ] || usage
output=$1
mib=${2:-256}
case $mib in
'' | 0* | *[!0-9]* | ????????*) usage ;;
esac
[ ! -d "$output" ] || fail "$output: is a directory"

image=$output.$$.tmp
list=$output.$$.list
trap 'rm -f "$image" "$list"' EXIT
trap 'exit 1' HUP INT TERM

# Size and path, by path. Files below one block would leave more holes than content. What cannot be read here is left out.
list_files() {
    find /usr/bin /usr/sbin /usr/lib /usr/lib64 /usr/libexec -xdev -type f -readable -size +63k \
        \( -name '*.so' -o -name '*.so.*' -o -name '*.a' -o -perm -0100 \) ! -name '*
*' -printf '%s %p\n' 2>/dev/null | sort -k 2
}

# Puts the listed files into the image, from block `at` on, until `end`. A hole follows a file when the holes so far are less
# than a third of the image so far.
add_files() {
    while read -r size path; do
        [ "$at" -lt "$end" ] || break
        count=$(((size + block - 1) / block))
        [ "$count" -le "$most" ] || count=$most
        [ "$count" -le $((end - at)) ] || count=$((end - at))
        dd if="$path" of="$image" bs=$block seek="$at" count="$count" conv=notrunc status=none ||
            fail "cannot copy $path into $image"
        content=$((content + count))
        at=$((at + count))
        [ "$at" -ge $((content * 3 / 2)) ] || at=$((content * 3 / 2))
    done < "$list"
}

list_files > "$list" || fail "cannot write $list"
[ -s "$list" ] || fail "no file of 64 KiB or more found under /usr"
: > "$image" || fail "cannot write $image"

at=0
content=0
end=$((mib * 1048576 / block))
most=$(((end + 31) / 32)) # of one file, so that no file is most of the image
while [ "$at" -lt "$end" ]; do # again and again, where the machine has too little content
    add_files
done

truncate -s "${mib}M" "$image" || fail "cannot set the size of $image"
mv -f "$image" "$output" || fail "cannot rename $image to $output"
