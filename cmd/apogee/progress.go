package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress is one line that is overwritten, on a terminal only.
type progress struct {
	w    io.Writer // nil: nobody looks
	last time.Time
}

const (
	progressCells    = 24
	progressInterval = 100 * time.Millisecond
)

func newProgress(w io.Writer) *progress {
	if file, ok := w.(*os.File); !ok || !isTerminal(file) {
		return &progress{}
	}
	return &progress{w: w}
}

// show draws what is done of the whole: 0 to 1, or less than 0 where that is not known.
func (p *progress) show(label string, part float64, detail string) {
	if now := time.Now(); p.w != nil && now.Sub(p.last) >= progressInterval {
		p.last = now
		fmt.Fprintf(p.w, "\r\x1b[K%s", progressLine(label, part, detail))
	}
}

// done wipes the line.
func (p *progress) done() {
	if p.w != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func progressLine(label string, part float64, detail string) string {
	bar := ""
	if part >= 0 {
		full := min(int(progressCells*part), progressCells)
		bar = "[" + strings.Repeat("#", full) + strings.Repeat(".", progressCells-full) + "] "
	}
	return fmt.Sprintf("%-8s %s%s", label, bar, detail)
}
