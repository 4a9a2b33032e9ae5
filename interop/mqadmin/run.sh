#!/usr/bin/env bash
# Runs the commands of mqadmin 5.5.0 against a fresh Apogee and looks for what each one must print. Exits with 1 when one does not.
#
#   interop/mqadmin/run.sh [COMMAND...]     all checks, or those of the named commands (they build on one another: mostly all)
#
# APOGEE_BIN       the binary; default bin/apogee
# RMQ_LIB          folder with the jars of rocketmq-tools and rocketmq-example 5.5.0; default: fetched by Maven into target/lib beside this file
# INTEROP_NAMESRV, INTEROP_BROKER   host:port of servers that run already: nothing is started
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lib=${RMQ_LIB:-$here/target/lib}
[ -d "$lib" ] || mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$lib" || exit 2
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
dir=$(mktemp -d)
pids=()
finish() {
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
  for p in "${pids[@]}"; do wait "$p" 2>/dev/null; done
  rm -rf "$dir"
}
trap finish EXIT

if [ -n "${INTEROP_NAMESRV:-}" ]; then
  namesrv=$INTEROP_NAMESRV broker=${INTEROP_BROKER:-${INTEROP_NAMESRV%:*}:10911}
else
  bin=${APOGEE_BIN:-$here/../../bin/apogee}
  "$bin" start --dir "$dir/data" --listen 127.0.0.1 --namesrv-port 0 --broker-port 0 --admin-port 0 > "$dir/apogee.out" 2>&1 &
  pids+=($!)
  for _ in $(seq 100); do grep -q 'Limits:' "$dir/apogee.out" && break; sleep 0.1; done
  namesrv=$(sed -n 's/^ *name server  \([0-9.:]*\).*/\1/p' "$dir/apogee.out")
  broker=$(sed -n 's/^ *broker       \([0-9.:]*\).*/\1/p' "$dir/apogee.out")
  [ -n "$namesrv" ] && [ -n "$broker" ] || { cat "$dir/apogee.out" >&2; exit 2; }
fi

flags=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx256m "-Duser.home=$dir")
run() { ROCKETMQ_HOME=$dir "$java" "${flags[@]}" -cp "$lib/*" "$@"; }
admin() { local c=$1; shift; run org.apache.rocketmq.tools.command.MQAdminStartup "$c" -n "$namesrv" "$@" 2>&1; }

wanted=" $* " failures=0 checks=0
# check COMMAND [ARGS...] -- PATTERN...: runs it; its output must match every extended regular expression (or must not, after a !).
check() {
  local args=() out p
  while [ "$1" != -- ]; do args+=("$1"); shift; done
  shift
  [ "$wanted" = "  " ] || [[ $wanted == *" ${args[0]} "* ]] || return 0
  checks=$((checks + 1))
  out=$(timeout 90 bash -c "$(declare -f run admin); $(declare -p lib java dir namesrv flags); admin \"\$@\"" - "${args[@]}")
  last=$out
  for p in "$@"; do
    if [ "${p:0:1}" = '!' ]; then
      ! grep -Eq -- "${p:1}" <<< "$out" && continue
    else
      grep -Eq -- "$p" <<< "$out" && continue
    fi
    failures=$((failures + 1))
    printf 'FAIL %s\n  wants %s\n%s\n' "${args[*]}" "$p" "$(sed 's/^/  | /' <<< "$out")"
    return 0
  done
  echo "ok   ${args[*]}"
}
last=
cluster=DefaultCluster name=broker-a topic=AdminTopic group=AdminGroup
from="$(date -d '-1 hour' +%s)000" to="$(date -d '+1 hour' +%s)000"

# Topics and groups.
check updateTopic -c $cluster -t $topic -r 4 -w 4 -- "create topic to $broker success" 'readQueueNums=4, writeQueueNums=4, perm=RW-'
check topicList -- "^$topic$" '^TBW102$'
check topicRoute -t $topic -- "\"$broker\"" '"readQueueNums":4' '"perm":6'
check topicClusterList -t $topic -- "^$cluster$"
check updateTopicPerm -c $cluster -t $topic -p 4 -- "update topic perm from 6 to 4 in $broker success"
check updateTopicPerm -b "$broker" -t $topic -p 6 -- "update topic perm from 4 to 6 in $broker success"
check updateOrderConf -t $topic -m put -v $name:4 -- "update orderConf success. topic=\[$topic\], orderConf=\[$name:4\]"
check updateOrderConf -t $topic -m get -- "$name:4"
check updateOrderConf -t $topic -m delete -- "delete orderConf success"
check updateSubGroup -c $cluster -g $group -r 3 -- "create subscription group to $broker success" 'retryMaxTimes=3'
check getConsumerConfig -g $group -- 'retryMaxTimes +=  3'

# Messages.
check sendMessage -t $topic -p 'body one' -k key1 -c tagA -b $name -i 1 -- "$name +1 +SEND_OK"
unique=$(sed -n 's/.*SEND_OK *\([0-9A-F]*\).*/\1/p' <<< "$last")
check sendMessage -t $topic -p 'body two' -k key2 -c tagB -b $name -i 1 -- "$name +1 +SEND_OK"
check checkMsgSendRT -t $topic -a 5 -s 10 -- 'Avg RT:'
check sendMsgStatus -b $name -s 10 -c 2 -- 'SEND_OK'
check topicStatus -t $topic -- "$name +1 +0 +[2-9] +20" "$name +3 +0 "
check queryMsgByKey -t $topic -k key1 -- "$unique +1 +0"
check queryMsgByUniqueKey -t $topic -i "$unique" -- 'Tags: +tagA|Tags: +\[tagA\]' 'Keys: +\[key1\]' 'Queue Offset: +0'
# The offset id is the store host and the log position, in hexadecimal.
IFS=.: read -r a b c d port <<< "$(sed -n 's/^Store Host: *//p' <<< "$last")"
id=$(printf '%02X%02X%02X%02X%08X%016X' "${a:-0}" "${b:-0}" "${c:-0}" "${d:-0}" "${port:-0}" "$(sed -n 's/^CommitLog Offset: *//p' <<< "$last")")
check queryMsgById -t $topic -i "$id" -- 'Queue ID: +1' 'key1' 'Topic: +'"$topic"
check queryMsgByOffset -t $topic -b $name -i 1 -o 1 -- 'Queue Offset: +1' 'key2'
check printMsg -t $topic -d true -s tagA -- 'BODY: body one' '!body two'
check printMsgByQueue -t $topic -a $name -i 1 -p true -d true -- 'BODY: body one' 'BODY: body two'
check consumeMessage -t $topic -b $name -i 1 -o 0 -c 2 -g $group -- 'BODY: body one' 'BODY: body two'

# Offsets.
check resetOffsetByTime -g $group -t $topic -s "$from" -f true -- "$name +1 +0" "$name +3 +0"
check consumerProgress -g $group -- "$topic +$name +1 +[2-9] +0 +[2-9]" 'Consume Diff Total: [2-9]'
check skipAccumulatedMessage -g $group -t $topic -- "$name +1 +[2-9]"
check consumerProgress -g $group -- "$topic +$name +1 +([2-9]) +\\1 +0" 'Consume Diff Total: 0'
check resetOffsetByTime -g $group -t $topic -b "$broker" -q 1 -o 1 -s -1 -f true -- 'reset consumer offset to 1' '!failed'
check consumerProgress -g $group -- "$topic +$name +1 +[2-9] +1 "
check cloneGroupOffset -s $group -d AdminClone -t $topic -- 'clone group offset success'
check consumerProgress -- "$group +0 +OFFLINE"
check brokerConsumeStats -b "$broker" -- "$topic +AdminClone|$topic .*$name"
check statsAll -t $topic -- "$topic +$group"

# The broker and the cluster.
check clusterList -- "$cluster +$name +0 +$broker +V5_5_0 .* true"
check clusterList -m -- "$cluster +$name"
check brokerStatus -b "$broker" -- 'brokerActive +: true' 'bootTimestamp +: 1' 'putTps +: [0-9.]+ [0-9.]+ [0-9.]+' \
  'commitLogMaxOffset +: [1-9]' 'msgPutTotalTodayNow +: [1-9]' 'putMessageDistributeTime: \[<=0ms\]:|putMessageDistributeTime +: \[<=0ms\]:' \
  'runtime +: \[ 0 days' 'commitLogDirCapacity +: Total : [0-9.]+ [KMGTP]iB, Free : '
check getBrokerConfig -b "$broker" -- "brokerName += +$name" 'maxMessageSize += +4194304' "brokerClusterName += +$cluster"
check updateBrokerConfig -b "$broker" -k maxMessageSize -v 5000000 -- "update broker config success, $broker"
check getBrokerConfig -b "$broker" -- 'maxMessageSize += +5000000'
check cleanExpiredCQ -b "$broker" -- success
check cleanUnusedTopic -b "$broker" -- success
check wipeWritePerm -b $name -- "wipe write perm of broker\[$name\] in name server\[$namesrv\] OK"
check topicRoute -t $topic -- '"perm":4'
check addWritePerm -b $name -- "add write perm of broker\[$name\] in name server\[$namesrv\] OK"
check updateKvConfig -s admin -k k1 -v v1 -- 'create or update kv config to namespace success'
check deleteKvConfig -s admin -k k1 -- 'delete kv config from namespace success'
check allocateMQ -t $topic -i 10.0.0.1,10.0.0.2 -- '10.0.0.1' '10.0.0.2'

# Clients that are online: the benchmark's consumer and producer.
check updateTopic -c $cluster -t BenchmarkOnline -r 4 -w 4 -- success
if [ "$wanted" = "  " ] || [[ $wanted == *" consumerConnection "* ]]; then
  run org.apache.rocketmq.example.benchmark.Consumer -n "$namesrv" -t BenchmarkOnline -g OnlineGroup -p false > "$dir/consumer.out" 2>&1 & pids+=($!)
  run org.apache.rocketmq.example.benchmark.Producer -n "$namesrv" -t BenchmarkOnline -w 1 -s 64 -q -1 > "$dir/producer.out" 2>&1 & pids+=($!)
  for _ in $(seq 60); do admin consumerConnection -g OnlineGroup 2>&1 | grep -q 127.0.0.1 && break; sleep 0.5; done
fi
check consumerConnection -g OnlineGroup -- 'JAVA +V5_5_0' '^BenchmarkOnline +\*' 'MessageModel: CLUSTERING' 'ConsumeType: CONSUME_PASSIVELY'
client=$(sed -n 's/^\([^ ]*@[^ ]*\) .*/\1/p' <<< "$last" | head -1)
check producerConnection -g benchmark_producer -t BenchmarkOnline -- 'JAVA +V5_5_0'
check consumerProgress -g OnlineGroup -s true -- "BenchmarkOnline +$name +0 "
check consumerStatus -g OnlineGroup -i "$client" -- 'Consumer Properties|#Consumer Properties' 'BenchmarkOnline'
check resetOffsetByTime -g OnlineGroup -t BenchmarkOnline -s "$from" -f true -- "$name +0 +0"
check statsAll -t BenchmarkOnline -- 'BenchmarkOnline +OnlineGroup'

# Deletion.
check deleteSubGroup -c $cluster -g $group -r true -- "delete subscription group \[$group\] from broker \[$broker\] in cluster \[$cluster\] success"
check deleteTopic -c $cluster -t $topic -- "delete topic \[$topic\] from cluster \[$cluster\] success" "delete topic \[$topic\] from NameServer success"
check topicList -- "!^$topic$"

echo "$checks checks, $failures failures"
[ $failures = 0 ]
