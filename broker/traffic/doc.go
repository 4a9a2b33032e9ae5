// Package traffic counts what went through topics and groups, for VIEW_BROKER_STATS_DATA (315), GET_BROKER_RUNTIME_INFO (28), the rates in
// other answers, and metrics.
//
// What clients see: windows of a minute (samples of 10 s), an hour (10 min) and a day (1 h), as in RocketMQ (StatsItem), but up to now instead
// of up to the last sample; rates of the last 10, 60 and 600 s. The counters begin with the process. A send or a pull costs a few atomic
// additions; samples are taken by Tick. The package must not know what a topic or a group is beyond its name.
package traffic
