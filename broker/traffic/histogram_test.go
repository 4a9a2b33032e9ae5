package traffic

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHistogramsCountUpToTheirBounds(t *testing.T) {
	h := NewHistogram(time.Second, time.Minute)
	for _, d := range []time.Duration{-time.Second, time.Second, 2 * time.Second, time.Hour} {
		h.Note(d)
	}
	want := Distribution{Buckets: map[float64]uint64{1: 2, 60: 3}, Count: 4, Sum: 3603}
	if d := cmp.Diff(want, h.Read()); d != "" {
		t.Error(d)
	}
}

func TestHistogramsOfManyNamesAreBounded(t *testing.T) {
	h := NewHistograms(2, time.Second)
	for _, name := range []string{"a", "b", "c", "a", "d"} {
		h.Of(name).Note(time.Second)
	}
	counts := map[string]uint64{}
	h.Each(func(name string, d Distribution) { counts[name] = d.Count })
	if d := cmp.Diff(map[string]uint64{"a": 2, "b": 1, "": 2}, counts); d != "" {
		t.Error(d)
	}
}
