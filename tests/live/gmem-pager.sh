# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2034,SC2154
# What tests of gmem-pager share, which source this: the daemon under a stand-in for a service manager, and VMs. GMEM_PAGER and
# PAGER_TOOLS say where the programs are.
. "$(dirname "$0")/shell.sh"
LC_ALL=C
export LC_ALL

: "${GMEM_PAGER:=${GMEM_BUILD:-$here/build}/gmem-pager}" "${PAGER_TOOLS:=${GMEM_BUILD:-$here/build}/tests/tools}"
build=$(dirname "$GMEM_PAGER")
mini=$PAGER_TOOLS/firecracker-mini
limit='timeout 60' # what should end and does not fails, too

begin() {
    head -c 4M /dev/urandom >"$top/image"
}

# A directory for each. What needs no userfaultfd says so by its name.
set_up() {
    dir=$top/$1
    socket=$dir/s
    mkdir "$dir" && cp "$top/image" "$dir/image" || exit 1
    case $1 in
    arguments | unit_*) ;;
    *) needs_root ;;
    esac
    case $1 in
    native_*) "$build/gmem-info" --feature uffd_minor_memfd >"$dir/out" 2>&1 || skip 'no userfaultfd for pages of a memfd' ;;
    esac
}

clean_up() {
    for left in ${daemon:-} ${vm:-}; do
        kill -KILL "$left" 2>>"$dir/err"
    done
}

# Reads lines of events until one matches. The daemon's end is the end of all waiting.
await() {
    while read -r line <&4; do
        echo "$line" >>"$dir/log"
        case $line in
        $1) return ;;
        "END "*) show "it ended before '$1'" ;;
        esac
    done
}

# supervise LISTEN-SOCKET|- PROGRAM...: what happens comes through fd 4, events and what it says; it is told to tell $notify.
supervise() {
    mkfifo "$dir/events"
    exec 4<>"$dir/events"
    "$PAGER_TOOLS/supervise" "${notify:-$dir/notify}" "$@" >&4 2>&4 &
    supervisor=$!
    await 'PID *'
    daemon=${line#PID }
}

# The socket is $socket.
start_on() { # LISTEN-SOCKET or -, arguments
    listen=$1
    shift
    supervise "$listen" "$GMEM_PAGER" --socket "$socket" "$@"
    await READY=1
}

start() {
    start_on - "$@"
}

# Ends the daemon, whose exit status must be this one.
stop() {
    kill -TERM "$daemon"
    ended "$1"
}

ended() {
    wait "$supervisor"
    got=$?
    [ "$got" -eq "$1" ] && return
    show "the daemon's exit status is $got instead of $1"
}

# A VM that compares one half, and waits: its words come through fd 5, and it is spoken to through fd 6.
begin_halves() {
    mkfifo "$dir/words" "$dir/orders"
    exec 5<>"$dir/words" 6<>"$dir/orders"
    "$mini" "$socket" "$dir/image" halves >&5 2>&5 <&6 4>&- &
    vm=$!
    read -r word <&5
    [ "$word" = waiting ] || show "the VM says '$word'"
}

end_halves() {
    echo go >&6
    wait "$vm" || show "the VM's exit status is $?"
}

right() {
    expect 0 "$mini" "$socket" "$dir/image" "$@"
    says out '^right$'
}

refused() {
    expect 0 "$mini" "$socket" "$dir/image" refused
    await "*$1*"
}

json_value() {
    sed -n "s/.*\"$1\": \([^,}]*\).*/\1/p" "$dir/out" | head -n 1
}

needs_root() {
    [ "$(id -u)" -eq 0 ] || skip 'not root: userfaultfd is withheld, and no other user can be become'
}
