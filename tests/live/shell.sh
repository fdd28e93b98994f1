# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2034,SC2154
# What tests of whole programs share, which source this: set_up, begin and `tests`, a list of functions, are theirs, and then
# run_tests. Speaks the protocol of tests/run. What the last program said is in $dir/out and $dir/err.
set -u

here=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
top=$(mktemp -d) || exit 1
trap 'rm -rf "$top"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$top"
dir=$top
limit= # a command that is put before every program
failures=0

# Before the first test; before each one, in its own process; and when one has failed.
begin() {
    :
}

set_up() {
    :
}

clean_up() {
    :
}

# Ends the test as failed.
show() {
    echo "  $*"
    for file in out err log; do
        [ -e "$dir/$file" ] && sed "s/^/    $file: /" "$dir/$file"
    done
    clean_up
    exit 1
}

skip() {
    echo "$*" >"$top/reason"
    exit 77
}

# expect STATUS PROGRAM...: the exit status must be this one.
expect() {
    wanted=$1
    shift
    $limit "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    [ "$got" -eq "$wanted" ] || show "exit status $got instead of $wanted: $*"
}

# says out|err PATTERN (extended regular expression)
says() {
    grep -Eq "$2" "$dir/$1" || show "$1 does not say '$2'"
}

says_not() {
    ! grep -Eq "$2" "$dir/$1" || show "$1 says '$2'"
}

is_json() {
    if command -v python3 >"$dir/python" 2>&1; then
        python3 -c 'import json, sys; json.load(sys.stdin)' <"$dir/out" 2>"$dir/err" || show 'not JSON'
    fi
    [ "$(head -c 1 "$dir/out")" = '{' ] && [ "$(tail -n 1 "$dir/out")" = '}' ] || show 'not one JSON object'
}

can_become_user() {
    [ "$(id -u)" -eq 0 ] || skip 'not root: cannot become another user'
    command -v setpriv >"$dir/out" 2>&1 || skip 'no setpriv'
}

as_user() {
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}

# run_tests [PART]: those whose name contains it.
run_tests() {
    chosen=
    for test in $tests; do
        case $test in
        *"${1:-}"*) chosen="$chosen $test" ;;
        esac
    done
    # shellcheck disable=SC2086
    set -- $chosen
    echo "# PLAN $#"
    begin || exit 1
    for test in "$@"; do
        echo "# RUN $test"
        : >"$top/reason"
        (set_up "$test" && "$test")
        case $? in
        0) echo "# PASS $test" ;;
        77) echo "# SKIP $test: $(cat "$top/reason")" ;;
        *)
            echo "# FAIL $test"
            failures=1
            ;;
        esac
    done
    exit $failures
}
