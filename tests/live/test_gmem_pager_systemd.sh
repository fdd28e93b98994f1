#!/bin/sh
# SPDX-License-Identifier: MIT
# gmem-pager as systemd runs it: its units as systemd reads them, its command from there behind systemd's sockets, and what it says
# about itself. Without systemd's programs the first two are skipped. An argument runs only the tests whose name contains it.
. "$(dirname "$0")/gmem-pager.sh"

units=$here/docs/systemd

of_unit() { # FILE KEY
    sed -n "s/^$2=//p" "$units/$1"
}

needs() {
    command -v "$1" >"$dir/out" 2>&1 || skip "no $1 here: Debian's package systemd"
}

# What systemd reads in another way than it was meant it tells, and goes on.
verified() {
    expect 0 systemd-analyze verify --man=no "$@"
    ! grep gmem-pager "$dir/err" || show 'systemd has something to say about the units'
}

unit_files_are_understood() {
    needs systemd-analyze
    mkdir "$dir/units" && cp "$units"/* "$dir/units" || exit 1
    sed -i "s,/usr/bin/gmem-pager,$GMEM_PAGER," "$dir/units/gmem-pager.service"
    verified "$dir"/units/*
    echo 'PrivateTemper=yes' >>"$dir/units/gmem-pager.service"
    (verified "$dir"/units/*) >"$dir/log" && show 'a mistake is not noticed'
    grep -q PrivateTemper "$dir/err" || show 'what is noticed is not the mistake'
}

# The service's command, with the program and the root in other places, and with the names that the sockets' units give.
begin_behind_systemd() {
    needs systemd-socket-activate
    mkdir "$dir/root" && cp "$dir/image" "$dir/root/$(id -u).mem" || exit 1
    command=$(of_unit gmem-pager.service ExecStart | sed "s,%%,%,g; s,/usr/bin/gmem-pager,$GMEM_PAGER,; s,/srv/snapshots,$dir/root,")
    names=$(of_unit gmem-pager.socket FileDescriptorName):$(of_unit gmem-pager-control.socket FileDescriptorName)
    # shellcheck disable=SC2086
    supervise - "$(command -v systemd-socket-activate)" -E NOTIFY_SOCKET --fdname="$names" -l "$socket" -l "$socket.control" $command
    await 'Listening on *.control as 4*'
}

# The first who comes wakes it, and is served.
behind_sockets_of_systemd() {
    begin_behind_systemd
    right whole
    await READY=1
    right give-up
    expect 0 "$GMEM_PAGER" --status --socket "$socket"
    says out "^gmem-pager of pid $daemon, .* 2 admitted"
    stop 0
    [ -S "$socket" ] && [ -S "$socket.control" ] || show 'a socket of systemd is gone'
}

woken_by_a_question() {
    begin_behind_systemd
    expect 0 "$GMEM_PAGER" --status --json --socket "$socket"
    [ "$(json_value served)" = 0 ] || show 'somebody is served'
    await READY=1
    right whole
    stop 0
}

# Ready when VMs can connect; what it does, once in a second; and that it stops, before it has.
told_in_order() {
    start --source "file:$dir/image"
    right whole
    await 'STATUS=*'
    kill -TERM "$daemon"
    await 'STOPPING=1'
    ended 0
    [ "$(grep -n READY=1 "$dir/log" | cut -d: -f1)" -lt "$(grep -n STATUS= "$dir/log" | head -n 1 | cut -d: -f1)" ] ||
        show 'a status before it is ready'
}

told_by_a_name_without_a_file() {
    notify=@$dir/notify
    start --source "file:$dir/image"
    [ ! -e "$dir/notify" ] || show 'there is a file'
    right whole
    stop 0
}

never_ready_if_it_cannot_start() {
    supervise - "$GMEM_PAGER" --socket "$socket" --source "file:$dir/none"
    while read -r line <&4 && [ "$line" != 'END 1' ]; do
        echo "$line" >>"$dir/log"
        [ "$line" != READY=1 ] || show 'it says that it is ready'
    done
    ended 1
    grep -q 'No such file' "$dir/log" || show 'it does not say why'
}

# Not a reason to serve nobody.
nobody_to_be_told() {
    notify=$dir/nobody
    NOTIFY_SOCKET=$notify "$GMEM_PAGER" --socket "$socket" --source "file:$dir/image" 2>"$dir/said" &
    daemon=$!
    until "$GMEM_PAGER" --status --socket "$socket" >"$dir/out" 2>&1; do :; done
    right whole
    kill -TERM "$daemon"
    wait "$daemon" || show "exit status $?"
    grep -q 'cannot be used: nobody will know' "$dir/said" || show 'it does not say that it cannot tell'
}

tests='unit_files_are_understood behind_sockets_of_systemd woken_by_a_question told_in_order told_by_a_name_without_a_file
    never_ready_if_it_cannot_start nobody_to_be_told'

run_tests "$@"
