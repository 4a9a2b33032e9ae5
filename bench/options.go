package bench

import (
	"fmt"
	"strings"
	"time"

	"github.com/apogeemq/apogee/message"
	"github.com/apogeemq/apogee/protocol"
)

// Seconds is a duration that stands in JSON as a number of seconds.
type Seconds time.Duration

// MarshalJSON writes seconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%g", time.Duration(s).Seconds()), nil
}

// Target says where the measured broker is and which topic is used.
type Target struct {
	NameServer string `json:"namesrv,omitempty"`
	Broker     string `json:"broker,omitempty"` // host:port, instead of asking the name server
	Topic      string `json:"topic"`
	Queues     int    `json:"queues"`
	Header     string `json:"header"` // binary or json
	ServerPID  int    `json:"pid,omitempty"`
}

// Warmup is what runs before the measurement begins.
type Warmup struct {
	Duration    Seconds `json:"seconds"`
	UntilStable bool    `json:"until_stable,omitempty"` // until the rate stops rising, for Duration at most
}

// warmupMax bounds a warm-up that waits for a stable rate.
const warmupMax = 60 * time.Second

// ParseWarmup reads a duration or "until-stable".
func ParseWarmup(s string) (Warmup, error) {
	if s == "until-stable" {
		return Warmup{Duration: Seconds(warmupMax), UntilStable: true}, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return Warmup{}, fmt.Errorf("warm-up %q: want a duration such as 5s, or until-stable", s)
	}
	return Warmup{Duration: Seconds(d)}, nil
}

// SendOptions are the parameters of the send workload. Connections x InFlight requests are outstanding at any time.
type SendOptions struct {
	Target
	Connections int     `json:"connections"`
	InFlight    int     `json:"in_flight"`
	SizeBytes   int     `json:"size_bytes"`
	Batch       int     `json:"batch"`
	Transaction bool    `json:"transaction,omitempty"` // half messages, each committed once it is answered: both together are one message
	Duration    Seconds `json:"duration_seconds"`
	Count       int64   `json:"count,omitempty"` // messages; instead of a duration
	Warmup      Warmup  `json:"warmup"`

	deliver spread // when the messages are due; the zero value: at once
}

// DrainOptions are the parameters of the drain workload.
type DrainOptions struct {
	Target
	Fill      int64  `json:"fill"` // messages to send first; 0 drains what the topic holds
	SizeBytes int    `json:"size_bytes"`
	Consumers int    `json:"consumers"`
	InFlight  int    `json:"in_flight_per_queue"`
	PullMax   int    `json:"pull_max_messages"`
	Rounds    int    `json:"rounds"` // the backlog is read this often; the last round is measured
	Group     string `json:"group"`
	Verify    bool   `json:"verify"`              // check each record's checksum
	Pop       bool   `json:"pop,omitempty"`       // by POP, with receipts that are acknowledged, instead of pulls
	AckBatch  bool   `json:"ack_batch,omitempty"` // one acknowledgement for all that a pop brought of a queue
}

// EndToEndOptions are the parameters of the end to end workload.
type EndToEndOptions struct {
	Target
	Rate      float64 `json:"rate"` // messages per second, of all senders
	Senders   int     `json:"senders"`
	Consumers int     `json:"consumers"`
	InFlight  int     `json:"in_flight_max"` // unanswered sends of one sender, beyond which it holds back
	SizeBytes int     `json:"size_bytes"`
	PullMax   int     `json:"pull_max_messages"`
	Duration  Seconds `json:"duration_seconds"`
	Warmup    Warmup  `json:"warmup"`
	Grace     Seconds `json:"grace_seconds"` // how long after the last send a message still counts as delivered
	Group     string  `json:"group"`
	Delay     Seconds `json:"delay_seconds,omitempty"` // after which messages are due; latencies count from then on
	Pending   int64   `json:"pending,omitempty"`       // messages that wait meanwhile, and are not due for hours
}

// Limits of the parameters.
const (
	connectionsMax = 4096
	inFlightMax    = 65536
	queuesMax      = 99999
	bodyBytesMax   = 4 << 20
	batchMax       = 4096
	pullMaxMax     = 9999
	rateMax        = 10_000_000
	delayMax       = time.Hour
)

func (t *Target) check() error {
	if t.NameServer == "" && t.Broker == "" {
		return fmt.Errorf("no target: set --namesrv or --broker")
	}
	if err := message.CheckTopic(t.Topic); err != nil {
		return err
	}
	if t.Header != "binary" && t.Header != "json" {
		return fmt.Errorf("--header %q: want binary or json", t.Header)
	}
	return between("queues", t.Queues, 1, queuesMax)
}

func (t *Target) serialization() protocol.Serialization {
	if t.Header == "json" {
		return protocol.SerializeJSON
	}
	return protocol.SerializeBinary
}

func between(flag string, v, low, high int) error {
	if v < low || v > high {
		return fmt.Errorf("--%s %d: want %d to %d", flag, v, low, high)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Check says which parameter is out of its range.
func (o *SendOptions) Check() error {
	err := firstError(o.Target.check(), between("connections", o.Connections, 1, connectionsMax),
		between("in-flight", o.InFlight, 1, inFlightMax), between("size", o.SizeBytes, 1, bodyBytesMax),
		between("batch", o.Batch, 1, batchMax))
	if err == nil && o.Batch*o.SizeBytes > bodyBytesMax {
		err = fmt.Errorf("--batch %d x --size %d: a request's body may have %d bytes", o.Batch, o.SizeBytes, bodyBytesMax)
	}
	if err == nil && o.Transaction && o.Batch > 1 {
		err = fmt.Errorf("--transaction --batch %d: a batch cannot be a transaction", o.Batch)
	}
	if err == nil && o.Count <= 0 && o.Duration <= 0 {
		err = fmt.Errorf("neither --duration nor --count is positive")
	}
	return err
}

// Check says which parameter is out of its range.
func (o *DrainOptions) Check() error {
	err := firstError(o.Target.check(), between("consumers", o.Consumers, 1, connectionsMax),
		between("in-flight", o.InFlight, 1, inFlightMax), between("size", o.SizeBytes, 1, bodyBytesMax),
		between("pull-max", o.PullMax, 1, pullMaxMax), between("rounds", o.Rounds, 1, 1000), message.CheckGroup(o.Group))
	if err == nil && o.Fill < 0 {
		err = fmt.Errorf("--fill %d: want 0 (drain what is there) or a number of messages", o.Fill)
	}
	return err
}

// Check says which parameter is out of its range.
func (o *EndToEndOptions) Check() error {
	err := firstError(o.Target.check(), between("senders", o.Senders, 1, connectionsMax),
		between("consumers", o.Consumers, 1, connectionsMax), between("in-flight", o.InFlight, 1, inFlightMax),
		between("size", o.SizeBytes, stampBytes, bodyBytesMax), between("pull-max", o.PullMax, 1, pullMaxMax), message.CheckGroup(o.Group))
	if err == nil && !(o.Rate > 0 && o.Rate <= rateMax) {
		err = fmt.Errorf("--rate %g: want more than 0 and at most %d messages per second", o.Rate, rateMax)
	}
	if err == nil && o.Duration <= 0 {
		err = fmt.Errorf("--duration is not positive")
	}
	if err == nil && o.Warmup.UntilStable {
		err = fmt.Errorf("--warmup until-stable: the rate is fixed here; give a duration")
	}
	if err == nil && (o.Delay < 0 || time.Duration(o.Delay) > delayMax) {
		err = fmt.Errorf("--delay %s: want 1ms to %s", time.Duration(o.Delay), delayMax)
	}
	if err == nil && o.Pending < 0 {
		err = fmt.Errorf("--pending %d: want 0 or more", o.Pending)
	}
	return err
}

// addresses splits a list as NAMESRV_ADDR has it.
func addresses(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ';' || r == ',' || r == ' ' })
}
