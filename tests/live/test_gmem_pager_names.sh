#!/bin/sh
# SPDX-License-Identifier: MIT
# gmem-pager, and the files that it opens for a VM by its name or user: below the root, and no others, whatever a VM says that it
# is called; and how large it may say that it is. An argument runs only the tests whose name contains it.
. "$(dirname "$0")/gmem-pager.sh"

# What comes of a name must be a regular file below the root, and nothing else.
names_become_files() {
    mkdir "$dir/root"
    start --root "$dir/root" --source file:%i.mem --identity "$(id -u)=one"
    refused 'one.mem: No such file'
    cp "$dir/image" "$dir/root/one.mem"
    right whole
    rm "$dir/root/one.mem"
    ln -s "$dir/image" "$dir/root/one.mem"
    refused 'one.mem: Too many levels of symbolic links'
    rm "$dir/root/one.mem"
    ln -s /proc/self/exe "$dir/root/one.mem"
    refused 'one.mem: Too many levels of symbolic links'
    rm "$dir/root/one.mem"
    mkfifo "$dir/root/one.mem"
    refused 'one.mem: not a regular file'
    rm "$dir/root/one.mem"
    mkdir "$dir/root/one.mem"
    refused 'one.mem: not a regular file'
    stop 0
}

nothing_leads_out() {
    mkdir "$dir/root"
    ln -s .. "$dir/root/up"
    for path in ../image ./../image up/image up/../image "$dir/image" /proc/self/fd/0; do
        expect 1 "$GMEM_PAGER" --socket "$socket" --root "$dir/root" --source "file:$path"
        says err 'Invalid cross-device link|Too many levels of symbolic links'
    done
}

no_name_no_file() {
    mkdir "$dir/root"
    start --root "$dir/root" --source file:%i.mem
    refused 'the VM has no name'
    stop 0
}

user_in_the_path() {
    mkdir "$dir/root"
    cp "$dir/image" "$dir/root/$(id -u)%.mem"
    start --root "$dir/root" --source file:%u%%.mem
    right whole
    stop 0
}

# A root with a file "one.mem" and a page of content, in a directory with files that any step out of it would find.
make_root() {
    outside=$dir/outside
    root=$outside/root
    mkdir -p "$root/x" || exit 1
    for file in one.mem ..mem .mem x/y.mem up.mem; do
        yes inside | head -c 4096 >"$root/$file" || exit 1
    done
    for file in one.mem .mem up.mem; do
        yes outside | head -c 4096 >"$outside/$file" || exit 1
    done
}

# introduce FORMAT [BYTES]: a VM with the name that printf makes of it, which says that it has so much.
introduce() {
    # shellcheck disable=SC2059
    printf "$1" >"$dir/name"
    expect 0 "$PAGER_TOOLS/introduce" "$socket" "$dir/name" "${2:-4096}" "$outside" "$root" "$root/x"
}

introduced() {
    introduce "$1"
    says out '^served: inside$'
    says out "^opened: $2$"
    [ "$(grep -c opened "$dir/out")" = 1 ] || show 'more was opened'
}

# turned_away FORMAT SENTENCE [WHAT-THE-DAEMON-SAYS]
turned_away() {
    introduce "$1"
    says out "^refused: .*$2"
    says_not out 'opened'
    [ -z "${3:-}" ] || await "*$3*"
}

# It is not even a text.
texts_that_are_none() {
    make_root
    start --root "$root" --source file:%i.mem
    introduced one one.mem
    turned_away 'one\000' 'HELLO has a text that is not to be printed'
    turned_away 'one\000/../../one' 'HELLO has a text that is not to be printed'
    turned_away '\000' 'HELLO has a text that is not to be printed'
    turned_away 'one\n' 'HELLO has a text that is not to be printed'
    turned_away 'one\177' 'HELLO has a text that is not to be printed'
    turned_away 'on\303\251' 'HELLO has a text that is not to be printed'
    turned_away 'one\377' 'HELLO has a text that is not to be printed'
    turned_away "$(printf '%0401d' 0)" 'HELLO has a text of 401 bytes'
    turned_away "$(printf '%0999d' 0)" 'HELLO has a text of 999 bytes'
    introduced one one.mem
    stop 0
}

# It is a text, and no name.
texts_that_are_no_names() {
    make_root
    start --root "$root" --source file:%i.mem
    for text in ../one ../../../etc/passwd .. . / /one x/y x/../one ./one one/ '%%' '%%u' '%%i' '%%%%' 'one%%' ' one' 'one ' 'on e' \
        'one;' '*' 'o?e' "'" '\\' '~' "$(printf '%065d' 0)" "$(printf '%0400d' 0)"; do
        turned_away "$text" 'not admitted' 'its name is refused'
    done
    turned_away '' 'not admitted' 'the VM has no name'
    introduced one one.mem
    stop 0
}

# Every name that may be one, and a root that leads out by itself.
names_lead_nowhere_else() {
    make_root
    ln -s ../up.mem "$root/link.mem"
    ln -s .. "$root/parent"
    start --root "$root" --source file:%i.mem
    turned_away none 'not admitted' 'none.mem: No such file'
    turned_away "$(printf '%064d' 0)" 'not admitted' 'No such file'
    turned_away link 'not admitted' 'link.mem: Too many levels of symbolic links'
    introduced up up.mem
    stop 0
}

# The same where names are parts of a path in the middle.
names_as_directories() {
    make_root
    ln -s .. "$root/parent"
    start --root "$root" --source file:%i/y.mem
    introduced x y.mem
    turned_away .. 'not admitted' 'its name is refused'
    turned_away parent 'not admitted' 'parent/y.mem: Too many levels of symbolic links'
    turned_away one.mem 'not admitted' 'its name is refused'
    turned_away one 'not admitted' 'one/y.mem: No such file'
    stop 0
}

# What it says does not matter where its user has a name, but for being a text.
names_of_users_count_more() {
    make_root
    start --root "$root" --source file:%i.mem --identity "$(id -u)=one"
    introduced ../../one one.mem
    introduced '' one.mem
    turned_away 'up\000' 'HELLO has a text that is not to be printed'
    stop 0
}

# Before anything is made for it.
more_than_the_default() {
    make_root
    start --root "$root" --source file:%i.mem
    introduce one 1099511627776
    says out '^served: inside$'
    introduce one 1099511631872
    says out '^refused: .* 1 regions and 0x10000001000 bytes: more than are allowed'
    stop 0
    rm "$dir/events" "$dir/notify"
    start --root "$root" --source file:%i.mem --max-bytes 2T
    introduce one 1099511631872
    says out '^served: inside$'
    stop 0
}

tests='names_become_files nothing_leads_out no_name_no_file user_in_the_path texts_that_are_none texts_that_are_no_names
    names_lead_nowhere_else names_as_directories names_of_users_count_more more_than_the_default'

run_tests "$@"
