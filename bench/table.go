package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is one workload on one server, as the scripts leave it: SERVER/CASE.json.
type Result struct {
	Case   string `json:"case"`
	Server string `json:"server"`
	Report Report `json:"report"`
}

// UnmarshalJSON reads seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*s = Seconds(f * float64(time.Second))
	return nil
}

// ReadResults reads all SERVER/CASE.json, ordered by case and then by server.
func ReadResults(dir fs.FS) ([]Result, error) {
	names, err := fs.Glob(dir, "*/*.json")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no results: want SERVER/CASE.json, as `apogee bench ... --json` writes them")
	}
	var out []Result
	for _, name := range names {
		b, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		r := Result{Case: strings.TrimSuffix(path.Base(name), ".json"), Server: path.Dir(name)}
		if err := json.Unmarshal(b, &r.Report); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b Result) int { return strings.Compare(a.Case, b.Case) })
	return out, nil
}

// PrintResults writes a table. Rates and CPU times are also given as a multiple of the baseline server's, where it ran the same case.
func PrintResults(w io.Writer, results []Result, baseline string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "CASE\tSERVER\tRATE/S\tVS "+strings.ToUpper(baseline)+"\tMB/S\tCPU US\tVS "+strings.ToUpper(baseline)+"\tP50\tP99\tP99.9\tDELIVERED\tERRORS\tRSS MB")
	last := ""
	for _, r := range results {
		name := r.Case
		if name == last {
			name = ""
		}
		last = r.Case
		base := find(results, r.Case, baseline)
		rate, cpu := "-", "-"
		if base != nil && r.Server != baseline {
			rate = multiple(r.Report.Rate, base.Report.Rate)
			if r.Report.Server != nil && base.Report.Server != nil {
				cpu = multiple(r.Report.Server.CPUPerMessage, base.Report.Server.CPUPerMessage)
			}
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%.0f\t%s\t%s\t%s\n", name, r.Server, grouped(int64(r.Report.Rate)), rate, r.Report.MBPerSec,
			cpuText(r.Report.Server), cpu, tail(&r.Report))
	}
	return tw.Flush()
}

func find(results []Result, name, server string) *Result {
	for i := range results {
		if results[i].Case == name && results[i].Server == server {
			return &results[i]
		}
	}
	return nil
}

func multiple(v, of float64) string {
	if of <= 0 || v <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.3gx", v/of)
}

func cpuText(u *ServerUse) string {
	if u == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", u.CPUPerMessage)
}

// tail are the last columns: latency, delivered, errors, memory.
func tail(r *Report) string {
	cells := []string{"-", "-", "-", "-", "-", "-"}
	if l := r.Latency; l != nil {
		cells[0], cells[1], cells[2] = micros(l.P50), micros(l.P99), micros(l.P999)
	}
	if r.EndToEnd != nil {
		cells[3] = fmt.Sprintf("%.1f%%", r.EndToEnd.DeliveredPercent)
	}
	errors := int64(0)
	for _, n := range r.Errors {
		errors += n
	}
	if errors > 0 {
		cells[4] = grouped(errors)
	}
	if r.Server != nil {
		cells[5] = fmt.Sprintf("%.0f", float64(r.Server.RSSBytes)/1e6)
	}
	return strings.Join(cells, "\t")
}
