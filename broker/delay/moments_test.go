package delay

import (
	"testing"

	"github.com/apogeemq/apogee/message"
)

func TestAMomentThatIsAMultipleIsRoundedAStepEarlier(t *testing.T) {
	for _, c := range []struct{ precision, moment, want int64 }{
		{1000, 5000, 4000}, {1000, 5001, 5000}, {1000, 5999, 5000}, {1000, 6000, 5000}, {200, 5000, 4800}, {200, 5001, 5000},
	} {
		d := Delays{c: Config{PrecisionMS: c.precision}}
		if got := d.out(c.moment); got != c.want {
			t.Errorf("%d is rounded to %d in steps of %d, want %d", c.moment, got, c.precision, c.want)
		}
	}
}

func TestADelayCountsFromWhenTheMessageWasSent(t *testing.T) {
	const stored = 100_123
	for _, c := range []struct {
		name, property, value, enqueued string
		want                            int64
	}{
		{"sent", message.PropTimerDelayMS, "50345", "", stored + 50_345},
		{"a copy", message.PropTimerDelayMS, "59468", "91000", 150_468},
		{"a copy", message.PropTimerDelaySec, "59", "91003", 150_003},
		{"a moment", message.PropTimerDeliver, "150468", "91000", 150_468},
		{"from later than it is stored", message.PropTimerDelayMS, "50345", "9223372036854775807", stored + 50_345},
		{"from before time", message.PropTimerDelayMS, "50345", "-1", stored + 50_345},
		{"from no number", message.PropTimerDelayMS, "50345", "x", stored + 50_345},
		{"not later than the precision allows", message.PropTimerDelayMS, "59468", "100000", 151_000},
	} {
		p := message.AppendProperty(nil, message.PropTimerOut, []byte("150000"))
		p = message.AppendProperty(p, c.property, []byte(c.value))
		if c.enqueued != "" {
			p = message.AppendProperty(p, message.PropTimerEnqueue, []byte(c.enqueued))
		}
		if got, ok := Due(&message.Record{StoreTime: stored, Properties: p}); !ok || got != c.want {
			t.Errorf("%s, %s=%s: due at %d, want %d", c.name, c.property, c.value, got, c.want)
		}
	}
}
