#!/usr/bin/env bash
# Apache RocketMQ behind the command line of `apogee start`: name server and broker in one
# JVM, which a test can start, kill -9 and start again on the same directory.
#
#   RMQ_LIB=DIR APOGEE_BIN=$PWD/apogee.sh  <a suite of interop/>
#
# So the suites run against the original, kills included. RMQ_LIB: the jars that
# `rocketmq.sh fetch` copied. A JVM is slow to start: set APOGEE_READY_SECONDS=60.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
lib=${RMQ_LIB:?RMQ_LIB must name the folder of the jars, see rocketmq.sh fetch}
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
classes=${RMQ_CLASSES:-$lib/../as-apogee}
if [ ! -s "$classes/AsApogee.class" ] || [ "$here/AsApogee.java" -nt "$classes/AsApogee.class" ]; then
  ${java}c -cp "$lib/*" -d "$classes" "$here/AsApogee.java"
fi
exec $java ${RMQ_HEAP:--Xms512m -Xmx512m} -XX:TieredStopAtLevel=1 -XX:MaxDirectMemorySize=${RMQ_DIRECT:-512m} \
  --add-opens=java.base/java.nio=ALL-UNNAMED --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED \
  --add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-exports=java.base/sun.nio.ch=ALL-UNNAMED \
  -cp "$classes:$lib/*" AsApogee "$@"
