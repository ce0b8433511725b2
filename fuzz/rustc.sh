#!/bin/sh
# The compiler for the members of the workspace, as RUSTC_WORKSPACE_WRAPPER: what cargo-fuzz has a compiler do, for them
# and not for what they depend on. A stable compiler has these flags.
sancov=-Cllvm-args=-sanitizer-coverage
exec "$@" --cfg fuzzing -Copt-level=1 -Coverflow-checks -Cdebug-assertions -Cdebuginfo=0 -Cpasses=sancov-module \
  $sancov-level=4 $sancov-inline-8bit-counters $sancov-pc-table $sancov-trace-compares
