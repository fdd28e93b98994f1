#!/bin/sh
# SPDX-License-Identifier: MIT
# The runner, run on little programs that speak its protocol well and badly. Speaks it too.
set -u

run=$(cd "$(dirname "$0")/.." && pwd)/run
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

# program NAME: its script comes on stdin.
program() {
	{ echo '#!/bin/sh' && cat; } >"$dir/$1" && chmod +x "$dir/$1"
}

program good <<'P'
echo '# PLAN 2'; echo '# PASS one'; echo '# POINTS 7'; echo '# PASS two'
P
program skips <<'P'
echo '# PLAN 1'; echo '# SKIP one: no such device here'
P
program fails <<'P'
echo '# PLAN 2'; echo '# PASS one'; echo '# FAIL two'; exit 1
P
program crashes <<'P'
echo '# PLAN 2'; echo '# PASS one'; echo '# RUN two'; kill -SEGV $$
P
program short <<'P'
echo '# PLAN 3'; echo '# PASS one'
P
program silent <<'P'
:
P
program angry <<'P'
echo '# PLAN 1'; echo '# PASS one'; exit 3
P
program hangs <<'P'
echo '# PLAN 1'; echo '# RUN forever'; exec tail -f /dev/null
P
program filtered <<'P'
echo '# PLAN 1'; [ "${1-}" = part ] && echo '# PASS one'
P

limit=20 filter='' status_of_all=0

# expect NAME STATUS LAST-LINE [WORDS-IN-OUTPUT] -- PROGRAM...
expect() {
	name=$1 status=$2 last=$3 words=$4
	shift 5
	echo "# RUN $name"
	(cd "$dir" && V='' TIMEOUT=$limit FILTER=$filter "$run" "$@") >"$dir/out" 2>&1
	got=$?
	if [ $got -eq "$status" ] && [ "$(tail -n 1 "$dir/out")" = "$last" ] && grep -qF -e "$words" "$dir/out"; then
		echo "# PASS $name"
		return
	fi
	echo "expected status $status, last line '$last', somewhere '$words'; got status $got and:"
	sed 's/^/  /' "$dir/out"
	echo "# FAIL $name"
	status_of_all=1
}

echo '# PLAN 12'
expect passes 0 '2 passed, 0 failed, 0 skipped' '7 failure points run' -- ./good
expect adds_up 1 '4 passed, 2 failed, 1 skipped' 'skips: one: no such device here' -- ./good ./skips ./fails ./crashes
expect names_failure 1 '1 passed, 1 failed, 0 skipped' 'failed: two' -- ./fails
expect counts_crash 1 '1 passed, 1 failed, 0 skipped' 'killed by signal 11 in two' -- ./crashes
expect counts_missing 1 '1 passed, 1 failed, 0 skipped' 'announced 3 results, reported 1' -- ./short
expect counts_silence 1 '0 passed, 1 failed, 0 skipped' 'announced no results' -- ./silent
expect counts_status 1 '1 passed, 1 failed, 0 skipped' 'exit status 3' -- ./angry
expect counts_absent 1 '0 passed, 1 failed, 0 skipped' 'announced no results' -- ./no-such-program
expect only_skips_is_no_success 1 '0 passed, 0 failed, 1 skipped' 'no such device here' -- ./skips
expect nothing_is_no_success 1 '0 passed, 0 failed, 0 skipped' '' --
limit=1
expect counts_timeout 1 '0 passed, 1 failed, 0 skipped' 'no end within 1 s in forever' -- ./hangs
limit=20 filter=part
expect passes_filter_on 0 '1 passed, 0 failed, 0 skipped' '' -- ./filtered
exit $status_of_all
