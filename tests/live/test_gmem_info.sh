#!/bin/sh
# SPDX-License-Identifier: MIT
# gmem-info as its users run it. GMEM_INFO says where it is. An argument runs only the tests whose name contains it.
. "$(dirname "$0")/shell.sh"
LC_ALL=C.UTF-8
export LC_ALL
unset COLUMNS

: "${GMEM_INFO:=$here/build/gmem-info}"

narrow() {
    [ "$(wc -l <"$dir/out")" -gt 10 ] || show 'hardly a report'
    width=$(wc -L <"$dir/out")
    [ "$width" -le "$1" ] || show "a line of $width columns, with $1 to be had"
}

a_report() {
    expect 0 "$GMEM_INFO"
    says out 'guest_memfd_init_shared'
    says out 'uffd_minor_memfd'
    says_not out "$(printf '\033')"
    expect 0 "$GMEM_INFO" --help
    says out '^Usage: gmem-info'
    expect 0 "$GMEM_INFO" --version
    says out '^gmem-info [0-9]'
    for type in plain none; do
        expect 0 "$GMEM_INFO" --vm-type "$type"
    done
}

bad_options() {
    expect 2 "$GMEM_INFO" --bogus
    says err 'bogus'
    expect 2 "$GMEM_INFO" word
    says err 'word'
    for option in --task --vm-type --need --feature; do
        expect 2 "$GMEM_INFO" "$option" bogus
        says err 'bogus'
        expect 2 "$GMEM_INFO" "$option"
        [ -s "$dir/err" ] || show "nothing said of $option without a word"
    done
}

# The exit status is the state.
features() {
    expect 0 "$GMEM_INFO" --json
    cp "$dir/out" "$dir/report"
    for name in kvm guest_memfd guest_memfd_write memfd uffd map_memory; do
        status=1
        ! grep -q "\"name\": \"$name\".*\"state\": \"present\"" "$dir/report" || status=0
        expect "$status" "$GMEM_INFO" --feature "$name"
        says out "$name"
    done
}

tasks_of_it() {
    tasks='create populate populate-private prefault resolve convert discard'
    expect 0 "$GMEM_INFO" --task all
    for task in $tasks; do
        says out "$task"
    done
    for task in $tasks; do
        expect 0 "$GMEM_INFO" --task "$task"
        [ -s "$dir/out" ] || show "nothing about $task"
    done
    expect 0 "$GMEM_INFO" --task create --need lazy,mappable
}

json() {
    for arguments in '' '--task all' '--vm-type none' '--feature kvm' '--need private --task convert'; do
        # shellcheck disable=SC2086
        "$GMEM_INFO" --json $arguments >"$dir/out" 2>"$dir/err" </dev/null
        is_json
    done
    expect 0 "$GMEM_INFO" --json
    is_json
    says out '"features": \['
    says out '"chains": \['
    says out '"name": "guest_memfd", "number": 3, "state": "'
}

narrow_terminals() {
    for width in 40 60 80 200; do
        expect 0 env COLUMNS="$width" "$GMEM_INFO"
        narrow "$width"
        expect 0 env COLUMNS="$width" "$GMEM_INFO" --task all
        narrow "$width"
        expect 0 env COLUMNS="$width" "$GMEM_INFO" --vm-type none
        narrow "$width"
    done
    for width in '' 0 -1 x 99999999999; do
        expect 0 env COLUMNS="$width" "$GMEM_INFO"
    done
}

as_a_user() {
    can_become_user
    cp "$GMEM_INFO" "$dir/gmem-info" || exit 1
    as_user test -x "$dir/gmem-info" || skip "an ordinary user cannot come to $dir"
    expect 0 as_user "$dir/gmem-info"
    as_user test -w /dev/kvm || says out '/dev/kvm'
    [ ! -e /dev/userfaultfd ] || as_user test -w /dev/userfaultfd || says out '/dev/userfaultfd'
    expect 0 as_user env COLUMNS=60 "$dir/gmem-info"
    narrow 60
    expect 0 as_user "$dir/gmem-info" --json
    is_json
}

tests='a_report bad_options features tasks_of_it json narrow_terminals as_a_user'

run_tests "$@"
