#!/usr/bin/env bash
# Measures what grows with what a node holds: how long it takes to be ready after kill -9 with a log of some gigabytes, and what 100,000
# queues cost in memory and in speed. Prints figures; judges nothing. Needs 8 GiB of disk and curl.
#
#   SCALE_LOG_MESSAGES   messages of 1 KiB in the log (4800000: 6 GB)
#   SCALE_TOPICS         topics of 10,000 queues each (10)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/workloads.sh"
mkdir -p "$out"; work=$(mktemp -d "$out/work.XXXXXX"); pid=
cleanup() { [ -z "$pid" ] || stop_server; rm -rf "$work"; }
trap cleanup EXIT

ready_after_kill() { # ready_after_kill WHAT
  local began args
  mapfile -d '' args < "/proc/$pid/cmdline"
  kill -9 "$pid"; wait "$pid" 2> /dev/null || true
  began=$(date +%s%N)
  "${args[@]}" > "$work/log" 2>&1 & pid=$!
  until curl -sf "http://127.0.0.1:$((${namesrv##*:} + 1))/readyz" > /dev/null; do kill -0 "$pid"; sleep 0.01; done
  echo "$1: ready $((($(date +%s%N) - began) / 1000000)) ms after kill -9; $(grep -o 'Recovered: .*' "$work/log" || echo 'nothing to recover')"
}

rss() { awk '/^VmRSS/ {print $2}' "/proc/$pid/status"; }
rate() { "$bin" bench send --namesrv "$namesrv" --pid "$pid" "$@" | sed -n 's/  */ /g; s/^rate //p; s/^server \(.* per message\).*/\1/p' | paste -sd' '; }

start_apogee "$work/log-size"
rate --count "${SCALE_LOG_MESSAGES:-4800000}" --warmup 0s
for round in 1 2 3; do ready_after_kill "$(du -sh "$work/log-size/data/store/commitlog" | cut -f1) of log"; done
stop_server; rm -rf "$work/log-size"

start_apogee "$work/queues"
echo "16 queues: $(rate --topic ScaleFew --queues 16 --duration "${seconds}s")"
before=$(rss)
for topic in $(seq "${SCALE_TOPICS:-10}"); do rate --topic "ScaleMany$topic" --queues 10000 --count 20000 --warmup 0s > /dev/null; done
queues=$((10000 * ${SCALE_TOPICS:-10}))
echo "$queues more queues, two messages each: $((($(rss) - before) * 1024 / queues)) bytes of RSS a queue"
for round in 1 2 3; do
  echo "16 queues beside them: $(rate --topic ScaleFew --duration "${seconds}s")"
  echo "10,000 of them in turn: $(rate --topic ScaleMany1 --duration "${seconds}s")"
done
ready_after_kill "$queues queues"
