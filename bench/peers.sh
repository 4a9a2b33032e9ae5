#!/usr/bin/env bash
# Measures, in one run: what the disk can do (peers/limits), the ceiling (peers/echo, without and with appending to a file), Apache
# RocketMQ (peers/rocketmq, from Maven Central; warmed on each path until its rate stops rising, 60 s at most), NATS JetStream
# (peers/nats, a Go module), Apache Kafka (peers/kafka, from Maven Central), and bin/apogee in both flush modes. Prints one table with
# ratios to RocketMQ. The JSON of each workload stays in bench/out/peers. Needs a JDK >= 17 and Maven, and for RocketMQ the ports
# 9876, 10911, 8080 and 8081.
#
#   BENCH_SECONDS, BENCH_FILL, BENCH_RATES, BENCH_OUT, BENCH_CASES   see workloads.sh
#   BENCH_PEERS     which of: echo rocketmq nats kafka apogee (all)
#   BENCH_BASELINE  the server of the ratios (rocketmq)
#   RMQ_LIB         RocketMQ's jars, where they are fetched already; RMQ_HEAP and RMQ_DIRECT size its JVM
#   KAFKA_LIB       the same for Kafka; KAFKA_HEAP sizes its JVM
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/workloads.sh"
peers=$root/bench/peers
results=$out/peers; rm -rf "$results"; mkdir -p "$results"
work=$(mktemp -d "$out/work.XXXXXX"); pid=; rocketmq_up=; kafka_up=
cleanup() {
  [ -z "$pid" ] || stop_server
  [ -z "$rocketmq_up" ] || "$peers/rocketmq/rocketmq.sh" down "$work/rocketmq"
  [ -z "$kafka_up" ] || "$peers/kafka/kafka.sh" down "$work/kafka"
  rm -rf "$work"
}
trap cleanup EXIT

echo_server() { # echo_server NAME FLAGS...
  local name=$1 base; shift
  base=$(free_ports)
  "$work/echo" -addr "127.0.0.1:$base" "$@" & pid=$!
  until ! port_free "$base"; do sleep 0.05; done
  sends "$results/$name" 1s --broker "127.0.0.1:$base" --pid "$pid"
  stop_server
}

# jars PEER LIB JAR: has the peer's script fetch its jars if they are not there.
jars() {
  command -v java > /dev/null || { echo "no java: install a JDK >= 17, or leave $1 out of BENCH_PEERS" >&2; return 1; }
  if ! compgen -G "$2/$3-*.jar" > /dev/null; then
    command -v mvn > /dev/null || { echo "no mvn: install Maven, or say where the jars of $1 are (see the head of this script)" >&2; return 1; }
    "$peers/$1/$1.sh" fetch "$(dirname "$2")"
  fi
}

rocketmq() {
  local p
  for p in 9876 10911 8080 8081; do
    port_free $p || { echo "port $p is taken: RocketMQ cannot be started beside what holds it" >&2; return 1; }
  done
  export RMQ_LIB=${RMQ_LIB:-$out/rocketmq/lib}
  jars rocketmq "$RMQ_LIB" rocketmq-broker
  need_disk
  rocketmq_up=1
  local began; began=$(date +%s%N)
  "$peers/rocketmq/rocketmq.sh" up "$work/rocketmq"
  p=$("$peers/rocketmq/rocketmq.sh" pid "$work/rocketmq"); ln -s broker.out "$work/rocketmq/log"
  first_send "$p" "$began" "$work/rocketmq" --namesrv 127.0.0.1:9876
  sends "$results/rocketmq" until-stable --namesrv 127.0.0.1:9876 --pid "$p"
  BENCH_RATES=${BENCH_RATES:-10000 20000 30000} consumes "$results/rocketmq" "${BENCH_WARM:-20}" 3 --namesrv 127.0.0.1:9876 --pid "$p"
  transactions "$results/rocketmq" until-stable --namesrv 127.0.0.1:9876 --pid "$p"
  "$peers/rocketmq/rocketmq.sh" down "$work/rocketmq"; rocketmq_up=
  rm -rf "$work/rocketmq"
}

# other_client SYSTEM: workloads run by peers/client from here on.
other_client() {
  (cd "$peers/client" && CGO_ENABLED=0 go build -o "$work/client" .)
  bench=("$work/client" "$1")
}

nats() {
  local base began
  (cd "$peers/nats" && CGO_ENABLED=0 go build -o "$work/nats-server" github.com/nats-io/nats-server/v2)
  need_disk; base=$(free_ports); mkdir "$work/nats"; began=$(date +%s%N)
  "$work/nats-server" --jetstream --store_dir "$work/nats/data" --addr 127.0.0.1 --port "$base" > "$work/nats/log" 2>&1 & pid=$!
  first_send "$pid" "$began" "$work/nats" --broker "127.0.0.1:$base"
  sends "$results/nats" 1s --broker "127.0.0.1:$base" --pid "$pid"
  consumes "$results/nats" 2 1 --broker "127.0.0.1:$base" --pid "$pid"
  stop_server; rm -rf "$work/nats"
}

# A JVM wants warming. The short form bounds it: the paths of the four sends have much in common.
kafka() {
  local base began p warm=until-stable
  [ "$seconds" -ge 10 ] || warm=4s
  export KAFKA_LIB=${KAFKA_LIB:-$out/kafka/lib}
  jars kafka "$KAFKA_LIB" kafka-clients
  need_disk; base=$(free_ports); mkdir "$work/kafka"
  "$peers/kafka/kafka.sh" format "$work/kafka" "$base"
  kafka_up=1; began=$(date +%s%N)
  "$peers/kafka/kafka.sh" up "$work/kafka"
  p=$("$peers/kafka/kafka.sh" pid "$work/kafka"); ln -s kafka.out "$work/kafka/log"
  first_send "$p" "$began" "$work/kafka" --broker "127.0.0.1:$base"
  sends "$results/kafka" "$warm" --broker "127.0.0.1:$base" --pid "$p"
  consumes "$results/kafka" 3 2 --broker "127.0.0.1:$base" --pid "$p"
  "$peers/kafka/kafka.sh" down "$work/kafka"; kafka_up=
  rm -rf "$work/kafka"
}

(cd "$peers/limits" && go run . -dir "$work" -disk -mib $((seconds < 10 ? 512 : 4096))) | tee "$results/limits.txt" >&2
for peer in ${BENCH_PEERS:-echo rocketmq nats kafka apogee}; do
  bench=("$bin" bench)
  case $peer in
  echo)
    (cd "$peers/echo" && go build -o "$work/echo" .)
    echo_server echo
    echo_server echo-append -append "$work/appended"; rm -f "$work/appended" ;;
  rocketmq) rocketmq ;;
  nats) other_client nats; nats ;;
  kafka) other_client kafka; kafka ;;
  apogee)
    apogee_mode apogee-sync SYNC_FLUSH
    apogee_mode apogee-async ASYNC_FLUSH ;;
  *) echo "BENCH_PEERS: $peer is none of echo rocketmq nats kafka apogee" >&2; exit 2 ;;
  esac
done
echo
{ cat "$results/limits.txt"; echo; "$bin" bench table "$results" --baseline "${BENCH_BASELINE:-rocketmq}"; } | tee "$results/table.txt"
