#!/bin/sh
# SPDX-License-Identifier: MIT
# The benchmark runs to its end on little memory, and reports every goal, as a table and as JSON. Its figures are not looked at:
# there is no time that a test could rely on. bench.sh BUILD-DIRECTORY
set -u
build=$(cd "${1:-${GMEM_BUILD:?is the build directory}}" && pwd) || exit 2
bench=$build/tests/bench/bench
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
bad=0
killing="a pager's process that is killed breaks what it was for, and nothing waits for it"

verdict() { # name, status
	if [ "$2" = 0 ]; then
		echo "# PASS $1"
	else
		echo "# FAIL $1"
		bad=1
	fi
}

# Every goal has a row, and each row ends in a verdict that a quick run may have.
table_is_whole() { # file
	awk '
		BEGIN { split("1 2 3 4 5 6 7 8 9 10 11 12 14 16 ranges peer process call memory", goals) }
		/ (ran|not measured: .+)$/ { seen[$1]++; rows++; next }
		/ (holds|MISSED|BROKEN)/ { print "no verdict of a quick run: " $0; bad = 1 }
		/^[0-9]+ rows, / { end = $1; missed = $3 }
		END {
			for (i in goals)
				if (!(goals[i] in seen)) { print "no row for goal " goals[i]; bad = 1 }
			if (rows != end || missed != "0") {
				print rows " rows seen, " end " announced, " missed " missed"
				bad = 1
			}
			exit bad
		}' "$1"
}

# Brackets and quotes pair up, and there is one object for every row.
json_is_whole() { # file, rows
	awk -v wanted="$2" '
		{ text = text $0 "\n" }
		END {
			n = length(text)
			for (i = 1; i <= n; i++) {
				c = substr(text, i, 1)
				if (quoted) {
					if (c == "\\") i++
					else if (c == "\"") quoted = 0
				} else if (c == "\"") quoted = 1
				else if (c == "{" || c == "[") open[++depth] = c
				else if (c == "}" || c == "]") {
					if (depth < 1 || open[depth] != (c == "}" ? "{" : "[")) {
						print "a " c " too many"
						exit 1
					}
					if (--depth == 0) whole++
				}
			}
			rows = gsub(/"goal": "/, "", text)
			if (quoted || depth || whole != 1) { print "not one object"; exit 1 }
			if (rows != wanted) { print rows " rows, not " wanted; exit 1 }
		}' "$1"
}

# Whose parent that is.
child_of() { # process
	grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status | sed -n '1s:^/proc/\([0-9]*\)/.*:\1:p'
}

# Is there a page fault of a VM of this pager that it has not read?
is_waited_for() { # process
	grep -qs '^pending:[[:space:]]*[1-9]' "/proc/$1"/fdinfo/*
}

# More rounds than it will come to: whenever one of them is killed, it is needed. One that is stopped reads no faults, so that
# somebody waits for a page of it, unless it was stopped while a VM was handed over.
kill_a_pager() { # file for the table
	"$bench" --goal process --size 2 --rounds 999 > "$1" &
	pid=$!
	victim=
	while [ -z "$victim" ] && kill -0 $pid 2> "$dir/gone"; do
		sleep 0.1
		victim=$(child_of $pid)
	done
	[ -n "$victim" ] && kill -STOP "$victim"
	until is_waited_for "$victim"; do
		kill -CONT "$victim" && sleep 0.1 && kill -STOP "$victim" && sleep 0.1 || break
	done
	is_waited_for "$victim"
	blocked=$?
	[ -n "$victim" ] && kill -KILL "$victim"
	wait $pid
	[ $? = 1 ] && [ $blocked = 0 ] && grep -q '^process .*BROKEN' "$1" && ! grep -q '^process .*\(holds\|ran\)' "$1"
}

echo "# PLAN 6"
echo "# RUN a quick run reports every goal"
"$bench" --quick > "$dir/table"
status=$?
table_is_whole "$dir/table" || status=1
[ $status = 0 ] || cat "$dir/table"
verdict "a quick run reports every goal" $status

# The check checks: take a goal away.
echo "# RUN a goal without a row is noticed"
grep -v '^7 ' "$dir/table" > "$dir/less"
! cmp -s "$dir/table" "$dir/less" && ! table_is_whole "$dir/less" > "$dir/complaints"
verdict "a goal without a row is noticed" $?

echo "# RUN JSON has every row"
rows=$(sed -n 's/^\([0-9]*\) rows, .*/\1/p' "$dir/table")
"$bench" --quick --json > "$dir/json"
status=$?
json_is_whole "$dir/json" "$rows" || status=1
[ $status = 0 ] || cat "$dir/json"
verdict "JSON has every row" $status

echo "# RUN JSON that is cut off is noticed"
sed '$d' "$dir/json" > "$dir/cut"
! json_is_whole "$dir/cut" "$rows" > "$dir/complaints"
verdict "JSON that is cut off is noticed" $?

echo "# RUN one goal can be asked for, and an unknown one is an error"
"$bench" --quick --goal memory > "$dir/one" && [ "$(grep -c '^memory ' "$dir/one")" = "$(grep -c '^memory ' "$dir/table")" ] &&
	! grep -q '^1 ' "$dir/one" && ! "$bench" --quick --goal none > "$dir/none" 2>&1
verdict "one goal can be asked for, and an unknown one is an error" $?

echo "# RUN $killing"
if grep -q '^process .* ran$' "$dir/table"; then
	kill_a_pager "$dir/killed"
	status=$?
	[ $status = 0 ] || cat "$dir/killed"
	verdict "$killing" $status
else
	echo "# SKIP $killing: $(sed -n 's/^process .*not measured: //p' "$dir/table" | sed 1q)"
fi
exit $bad
