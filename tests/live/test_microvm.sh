#!/bin/sh
# SPDX-License-Identifier: MIT
# examples/microvm as its users run it, on small images. MICROVM and GMEM_INFO say where programs are. An argument runs only the
# tests whose name contains it.
. "$(dirname "$0")/shell.sh"
LC_ALL=C.UTF-8
export LC_ALL
unset COLUMNS

: "${MICROVM:=$here/build/microvm}" "${GMEM_INFO:=$here/build/gmem-info}"
image=$dir/image
pool=/sys/kernel/mm/hugepages/hugepages-2048kB

begin() {
    sh "$here/examples/microvm/make-image.sh" "$image" 16
}

# --- what a test is made of ---

right() {
    expect 0 "$@"
    says out '^checksum +right$'
    says_not out WRONG
}

wrong() {
    expect 1 "$@"
    says out '^checksum +WRONG$'
    says err 'microvm: .*checksum'
}

# Refused: a sentence on standard error, nothing that looks like a result.
refused() {
    status=$1 sentence=$2
    shift 2
    expect "$status" "$@"
    says err "$sentence"
    says_not out '^checksum'
}

has_feature() {
    "$GMEM_INFO" --feature "$1" >"$dir/out" 2>&1
}

# Huge pages of 2 MiB that nobody has or has been promised.
free_huge_pages() {
    [ -r $pool/free_hugepages ] && echo $(($(cat $pool/free_hugepages) - $(cat $pool/resv_hugepages)))
}

needs_huge_pages() {
    free=$(free_huge_pages) || skip 'no huge pages of 2 MiB in this kernel'
    [ "$free" -ge "$1" ] || skip "$free huge pages of 2 MiB are free, $1 are needed: nr_hugepages"
}

# A place where an ordinary user can read the image and run the program.
for_user() {
    can_become_user
    cp "$MICROVM" "$dir/microvm" && chmod 644 "$image" || exit 1
    as_user test -x "$dir/microvm" || skip "an ordinary user cannot come to $dir"
}

# --- microvm ---

right_by_default() {
    right "$MICROVM" "$image"
    says out '^length +16777216 bytes'
    says out '^pages skipped as zero +[1-9]'
    says out '^pages populated +[1-9]'
}

right_on_memfd() {
    right "$MICROVM" --backing memfd "$image"
    says out '^backing +memfd$'
}

right_on_guest_memfd() {
    has_feature guest_memfd_init_shared || skip 'no guest_memfd here that can be mapped and touched'
    right "$MICROVM" --backing guest_memfd "$image"
    says out '^backing +guest_memfd$'
    says out '^read by +a vCPU$'
}

# 8 pages for the image and one for the program, which leaves most of its page unused.
right_on_hugetlb() {
    needs_huge_pages 9
    for options in '' --no-kvm --no-prefault '--no-kvm --no-prefault' '--threads 2'; do
        # shellcheck disable=SC2086
        right "$MICROVM" --backing hugetlb $options "$image"
        says out '^backing +hugetlb$'
        says out '^pages populated +[1-8] of 8 '
    done
    wrong "$MICROVM" --backing hugetlb --flip 16777215 "$image"
    expect 0 "$MICROVM" --backing hugetlb --json "$image"
    is_json
    says out '"page_size": 2097152'
    printf abc >"$dir/small"
    right "$MICROVM" --backing hugetlb "$dir/small"
}

# One page more than can be had: a hole, so that the image costs nothing.
hugetlb_is_not_replaced() {
    most=0
    ! free_huge_pages >"$dir/out" || most=$(($(cat "$dir/out") + $(cat $pool/nr_overcommit_hugepages)))
    truncate -s "$((most * 2 + 2))M" "$dir/large"
    for options in '' --no-kvm '--no-prefault --threads 1'; do
        # shellcheck disable=SC2086
        refused 1 'microvm: cannot .*gmem_.*huge' "$MICROVM" --backing hugetlb $options "$dir/large"
    done
}

right_with_threads() {
    for threads in 0 1 2 64; do
        for options in '' '--backing memfd' --no-kvm --no-prefault; do
            # shellcheck disable=SC2086
            right "$MICROVM" --threads "$threads" $options "$image"
            says out "^threads +$((threads + 1))\$"
        done
    done
    wrong "$MICROVM" --threads 1 --flip 4096 "$image"
}

prefault_is_told() {
    right "$MICROVM" "$image"
    says out '^prefaulted by +(KVM_|host fault)'
    says out '^prefault time +[0-9.]+ s$'
    says out '^Ways to prefault it'
    right "$MICROVM" --no-kvm "$image"
    says out '^prefaulted by +host fault$'
    right "$MICROVM" --no-prefault "$image"
    says out '^prefaulted by +none$'
    says_not out '^prefault time|^Ways to prefault'
}

guest_memfd_is_not_replaced() {
    refused 1 'guest_memfd' "$MICROVM" --no-kvm --backing guest_memfd "$image"
}

right_without_kvm() {
    right "$MICROVM" --no-kvm "$image"
    says out '^read by +a host thread$'
    says out '^backing +memfd$'
}

right_as_a_user() {
    for_user
    right as_user "$dir/microvm" "$image"
    if ! as_user test -w /dev/kvm; then
        says out 'No vCPU: /dev/kvm'
        says out '^read by +a host thread$'
    fi
}

# A page more than a MiB, and three bytes.
right_on_odd_sizes() {
    for size in 1052675 4097 4096 4095 65537 9 8 7 1; do
        head -c "$size" /dev/urandom >"$dir/odd"
        right "$MICROVM" "$dir/odd"
        says out "^length +$size bytes"
        right "$MICROVM" --no-kvm "$dir/odd"
    done
}

right_on_holes() {
    truncate -s 32M "$dir/holes"
    right "$MICROVM" "$dir/holes"
    says out '^pages populated +0 of'
    printf x | dd of="$dir/holes" bs=1 seek=20000001 conv=notrunc status=none
    right "$MICROVM" "$dir/holes"
    says out '^pages populated +1 of'
}

flipped_word_is_noticed() {
    for offset in 0 8 4096 0x7fffff 16777215; do
        wrong "$MICROVM" --flip "$offset" "$image"
        wrong "$MICROVM" --flip "$offset" --no-kvm "$image"
    done
    wrong "$MICROVM" --flip 12345 --backing memfd "$image"
    printf abc >"$dir/small"
    wrong "$MICROVM" --flip 2 "$dir/small"
}

bad_images_are_refused() {
    : >"$dir/empty"
    mkfifo "$dir/fifo"
    refused 1 "microvm: $dir/empty: .*empty" "$MICROVM" "$dir/empty"
    refused 1 "microvm: $dir: .*directory" "$MICROVM" "$dir"
    refused 1 "microvm: $dir/missing: No such file" "$MICROVM" "$dir/missing"
    refused 1 "microvm: $dir/fifo: " "$MICROVM" "$dir/fifo"
    refused 1 'microvm: /dev/zero: ' "$MICROVM" /dev/zero
    refused 1 'microvm: --flip .*beyond' "$MICROVM" --flip 16777216 "$image"
}

image_of_another_user_is_refused() {
    for_user
    chmod 600 "$image"
    refused 1 "microvm: $image: Permission denied" as_user "$dir/microvm" "$image"
}

bad_options_are_refused() {
    refused 2 'no image' "$MICROVM"
    refused 2 'more than one' "$MICROVM" "$image" "$image"
    refused 2 'bogus' "$MICROVM" --bogus "$image"
    refused 2 'backing' "$MICROVM" --backing floppy "$image"
    for offset in '' -1 x 1x ' 1' 99999999999999999999; do
        refused 2 'flip' "$MICROVM" --flip "$offset" "$image"
    done
    for threads in '' -1 x 1x ' 1' 65 4294967296; do
        refused 2 'threads' "$MICROVM" --threads "$threads" "$image"
    done
    expect 0 "$MICROVM" --help
    says out '^Usage: microvm'
    expect 0 "$MICROVM" --version
}

json_of_microvm() {
    expect 0 "$MICROVM" --json "$image"
    is_json
    says out '"right": true'
    says out '"length": 16777216'
    says out '"threads": 1'
    says out '"prefault_mechanism": "(KVM_|host fault)'
    says out '"prefault_seconds": [0-9]'
    expect 1 "$MICROVM" --json --flip 64 "$image"
    is_json
    says out '"right": false'
    cp "$image" "$dir/quote\"back\\slash"
    expect 0 "$MICROVM" --json --no-kvm "$dir/quote\"back\\slash"
    is_json
}

report_that_nobody_got() {
    [ -w /dev/full ] || skip 'no /dev/full'
    for program in "$MICROVM $image" "$MICROVM --json $image" "$GMEM_INFO" "$GMEM_INFO --json"; do
        $program >/dev/full 2>"$dir/err" && show "exit status 0 on a full disk: $program"
        [ -s "$dir/err" ] || show "nothing said on a full disk: $program"
    done
    return 0
}

# --- microvm --lazy ---

needs_paging() {
    has_feature uffd_minor_memfd && has_feature uffd_missing_memfd || skip 'no userfaultfd for pages of a memfd here'
    has_feature uffd_kernel_faults || skip 'no userfaultfd that hears of faults of KVM: permissions'
}

needs_poison() {
    needs_paging
    has_feature uffd_poison || skip 'this kernel cannot poison pages (6.6)'
}

# Every page of the image is touched, so nothing of it is left. What a pager has to do with it is in the report.
right_on_demand() {
    needs_paging
    for options in '' '--backing memfd' --no-kvm '--around none' '--around 64k --threads 3' '--background max' \
        '--background 1m --no-kvm' '--around 2m --background 100m --threads 64'; do
        # shellcheck disable=SC2086
        right "$MICROVM" --lazy $options "$image"
        says out '^backing +memfd$'
        says out '^populated by +nobody: .*--lazy'
        says out '^page faults +[1-9][0-9]* \(p50 [0-9.]+ us, p99 [0-9.]+ us\)$'
        says out '^filled +[1-9][0-9]* bytes'
        says out '^remaining +0 bytes'
        says_not out '^prefault'
        case $options in
        *background*) says out '^remaining +0 bytes: paging is over$' ;;
        esac
    done
    right "$MICROVM" --lazy "$image"
    says out '^Ways to bring in what is touched'
    says_not out '^Ways to (populate|prefault)'
}

right_on_demand_on_hugetlb() {
    needs_huge_pages 9
    needs_paging
    has_feature uffd_minor_hugetlb || skip 'no userfaultfd for huge pages here'
    for options in '' --no-kvm '--background max' '--around 64k'; do
        # shellcheck disable=SC2086
        right "$MICROVM" --lazy --backing hugetlb $options "$image"
        says out '^backing +hugetlb$'
    done
    wrong "$MICROVM" --lazy --backing hugetlb --flip 16777215 "$image"
}

right_on_demand_on_odd_sizes() {
    needs_paging
    for size in 1052675 4097 4096 4095 7 1; do
        head -c "$size" /dev/urandom >"$dir/odd"
        right "$MICROVM" --lazy "$dir/odd"
        right "$MICROVM" --lazy --no-kvm --background max "$dir/odd"
    done
    truncate -s 8M "$dir/holes"
    right "$MICROVM" --lazy "$dir/holes"
    says out '^filled +0 bytes'
}

flipped_word_is_noticed_on_demand() {
    needs_paging
    for offset in 0 4096 16777215; do
        wrong "$MICROVM" --lazy --flip "$offset" "$image"
        wrong "$MICROVM" --lazy --no-kvm --background max --flip "$offset" "$image"
    done
}

# Content that cannot be had is an error of whoever touches it: neither zeros nor a guest that hangs.
lost_content_is_an_error() {
    needs_poison
    for options in '' --no-kvm '--background max' '--around none --threads 2'; do
        # shellcheck disable=SC2086
        refused 1 'image: what belongs at 0x800000 cannot be had' \
            timeout 60 "$MICROVM" --lazy --deadline 1 --lose 0x800000 $options "$image"
        says err 'microvm: (SIGBUS|KVM_RUN|the vCPU stopped)'
    done
    refused 1 'microvm: SIGBUS' timeout 60 "$MICROVM" --lazy --deadline 1 --lose 0 --flip 0 "$image"
    right "$MICROVM" --lazy --lose 16777216 "$image"
}

# The file itself is cut off while the guest runs; where that comes too late, the image is larger the next time.
truncated_image_is_an_error() {
    needs_poison
    for options in '' --no-kvm; do
        for copies in 1 4 16; do
            : >"$dir/cut" && : >"$dir/err"
            for copy in $(seq "$copies"); do
                cat "$image" >>"$dir/cut" || exit 1
            done
            # shellcheck disable=SC2086
            timeout 60 "$MICROVM" --lazy --json --deadline 1 --around none $options "$dir/cut" >"$dir/out" 2>"$dir/err" &
            until grep -q '^Image at' "$dir/err" || ! kill -0 $! 2>"$dir/gone"; do :; done
            : >"$dir/cut"
            wait $!
            status=$?
            [ "$status" -eq 0 ] || break
        done
        [ "$status" -eq 1 ] || show "exit status $status of a guest whose image was cut off $options"
        says err 'became shorter|cannot be had|cannot make a source'
        says_not out '"right": true'
    done
}

json_on_demand() {
    needs_paging
    expect 0 "$MICROVM" --lazy --json "$image"
    is_json
    for member in '"lazy": true' '"threads": 1' '"faults": [1-9]' '"fault_p50_ns": [1-9]' '"fault_p99_ns": [1-9]' \
        '"bytes_filled": [1-9]' '"pages_zeroed": [0-9]' '"bytes_remaining": 0' '"finished": false' \
        '"seconds_to_first_instruction": [0-9]' '"right": true'; do
        says out "$member"
    done
    says_not out 'populate|prefault'
    expect 0 "$MICROVM" --lazy --json --background max "$image"
    is_json
    says out '"finished": true'
    expect 0 "$MICROVM" --json "$image"
    says out '"lazy": false'
}

# A thread of this program is all that faults without a vCPU, and that needs no permission.
right_on_demand_as_a_user() {
    for_user
    has_feature uffd_minor_memfd && has_feature uffd_missing_memfd || skip 'no userfaultfd for pages of a memfd here'
    right as_user "$dir/microvm" --lazy --no-kvm "$image"
}

# /dev/kvm may be used, and userfaultfd not: it says what is missing.
missing_permission_is_named() {
    for_user
    needs_paging
    [ -w /dev/kvm ] && [ -c /dev/userfaultfd ] || skip 'no /dev/kvm, or no /dev/userfaultfd'
    [ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] || skip 'vm.unprivileged_userfaultfd lets everybody'
    : >"$dir/nobodys" && chmod 0 "$dir/nobodys" && chown 65534 "$dir/nobodys" || exit 1
    unshare -m mount --bind "$dir/nobodys" /dev/userfaultfd 2>"$dir/err" || skip 'no mount namespace of its own'
    refused 1 'cannot create guest memory: .*/dev/userfaultfd.*unprivileged_userfaultfd' \
        unshare -m sh -c 'mount --bind "$1/nobodys" /dev/userfaultfd &&
            exec setpriv --bounding-set=-all --inh-caps=-all "$1/microvm" --lazy "$1/image"' sh "$dir"
}

bad_options_of_lazy_are_refused() {
    for around in '' 0 3k 4m x 16kk -1 64K; do
        refused 2 'around' "$MICROVM" --lazy --around "$around" "$image"
    done
    for rate in '' 0 x -1 99999999999999999999g; do
        refused 2 'background' "$MICROVM" --lazy --background "$rate" "$image"
    done
    for deadline in '' 0 x 3601; do
        refused 2 'deadline' "$MICROVM" --lazy --deadline "$deadline" "$image"
    done
    refused 2 'lose' "$MICROVM" --lazy --lose x "$image"
    refused 2 'go with --lazy' "$MICROVM" --background max "$image"
    refused 2 'go with --lazy' "$MICROVM" --lose 0 "$image"
    refused 1 'guest_memfd' "$MICROVM" --lazy --no-kvm --backing guest_memfd "$image"
}

# --- the run ---

tests='right_by_default right_on_memfd right_on_guest_memfd right_on_hugetlb guest_memfd_is_not_replaced hugetlb_is_not_replaced
    right_without_kvm right_with_threads prefault_is_told right_as_a_user
    right_on_odd_sizes right_on_holes flipped_word_is_noticed bad_images_are_refused image_of_another_user_is_refused
    bad_options_are_refused json_of_microvm right_on_demand right_on_demand_on_hugetlb right_on_demand_on_odd_sizes
    flipped_word_is_noticed_on_demand lost_content_is_an_error truncated_image_is_an_error json_on_demand
    right_on_demand_as_a_user missing_permission_is_named bad_options_of_lazy_are_refused report_that_nobody_got'

run_tests "$@"
