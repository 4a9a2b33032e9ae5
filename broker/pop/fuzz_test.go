package pop

import (
	"strings"
	"testing"
)

// What is read back is what was written, and nothing else is taken.
func FuzzLoad(f *testing.F) {
	r := Run{RunID: RunID{5, 1, 2, 3}, Left: Bits{6}}
	b := Batch{attempt: "a", time: 1, invisible: 2, messages: []ordered{{offset: 7, acked: true}, {offset: 9, visible: 4, attempts: 1}}}
	for _, w := range []Write{r.Write(), b.write(), {keyNext, []byte{200, 1}}} {
		f.Add(w.Key, w.Value)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		var q Queue
		if q.Load(key, value) != nil {
			return
		}
		var w Write
		switch key {
		case keyNext:
			w = q.writeNext()
		case keyBatch:
			w = q.batch.write()
		default:
			w = q.runs[0].Write()
		}
		var again Queue
		if err := again.Load(w.Key, w.Value); err != nil || w.Key != key || again.Low() != q.Low() || again.Deadline() != q.Deadline() || again.Free() != q.Free() {
			t.Errorf("%q=%x is written as %q=%x: %v", key, value, w.Key, w.Value, err)
		}
	})
}

func FuzzReceipt(f *testing.F) {
	f.Add("1 2 3 4 0 broker 5 6")
	f.Add("1 2 3")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseReceipt(text)
		if err != nil {
			return
		}
		again, err := ParseReceipt(string(r.AppendReceipt(nil, "T", "b", 1, 2)))
		if err != nil || again != r {
			t.Errorf("%q is %+v, and then %+v, %v", text, r, again, err)
		}
	})
}

// What clients parse (ExtraInfoUtil).
func TestInfosAreAsClientsReadThem(t *testing.T) {
	var f Infos
	f.Add("T", 0, 5, []int64{5, 7})
	f.Add("%RETRY%G_T", 1, 0, []int64{0})
	f.Add("%RETRY%G+T", 2, 3, []int64{3})
	f.AddCounts("T", 0, 2, []Attempts{{5, 2}, {7, 1}})
	f.AddCounts("T", 3, 2, []Attempts{{9, 4}})
	want := Infos{"0 0 5;1 1 0;2 2 3", "0 0 5,7;1 1 0;2 2 3", "0 qo0%5 2;0 qo0%7 1;0 0 1;0 qo3%9 4;0 3 0"}
	if f != want {
		t.Errorf("%+v, want %+v", f, want)
	}
	r := Receipt{5, 100, 60, 8}
	if got := string(r.AppendReceipt(nil, "%RETRY%G_T", "b", 1, 7)); got != "5 100 60 8 1 b 1 7" {
		t.Errorf("receipt %q", got)
	}
	if _, err := ParseReceipt("1 2 x 4 0 b 1 1"); err == nil || !strings.Contains(err.Error(), `"x" is not a number`) {
		t.Error(err)
	}
}
