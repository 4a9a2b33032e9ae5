#!/usr/bin/env bash
# Measures bin/apogee in both flush modes, each on a fresh directory and free ports, and prints one table.
# The JSON of each workload stays in bench/out/apogee. BENCH_SECONDS=2 is the short form; see workloads.sh for the rest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/workloads.sh"
results=$out/apogee; rm -rf "$results"; mkdir -p "$results"
work=$(mktemp -d "$out/work.XXXXXX"); pid=
trap 'stop_server; rm -rf "$work"' EXIT
apogee_mode apogee-sync SYNC_FLUSH
apogee_mode apogee-async ASYNC_FLUSH
echo
"$bin" bench table "$results" --baseline apogee-sync | tee "$results/table.txt"
