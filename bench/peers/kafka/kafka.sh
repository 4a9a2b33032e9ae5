#!/usr/bin/env bash
# Runs Apache Kafka (one node, both broker and KRaft controller) from Maven jars.
#
#   kafka.sh fetch DIR       copy the jars into DIR/lib (mvn, pom.xml beside this script)
#   kafka.sh format DIR PORT write the configuration and an empty log directory; the controller takes PORT+1
#   kafka.sh up DIR          start it in the background
#   kafka.sh pid DIR         its process
#   kafka.sh down DIR        stop it
#
# Environment: KAFKA_LIB (default DIR/lib), KAFKA_HEAP (default "-Xms1g -Xmx1g", as the distribution's kafka-server-start.sh has it).
# JVM flags: the distribution's kafka-run-class.sh. Everything about the log is default: no fsync, segments of 1 GiB.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cmd=${1:?fetch|format|up|pid|down}; dir=${2:?DIR}; shift 2
mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
lib=${KAFKA_LIB:-$dir/lib}
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

case $cmd in
fetch)
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir/lib" ;;
format)
  port=${1:?PORT}
  cat > "$dir/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$dir/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
EOF
  $java -cp "$lib/*" kafka.tools.StorageTool format --cluster-id "$($java -cp "$lib/*" kafka.tools.StorageTool random-uuid 2> /dev/null)" \
    --config "$dir/server.properties" > "$dir/format.out" 2>&1 || { cat "$dir/format.out" >&2; exit 1; } ;;
up)
  setsid $java ${KAFKA_HEAP:--Xms1g -Xmx1g} -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 \
    -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true -cp "$lib/*" kafka.Kafka "$dir/server.properties" \
    > "$dir/kafka.out" 2>&1 < /dev/null &
  echo $! > "$dir/pid" ;;
pid) cat "$dir/pid" ;;
down)
  p=$(cat "$dir/pid" 2> /dev/null) || exit 0
  kill "$p" 2> /dev/null || true
  for _ in $(seq 150); do kill -0 "$p" 2> /dev/null || { rm -f "$dir/pid"; exit 0; }; sleep 0.1; done
  kill -9 "$p" 2> /dev/null || true; rm -f "$dir/pid" ;;
*) echo "unknown command $cmd" >&2; exit 2 ;;
esac
