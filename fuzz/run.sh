#!/bin/sh
# Runs one target that has been built, from its seeds and what earlier runs kept: `sh fuzz/run.sh TARGET -max_total_time=60`.
# Prints one line; what a failure printed is shown too, and its input stays in fuzz/artifacts.
set -u
cd "$(dirname "$0")" || exit 1
target=$1
shift
mkdir -p "corpus/$target" artifacts
log=artifacts/$target.log
words= more=
[ "$target" != yaml ] || more=../tests/golden
[ -f "dictionaries/$target" ] && words=-dict=dictionaries/$target
"${CARGO_TARGET_DIR:-../target}/debug/$target" "corpus/$target" "seeds/$target" $more "$@" -timeout=10 -rss_limit_mb=2048 \
  -max_len=4096 -print_final_stats=1 -artifact_prefix="artifacts/$target-" $words >"$log" 2>&1
status=$?
number() { sed -n "s/.*$1 *\([0-9][0-9]*\).*/\1/p" "$log" | tail -1; }
result=ok
[ "$status" -eq 0 ] || result="FAILED ($status)"
printf '%-14s %10s executions %6s edges %7s inputs  %s\n' \
  "$target" "$(number number_of_executed_units:)" "$(number 'cov:')" "$(number 'corp:')" "$result"
[ "$status" -eq 0 ] || { grep -v '^#' "$log" | tail -40; exit 1; }
