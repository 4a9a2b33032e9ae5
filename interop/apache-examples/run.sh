#!/usr/bin/env bash
# Runs the programs of rocketmq-example 5.5.0, RocketMQ's own examples and load generators, as they were published, against a node on the default
# ports (some of them name 127.0.0.1:9876 in their source). Prints a line each; ends with 1 if one did not do what it says.
#
#   run.sh              against bin/apogee, on a new directory
#   run.sh rocketmq     against Apache RocketMQ 5.5.0, to see what it does
#
# It wants a machine without other work: some examples give up when a JVM is slow to start. Needs a JDK >= 11 and Maven, and ports 9876, 10909 and 10911. RMQ_LIB: RocketMQ's jars, where they are fetched already.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
server=${1:-apogee}
rocketmq=$root/bench/peers/rocketmq/rocketmq.sh
export RMQ_LIB=${RMQ_LIB:-$root/bench/out/rocketmq/lib} RMQ_HEAP=${RMQ_HEAP:--Xms512m -Xmx512m} RMQ_DIRECT=${RMQ_DIRECT:-256m}
compgen -G "$RMQ_LIB/rocketmq-example-*.jar" > /dev/null || "$rocketmq" fetch "$(dirname "$RMQ_LIB")"
for p in 9876 10909 10911; do
  ! (exec 3<> "/dev/tcp/127.0.0.1/$p") 2> /dev/null || { echo "port $p is taken: stop what listens there" >&2; exit 1; }
done

work=$(mktemp -d); node=; programs=(); failed=0
kill_all() {
  local p
  for p in "${programs[@]}"; do kill -9 "$p" 2> /dev/null || true; wait "$p" 2> /dev/null || true; done
  programs=()
}
cleanup() {
  kill_all
  if [ "$server" = rocketmq ]; then "$rocketmq" down "$work/node"; elif [ -n "$node" ]; then kill "$node"; wait "$node" || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

# run NAME CLASS ARGS...: starts a program in the background, its output in $work/NAME.
run() {
  local name=$1 class=$2; shift 2
  java -Xmx256m -XX:TieredStopAtLevel=1 -Drocketmq.namesrv.addr=127.0.0.1:9876 -Duser.home="$work" \
    -cp "$RMQ_LIB/*" "org.apache.rocketmq.example.$class" "$@" > "$work/$name" 2>&1 &
  programs+=($!)
}

# sees NAME SECONDS COUNT PATTERN: waits until the program has printed the pattern COUNT times.
sees() {
  local name=$1 until=$((SECONDS + $2)) count=$3 pattern=$4 got=0
  while :; do
    got=$({ grep -oE "$pattern" "$work/$name" 2> /dev/null || true; } | wc -l)
    if [ "$got" -ge "$count" ]; then printf 'ok      %-28s %s x %s\n' "$name" "$got" "$pattern"; return; fi
    [ $SECONDS -lt $until ] || break
    sleep 0.1
  done
  failed=1
  printf 'FAILED  %-28s %s x %s, expected %s; its last lines:\n' "$name" "$got" "$pattern" "$count"
  tail -n 8 "$work/$name" | cut -c1-300 | sed 's/^/        /'
}
started() { sees "$1" 60 1 'Started\.' > /dev/null; }

if [ "$server" = rocketmq ]; then
  "$rocketmq" up "$work/node" enableLmq=true enableMultiDispatch=true enablePropertyFilter=true
else
  "$root/bin/apogee" start --dir "$work/node" --listen 127.0.0.1 --enable-lmq true --enable-multi-dispatch true > "$work/node.log" 2>&1 & node=$!
fi
export NAMESRV_ADDR=127.0.0.1:9876
until "$root/bin/apogee" cluster list > "$work/ready" 2>&1 || [ $SECONDS -gt 90 ]; do sleep 0.2; done
for topic in TopicTest TopicTest1234 TopicTestjjj TagFilterTest SqlFilterTest TestTopic TimerTopic RequestTopic BatchTest TopicLMQParent; do
  "$root/bin/apogee" topic create "$topic" > "$work/topic" || { cat "$work/topic"; exit 1; } # what the examples' pages have one do first
done

run quickstart.Consumer quickstart.Consumer; started quickstart.Consumer
run quickstart.Producer quickstart.Producer; sees quickstart.Producer 60 1000 SEND_OK
sees quickstart.Consumer 60 1000 'Receive New Messages'
kill_all

run simple.Producer simple.Producer; sees simple.Producer 60 128 SEND_OK
run simple.AsyncProducer simple.AsyncProducer; sees simple.AsyncProducer 60 100 'OK '
run simple.PushConsumer simple.PushConsumer; sees simple.PushConsumer 60 1128 'Receive New Messages'
kill_all
run simple.OnewayProducer simple.OnewayProducer
run simple.PopConsumer simple.PopConsumer; sees simple.PopConsumer 60 1 'Started\.'
run broadcast.PushConsumer broadcast.PushConsumer; sees broadcast.PushConsumer 60 500 'Receive New Messages'
run simple.LitePullConsumer simple.LitePullConsumerSubscribe; sees simple.LitePullConsumer 60 1128 'msgId='
run simple.PullScheduleService simple.PullScheduleService; sees simple.PullScheduleService 60 8 'pullStatus=FOUND'
kill_all

run tag.Consumer filter.TagFilterConsumer; started tag.Consumer
run tag.Producer filter.TagFilterProducer; sees tag.Producer 60 60 SEND_OK; sees tag.Consumer 60 40 'Receive New Messages'
kill_all # the next one uses the same group
run sql.Consumer filter.SqlFilterConsumer; started sql.Consumer
run sql.Producer filter.SqlFilterProducer; sees sql.Producer 60 10 SEND_OK; sees sql.Consumer 60 3 'Receive New Messages'
kill_all

run order.Consumer ordermessage.Consumer; started order.Consumer
run order.Producer ordermessage.Producer; sees order.Producer 60 100 SEND_OK; sees order.Consumer 60 100 'Receive New Messages'
run batch.Simple batch.SimpleBatchProducer; sees batch.Simple 60 1 SEND_OK
run batch.Split batch.SplitBatchProducer; sees batch.Split 120 5 SEND_OK
kill_all

run schedule.Consumer schedule.ScheduledMessageConsumer; run timer.Consumer schedule.TimerMessageConsumer; sleep 3
run schedule.Producer schedule.ScheduledMessageProducer; sees schedule.Producer 60 100 SEND_OK
run timer.Producer schedule.TimerMessageProducer; sees timer.Producer 60 10 SEND_OK
sees schedule.Consumer 60 100 'ms later'; sees timer.Consumer 60 10 'ms later'
kill_all

run transaction.Producer transaction.TransactionProducer; sees transaction.Producer 60 10 SEND_OK
run rpc.Consumer rpc.ResponseConsumer; started rpc.Consumer
run rpc.Request rpc.RequestProducer; sees rpc.Request 60 1 'replyMessage: Message'
run rpc.Async rpc.AsyncRequestProducer; sees rpc.Async 60 1 'replyMessage: Message'
run trace.Consumer tracemessage.TracePushConsumer; run trace.Producer tracemessage.TraceProducer
sees trace.Producer 60 128 SEND_OK; sees trace.Consumer 60 128 'Receive New Messages'
kill_all

run lmq.Producer lmq.LMQProducer; sees lmq.Producer 60 128 SEND_OK
run lmq.Push lmq.LMQPushConsumer; sees lmq.Push 60 128 'Receive New Messages'
run lmq.Pull lmq.LMQPullConsumer; sees lmq.Pull 60 32 'Pull New Messages'
run lmq.Pop lmq.LMQPushPopConsumer; sees lmq.Pop 60 1 'Started\.'
kill_all
run ns.Producer namespace.ProducerWithNamespace; sees ns.Producer 60 100 'send success'
run ns.Push namespace.PushConsumerWithNamespace; sees ns.Push 60 100 'Msg topic is:NAMESPACE_TOPIC'
kill_all

run bench.Consumer benchmark.Consumer -ri 2000
run bench.Producer benchmark.Producer -w 8 -ri 2000; sees bench.Producer 60 3 'Send TPS: [1-9][0-9]* .*Send Failed: 0 '
sees bench.Consumer 60 2 'Consume TPS: [1-9]'; kill_all
run bench.Batch benchmark.BatchProducer -w 8 -ri 2000; sees bench.Batch 60 3 'Send TPS: [1-9]'; kill_all
run bench.Transaction benchmark.TransactionProducer -w 8 -ri 2000 -sr 0.1 -su 0.1; sees bench.Transaction 60 3 'Send TPS: +[1-9]'; kill_all
run bench.TimerConsumer benchmark.timer.TimerConsumer; run bench.TimerProducer benchmark.timer.TimerProducer -tc 4 -st 10
sees bench.TimerProducer 90 1 'Send TPS: +[1-9]'; kill_all

exit $failed
