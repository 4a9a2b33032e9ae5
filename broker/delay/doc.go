// Package delay keeps messages until it is time to deliver them: those of the delay levels and those that wait for a moment of their own,
// as RocketMQ stores both. It decides nothing itself (package timer does) and is the shell that reads, appends and keeps the state of what
// waits.
//
// It owns the schedule queues, rmq_sys_wheel_timer, and the kinds of state "delay" and "timer". It must not know requests, connections or
// what topics there are: whoever makes it says where a topic's queues are.
//
// What holds: a delivered copy names what it replaces, so that one record is delivery and end of the wait. What is in memory does not grow
// with what waits.
package delay
