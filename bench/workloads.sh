# The table of workloads, and how Apogee is started for them. Sourced by run.sh and peers.sh.
#
#   BENCH_SECONDS   length of each measurement (10); anything shorter also shrinks the backlog that is drained
#   BENCH_FILL      messages of the backlog (2000000; they take 3 GB of disk)
#   BENCH_RATES     rates of the end to end workloads, messages per second
#   BENCH_OUT       where the results go (bench/out)
#   BENCH_CASES     which workloads, a regular expression for their names (all)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${APOGEE_BIN:-$root/bin/apogee}
seconds=${BENCH_SECONDS:-10}
if [ "$seconds" -lt 10 ]; then fill=${BENCH_FILL:-200000}; else fill=${BENCH_FILL:-2000000}; fi
out=${BENCH_OUT:-$root/bench/out}
mkdir -p "$out"
[ -x "$bin" ] || { echo "no binary at $bin: run make build, or set APOGEE_BIN" >&2; exit 1; }

bench=("$bin" bench) # what runs a workload; peers.sh has another for servers that do not speak RocketMQ's protocol

# measure DIR CASE WORKLOAD FLAGS...: one line for people, DIR/CASE.json for the table.
measure() {
  local dir=$1 name=$2; shift 2
  [[ $name =~ ${BENCH_CASES:-.} ]] || return 0
  mkdir -p "$dir"
  printf '%-14s %-16s ' "$(basename "$dir")" "$name" >&2
  if "${bench[@]}" "$@" --json > "$dir/$name.part" 2> "$dir/$name.err"; then
    mv "$dir/$name.part" "$dir/$name.json"; rm -f "$dir/$name.err"
    sed -n 's/^  "rate_per_second": \([0-9]*\).*/\1 messages\/s/p' "$dir/$name.json" >&2
  else
    rm -f "$dir/$name.part"; cat "$dir/$name.err" >&2; return 1
  fi
}

# sends DIR WARMUP TARGET-FLAGS...
sends() {
  local dir=$1 warm=$2; shift 2
  measure "$dir" 01-send-1k   send "$@" --warmup "$warm" --duration "${seconds}s" --topic BenchSend1k
  measure "$dir" 02-send-128  send "$@" --warmup "$warm" --duration "${seconds}s" --topic BenchSend128 --size 128
  measure "$dir" 03-batch-32  send "$@" --warmup "$warm" --duration "${seconds}s" --topic BenchBatch --batch 32 --connections 8 --in-flight 4
  measure "$dir" 04-one-1k    send "$@" --warmup "$warm" --duration "${seconds}s" --topic BenchOne --connections 1 --in-flight 1
}

# transactions DIR WARMUP TARGET-FLAGS...: half messages and their commits
transactions() {
  local dir=$1 warm=$2; shift 2
  measure "$dir" 07-tx-8x32   send "$@" --warmup "$warm" --duration "${seconds}s" --topic BenchTx --transaction --connections 8 --in-flight 32
  measure "$dir" 08-tx-16x128 send "$@" --warmup "$warm" --duration "${seconds}s" --topic BenchTx --transaction --connections 16 --in-flight 128
}

# consumes DIR WARMUP-SECONDS ROUNDS TARGET-FLAGS...
consumes() {
  local dir=$1 warm=$2 rounds=$3 rate; shift 3
  measure "$dir" 05-drain-1k drain "$@" --fill "$fill" --rounds "$rounds" --topic BenchDrain
  for rate in ${BENCH_RATES:-10000 20000 30000 100000}; do
    # a rate that is not held is a result, not a failure of the run
    measure "$dir" "$(printf '06-e2e-%06d' "$rate")" e2e "$@" --rate "$rate" --warmup "${warm}s" --duration "${seconds}s" --topic "BenchE2E$rate" || true
  done
}

port_free() { ! (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# free_ports: a base of which base-2 to base+9 are free.
free_ports() {
  local base i
  for _ in $(seq 100); do
    base=$((20000 + RANDOM % 10000))
    for i in $(seq -2 9); do port_free $((base + i)) || continue 2; done
    echo "$base"; return
  done
  echo "no free ports found" >&2; return 1
}

# start_apogee DIR [FLAGS...]: sets pid and namesrv, and says how long it took to the first send and what it takes idle.
start_apogee() {
  local dir=$1 base began; shift
  base=$(free_ports); namesrv=127.0.0.1:$((base + 2))
  mkdir -p "$dir"; began=$(date +%s%N)
  "$bin" start --dir "$dir/data" --listen 127.0.0.1 --broker-port "$base" --ha-port $((base + 1)) --namesrv-port $((base + 2)) \
    --admin-port $((base + 3)) --proxy-port $((base + 4)) --grpc-port $((base + 5)) --console-port $((base + 6)) "$@" > "$dir/log" 2>&1 &
  pid=$!
  first_send "$pid" "$began" "$dir" --namesrv "$namesrv"
}

# first_send PID BEGAN DIR TARGET-FLAGS...: waits until a server takes a message, and says how long that took since BEGAN (ns) and
# what memory the process takes idle. DIR/log has what the server says.
first_send() {
  local p=$1 began=$2 dir=$3; shift 3
  until "${bench[@]}" send "$@" --topic BenchFirst --connections 1 --in-flight 1 --count 1 --warmup 0s > "$dir/first" 2>&1; do
    kill -0 "$p" 2> /dev/null || { echo "the server has ended:" >&2; cat "$dir/log" >&2; return 1; }
    [ $(($(date +%s%N) - began)) -lt 120000000000 ] || { cat "$dir/first" "$dir/log" >&2; return 1; }
    sleep 0.02
  done
  echo "start to first send: $((($(date +%s%N) - began) / 1000000)) ms" >&2
  if [ -r "/proc/$p/status" ]; then sleep 2; echo "idle RSS: $(awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$p/status") MiB" >&2; fi
}

# need_disk: a server's directory grows by what all workloads send, and goes before the next server starts.
need_disk() {
  local need=$((fill * 3 / 2048 + seconds * 1000)) free
  free=$(df -Pm "$out" | awk 'NR == 2 {print $4}')
  [ "$free" -gt "$need" ] || { echo "$out has $free MiB free, and $need are wanted: set BENCH_OUT, or less BENCH_FILL or BENCH_SECONDS" >&2; return 1; }
}

stop_server() { kill "$pid" 2> /dev/null || true; wait "$pid" 2> /dev/null || true; pid=; }

# apogee_mode NAME FLUSH-TYPE: all workloads on a fresh directory.
apogee_mode() {
  local name=$1 dir=$work/$1
  need_disk; mkdir -p "$dir"; echo "flushDiskType=$2" > "$dir/broker.conf"
  start_apogee "$dir" --conf "$dir/broker.conf"
  sends "$results/$name" 1s --namesrv "$namesrv" --pid "$pid"
  consumes "$results/$name" 2 1 --namesrv "$namesrv" --pid "$pid"
  transactions "$results/$name" 1s --namesrv "$namesrv" --pid "$pid"
  stop_server; rm -rf "$dir"
}
