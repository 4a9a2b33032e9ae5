// Package cold limits how much old log each consumer group reads, which memory does not hold: a state machine over what groups read in
// windows of a few seconds (RocketMQ's ColdDataCgCtrService and its strategies). It takes the time and gives decisions; it must not know
// requests, queues or the log.
package cold
