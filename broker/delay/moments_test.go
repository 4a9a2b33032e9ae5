package delay

import "testing"

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
