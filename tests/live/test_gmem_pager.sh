#!/bin/sh
# SPDX-License-Identifier: MIT
# gmem-pager as its users run it, with a stand-in for Firecracker that compares every byte. An argument runs only the tests whose
# name contains it.
. "$(dirname "$0")/gmem-pager.sh"

# --- the tests ---

arguments() {
    while read -r status words; do
        # The words are meant to be split.
        # shellcheck disable=SC2086
        expect "$status" "$GMEM_PAGER" $words
        [ "$status" -eq 0 ] || says err '^gmem-pager: '
    done <<END
0 --help
0 --version
2
2 --socket s
2 --source zero
2 --nonsense
2 --socket
2 --socket s --source zero word
2 --socket s --source dir:/x
2 --socket s --source file:
2 --socket s --source file@1:/x
2 --socket s --source file@4Q:/x
2 --socket s --source file:%x
2 --socket s --source file:%
2 --socket s --source file:%i
2 --socket s --source zero --protocol http
2 --socket s --source zero --threads 0
2 --socket s --source zero --threads 65
2 --socket s --source zero --max-memories 65
2 --socket s --source zero --max-faults 0
2 --socket s --source zero --cpus 3-1
2 --socket s --source zero --cpus 0,
2 --socket s --source zero --cpus 1024
2 --socket s --source zero --around 5000
2 --socket s --source zero --around 4M
2 --socket s --source zero --background fast
2 --socket s --source zero --background 99999999999G
2 --socket s --source zero --deadline 0
2 --socket s --source zero --deadline 3h
2 --socket s --source zero --on-failure panic
2 --socket s --source zero --mode 888
2 --socket s --source zero --mode 1777
2 --socket s --source zero --identity 5
2 --socket s --source zero --identity 5=
2 --socket s --source zero --identity 5=../x
2 --socket s --source zero --identity 5=$(printf '%065d' 0)
2 --socket s --source zero --identity nobody-here=x
2 --socket s --source zero --allow-uid 4294967295
2 --socket s --source zero --user nobody-here
2 --socket s --source zero --json
2 --status
1 --status --socket $dir/none
1 --socket $dir/none/s --source zero
1 --socket $dir/s --source file:$dir/none
1 --socket $dir/s --source file:$dir
1 --socket $dir/s --source zero --root $dir/none
1 --socket $dir/$(printf '%0120d' 0) --source zero
END
}

every_byte() {
    start --source "file:$dir/image"
    right whole
    right give-up
    right whole
    stop 0
}

with_every_option() {
    start --source "file:$dir/image" --protocol firecracker --threads 3 --cpus 0 --around 64K --background 64M \
        --deadline 2s --handshake 2s --max-vms 5 --max-ranges 2 --max-bytes 8M --on-failure wait --max-memories 1 --max-faults 1000000
    right whole
    right give-up
    stop 0
}

need_pages_of_2m() {
    free=$(cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages 2>>"$dir/err") || skip 'no huge pages of 2 MiB here'
    [ "$free" -ge 2 ] || skip "$free huge pages of 2 MiB are free, 2 are needed: nr_hugepages"
}

pages_of_2m() {
    need_pages_of_2m
    start --source "file:$dir/image"
    right huge
    stop 0
}

# The kernel has no call that makes one of nothing.
a_page_of_2m_of_zeros() {
    need_pages_of_2m
    dd if=/dev/zero of="$dir/image" bs=1M count=2 conv=notrunc 2>>"$dir/err" || exit 1
    start --source "file:$dir/image"
    right huge
    stop 0
}

handed_sockets() {
    start_on "$socket" --source "file:$dir/image" --control "$socket.control"
    right whole
    expect 0 "$GMEM_PAGER" --status --socket "$socket"
    says out ' 1 admitted'
    stop 0
    [ -S "$socket" ] || show 'a socket that was handed in is gone'
}

as_nobody() {
    can_become_user
    as_user test -r "$dir/image" || skip "an ordinary user cannot come to $dir"
    start --source "file:$dir/image" --user 65534
    right whole
    for status in /proc/"$daemon"/task/*/status; do
        [ "$(awk '/^Uid:/ { print $2 $3 $4 $5 }' "$status")" = 65534655346553465534 ] || show 'a thread has another uid'
        grep -q '^NoNewPrivs:.1' "$status" || show 'a thread may get new privileges'
        grep -q '^Seccomp:.2' "$status" || show 'a thread is not confined'
        grep -q '^CapEff:.0*$' "$status" || show 'a thread has capabilities'
    done
    stop 0
}

unconfined_if_told() {
    start --source "file:$dir/image" --no-seccomp
    right whole
    grep -q '^Seccomp:.0' /proc/"$daemon"/status || show 'it is confined'
    stop 0
}

# One says nothing, one was stopped with half of its memory: the third is served.
others_are_not_delayed() {
    start --source "file:$dir/image"
    begin_halves
    kill -STOP "$vm"
    mkfifo "$dir/silence"
    exec 7<>"$dir/silence"
    "$mini" "$socket" "$dir/image" silent <&7 >"$dir/silent" 4>&- &
    silent=$!
    right whole
    right give-up
    kill -CONT "$vm"
    end_halves
    echo go >&7
    wait "$silent" || show "the silent one: $?"
    stop 0
}

killed_vm_is_noticed() {
    start --source "file:$dir/image"
    begin_halves
    kill -KILL "$vm"
    await '*it has ended*'
    expect 0 "$GMEM_PAGER" --status --json --socket "$socket"
    [ "$(json_value served)" = 0 ] || show 'it is still served'
    right whole
    stop 0
}

# All at a time, and gone at a time: what they took of the daemon's memory is given back at once.
many_come_and_go() {
    start --source "file:$dir/image"
    mkfifo "$dir/words" "$dir/orders"
    exec 5<>"$dir/words" 6<>"$dir/orders"
    vms=
    for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
        "$mini" "$socket" "$dir/image" halves >&5 2>&5 <&6 4>&- &
        vms="$vms $!"
        read -r word <&5
        [ "$word" = waiting ] || show "VM $number says '$word'"
    done
    # shellcheck disable=SC2086
    kill -KILL $vms
    for number in $vms; do
        await '*it has ended*'
    done
    right whole
    stop 0
}

let_go_unfinished() {
    start --source "file:$dir/image"
    begin_halves
    stop 3
    await '*let go with empty pages*'
    kill -KILL "$vm"
}

# Nobody serves any more, and nobody has to.
finished_before_the_end() {
    start --source "file:$dir/image" --finish 60s
    begin_halves
    stop 0
    end_halves
}

# Its source never has the rest; nobody has to wait for the time to be over.
second_signal_ends_the_filling() {
    head -c 3M "$dir/image" >"$dir/short"
    start --source "file:$dir/short" --deadline forever --finish forever
    begin_halves
    kill -TERM "$daemon"
    await STOPPING=1
    [ ! -e "$socket" ] || show 'the socket is there'
    expect 1 "$mini" "$socket" "$dir/image" whole
    says err 'No such file'
    stop 3
    kill -KILL "$vm"
}

hangup_changes_nothing() {
    start --source "file:$dir/image"
    kill -HUP "$daemon"
    right whole
    stop 0
}

status() {
    start --source "file:$dir/image" --identity "$(id -u)=web-1" --max-faults 1 --around 2M
    begin_halves
    expect 0 "$GMEM_PAGER" --status --socket "$socket"
    says out "^web-1 +$vm +$(id -u) firecracker +4 "
    expect 0 "$GMEM_PAGER" --status --json --control "$socket.control"
    [ "$(json_value served)" = 1 ] && [ "$(json_value name)" = '"web-1"' ] || show 'other values'
    [ "$(json_value length)" = 4194304 ] && [ "$(json_value throttled)" -ge 1 ] || show 'another length, or not throttled'
    is_json
    end_halves
    stop 0
}

# What the example reads when another program is its pager.
right_checksum() {
    "$build/pass-to-process-pager" "$dir/other" "$dir/image" 1 >"$dir/served" 4>&- &
    expect 0 "$build/pass-to-process-vmm" "$dir/other" 4194304
    wait $! || show "the example's pager: $?"
    checksum=$(grep '^checksum 0x' "$dir/out") || show 'no checksum'
}

# The example says that its name is "example".
native_by_its_name() {
    right_checksum
    mkdir "$dir/root" && cp "$dir/image" "$dir/root/example.mem" || exit 1
    start --root "$dir/root" --source file:%i.mem
    expect 0 "$build/pass-to-process-vmm" "$socket" 4194304
    says out "^$checksum\$"
    stop 0
}

# The first one has a quarter of the content, and is ended when the VM waits for more.
native_goes_on_with_the_next() {
    right_checksum
    head -c 1M "$dir/image" >"$dir/short"
    start --source "file:$dir/short" --deadline 100ms --on-failure wait
    "$build/pass-to-process-vmm" "$socket" 4194304 >"$dir/out" 2>"$dir/err" 4>&- &
    vm=$!
    await '*cannot be read*left waiting*'
    stop 3
    rm "$dir/events" "$dir/notify"
    start --source "file:$dir/image" --background max
    wait "$vm" || show "the VM's exit status is $?"
    says out "^$checksum\$"
    says out '^another pager has taken over'
    stop 0
}

other_users_are_refused() {
    start --source "file:$dir/image" --allow-uid 12345
    true >"$dir/name"
    expect 0 "$PAGER_TOOLS/introduce" "$socket" "$dir/name" "$dir"
    says out '^refused: .*who has connected may not'
    await '*this user is not allowed*'
    stop 0
}

come_as_another() {
    as_user $limit "$mini" "$socket" "$dir/image" unwanted >"$dir/out" 2>"$dir/err" || show "exit status $?"
}

# Far more than the 64 that may be in a handshake at a time, which has no end here.
other_users_take_no_place() {
    can_become_user
    as_user test -r "$dir/image" || skip "an ordinary user cannot come to $dir"
    start --source "file:$dir/image" --mode 666 --handshake 3600s
    come_as_another
    says out '^unwanted: [1-9][0-9]* bytes$'
    await '*uid 65534: this user is not allowed*'
    right whole
    stop 0
    rm "$dir/events" "$dir/notify"
    start --source "file:$dir/image" --mode 666 --handshake 3600s --protocol firecracker
    come_as_another
    says out '^unwanted: 0 bytes$'
    right whole
    stop 0
}

files_at_offsets() {
    head -c 1M "$dir/image" >"$dir/low"
    tail -c 3M "$dir/image" >"$dir/high"
    start --source "file:$dir/low" --source "file@1M:$dir/high"
    right whole
    stop 0
}

first_layer_counts() {
    head -c 4M /dev/zero >"$dir/below"
    start --source "file:$dir/image" --source "file:$dir/below" --source zero
    right whole
    stop 0
}

# SIGBUS is 7.
missing_content_is_poisoned() {
    head -c 1M "$dir/image" >"$dir/short"
    start --source "file:$dir/short" --deadline 100ms
    expect 135 "$mini" "$socket" "$dir/image" whole
    await '*cannot be read*poisoned*'
    stop 0
}

too_large_is_refused() {
    start --source "file:$dir/image" --max-bytes 1M
    expect 0 "$mini" "$socket" "$dir/image" refused
    expect 0 "$GMEM_PAGER" --status --json --socket "$socket"
    [ "$(json_value broken)" = 1 ] || show 'no broken handshake is counted'
    stop 0
}

one_at_a_socket() {
    start --source "file:$dir/image"
    expect 1 "$GMEM_PAGER" --socket "$socket" --source zero
    says err 'somebody else listens there'
    kill -KILL "$daemon"
    ended 137
    rm "$dir/events" "$dir/notify"
    start --source "file:$dir/image"
    right whole
    stop 0
    [ ! -e "$socket" ] || show 'the socket stays'
}

# The page's commands, in the page's order; what they find in the place of Firecracker is the stand-in.
guide_page() {
    page=$here/docs/guide/firecracker.md
    awk '/^```sh gmem-pager/ { inside = 1; next } /^```/ { inside = 0 } inside' "$page" >"$dir/commands"
    [ "$(grep -c gmem-pager "$dir/commands")" -ge 3 ] || show 'the page has hardly a command'
    mkdir "$dir/bin" && ln -s "$GMEM_PAGER" "$dir/bin/gmem-pager" && ln -s "$mini" "$dir/bin/firecracker-mini" || exit 1
    mkdir "$dir/snapshots" && cp "$dir/image" "$dir/snapshots/web-1.mem" && cp "$dir/image" "$dir/snapshot.mem" || exit 1
    (cd "$dir" && PATH=$dir/bin:$PATH expect 0 sh -eu "$dir/commands") || exit 1
    [ "$(grep -c '^right$' "$dir/out")" -eq "$(grep -c '^firecracker-mini' "$dir/commands")" ] || show 'not all was right'
}

# --- the run ---

tests='arguments every_byte with_every_option pages_of_2m a_page_of_2m_of_zeros handed_sockets as_nobody unconfined_if_told others_are_not_delayed
    killed_vm_is_noticed many_come_and_go let_go_unfinished finished_before_the_end second_signal_ends_the_filling hangup_changes_nothing status
    native_by_its_name native_goes_on_with_the_next
    other_users_are_refused other_users_take_no_place files_at_offsets first_layer_counts
    missing_content_is_poisoned too_large_is_refused one_at_a_socket guide_page'

run_tests "$@"
