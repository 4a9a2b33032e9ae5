package bench

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"
)

func TestResultsBesideABaseline(t *testing.T) {
	dir := fstest.MapFS{
		"rocketmq/01-send.json": {Data: []byte(`{"rate_per_second":30000,"elapsed_seconds":1.5,"server":{"cpu_us_per_message":50},"latency_us":{"p99":110000}}`)},
		"apogee/01-send.json":   {Data: []byte(`{"rate_per_second":450000,"server":{"cpu_us_per_message":2,"rss_bytes":128000000},"errors":{"SYSTEM_BUSY":3}}`)},
		"apogee/02-e2e.json":    {Data: []byte(`{"rate_per_second":10000,"end_to_end":{"delivered_percent":99.96}}`)},
	}
	results, err := ReadResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := PrintResults(&out, results, "rocketmq"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"CASE SERVER RATE/S VS ROCKETMQ MB/S CPU US VS ROCKETMQ P50 P99 P99.9 DELIVERED ERRORS RSS MB",
		"01-send apogee 450,000 15x 0 2.00 0.04x - - - - 3 128",
		"rocketmq 30,000 - 0 50.00 - 0 us 110.00 ms 0 us - - 0",
		"02-e2e apogee 10,000 - 0 - - - - - 100.0% - -",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := ReadResults(fstest.MapFS{}); err == nil {
		t.Error("an empty directory was taken")
	}
}
