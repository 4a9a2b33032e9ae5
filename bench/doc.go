// Package bench measures a RocketMQ broker over plain remoting: pipelined sends, draining a backlog by pulls or by POP, end to end latency
// with long polling, and how late messages come that wait for a moment. It runs against Apogee and against Apache RocketMQ alike.
//
// It owns its connections and hot loops, because the measured server shares the machine: frames are encoded once and patched in
// place, a round of completions is answered by one write, and nothing is allocated per message. It knows the protocol and the
// record layout, and nothing of Apogee's server. Latencies are recorded in HDR histograms; in the end to end workload they count
// from the instant at which the schedule wanted the message sent, so that a stalled server cannot hide its stall.
//
// What measures knows no protocol (Load, Tally, Readers, Run): bench/peers/client runs the same workloads on systems that are not RocketMQ.
package bench
