#!/usr/bin/env bash
# Measures, in one run: the ceiling (peers/echo, without and with appending to a file), Apache RocketMQ (peers/rocketmq, from Maven
# Central; warmed on each path until its rate stops rising, 60 s at most), and bin/apogee in both flush modes. Prints one table with
# ratios to RocketMQ. The JSON of each workload stays in bench/out/peers. Needs a JDK >= 11 and Maven; ports 9876, 10911, 8080, 8081.
#
#   BENCH_SECONDS, BENCH_FILL, BENCH_RATES, BENCH_OUT, BENCH_CASES   see workloads.sh
#   BENCH_PEERS     which of: echo rocketmq apogee (all)
#   RMQ_LIB         RocketMQ's jars, where they are fetched already; RMQ_HEAP and RMQ_DIRECT size its JVM
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/workloads.sh"
peers=$root/bench/peers
results=$out/peers; rm -rf "$results"; mkdir -p "$results"
work=$(mktemp -d "$out/work.XXXXXX"); pid=; rocketmq_up=
cleanup() {
  [ -z "$pid" ] || stop_apogee
  [ -z "$rocketmq_up" ] || "$peers/rocketmq/rocketmq.sh" down "$work/rocketmq"
  rm -rf "$work"
}
trap cleanup EXIT

echo_server() { # echo_server NAME FLAGS...
  local name=$1 base; shift
  base=$(free_ports)
  "$work/echo" -addr "127.0.0.1:$base" "$@" & pid=$!
  until ! port_free "$base"; do sleep 0.05; done
  sends "$results/$name" 1s --broker "127.0.0.1:$base" --pid "$pid"
  stop_apogee
}

rocketmq() {
  local p
  for p in 9876 10911 8080 8081; do
    port_free $p || { echo "port $p is taken: RocketMQ cannot be started beside what holds it" >&2; return 1; }
  done
  command -v java > /dev/null || { echo "no java: install a JDK >= 11, or set BENCH_PEERS='echo apogee'" >&2; return 1; }
  export RMQ_LIB=${RMQ_LIB:-$out/rocketmq/lib}
  if ! compgen -G "$RMQ_LIB/rocketmq-broker-*.jar" > /dev/null; then
    command -v mvn > /dev/null || { echo "no mvn: install Maven, or set RMQ_LIB to RocketMQ's jars" >&2; return 1; }
    "$peers/rocketmq/rocketmq.sh" fetch "$(dirname "$RMQ_LIB")"
  fi
  rocketmq_up=1
  local began; began=$(date +%s%N)
  "$peers/rocketmq/rocketmq.sh" up "$work/rocketmq"
  until "$bin" bench send --topic BenchFirst --connections 1 --in-flight 1 --count 1 --warmup 0s --namesrv 127.0.0.1:9876 > "$work/first" 2>&1; do
    [ $(($(date +%s%N) - began)) -lt 120000000000 ] || { cat "$work/first" "$work"/rocketmq/*.out >&2; return 1; }
    sleep 0.2
  done
  echo "rocketmq, start to first send: $((($(date +%s%N) - began) / 1000000)) ms" >&2
  p=$("$peers/rocketmq/rocketmq.sh" pid "$work/rocketmq")
  sends "$results/rocketmq" until-stable --namesrv 127.0.0.1:9876 --pid "$p"
  BENCH_RATES=${BENCH_RATES:-10000 20000 30000} consumes "$results/rocketmq" "${BENCH_WARM:-20}" 3 --namesrv 127.0.0.1:9876 --pid "$p"
  transactions "$results/rocketmq" until-stable --namesrv 127.0.0.1:9876 --pid "$p"
  "$peers/rocketmq/rocketmq.sh" down "$work/rocketmq"; rocketmq_up=
  rm -rf "$work/rocketmq"
}

for peer in ${BENCH_PEERS:-echo rocketmq apogee}; do
  case $peer in
  echo)
    (cd "$peers/echo" && go build -o "$work/echo" .)
    echo_server echo
    echo_server echo-append -append "$work/appended"; rm -f "$work/appended" ;;
  rocketmq) rocketmq ;;
  apogee)
    apogee_mode apogee-sync SYNC_FLUSH
    apogee_mode apogee-async ASYNC_FLUSH ;;
  *) echo "BENCH_PEERS: $peer is none of echo rocketmq apogee" >&2; exit 2 ;;
  esac
done
echo
"$bin" bench table "$results" --baseline rocketmq | tee "$results/table.txt"
