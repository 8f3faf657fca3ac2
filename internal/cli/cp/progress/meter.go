// Package progress counts what a copy transfers, and shows it on a terminal.
//
//	m := progress.NewMeter(os.Stderr, size, false)
//	defer m.Stop()
//
// Trade-off: it is written here because the usual library for progress bars brings
// tables of Unicode along, which every other command would load, too.
package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/internal/cli/terminal"
)

// Meter counts what is transferred, and shows it on a terminal.
type Meter struct {
	started time.Time
	total   int64 // bytes; not positive for a stream, whose size is unknown
	done    atomic.Int64

	out  io.Writer
	quit chan struct{}
	ends sync.WaitGroup
}

// NewMeter shows its count on out every 200 ms, if that is a terminal and quiet is
// false. A total that is not positive is unknown.
func NewMeter(out io.Writer, total int64, quiet bool) *Meter {
	m := &Meter{started: time.Now(), total: total, out: out, quit: make(chan struct{})}
	if width, ok := terminal.Width(out); ok && !quiet {
		m.ends.Go(func() { m.show(width) })
	}
	return m
}

// Add counts n bytes more.
func (m *Meter) Add(n int) { m.done.Add(int64(n)) }

// Stop shows the last count.
func (m *Meter) Stop() {
	close(m.quit)
	m.ends.Wait()
}

func (m *Meter) show(width int) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-m.quit:
			fmt.Fprint(m.out, m.line(width), "\n")
			return
		case <-ticker.C:
			if now, ok := terminal.Width(m.out); ok {
				width = now
			}
			fmt.Fprint(m.out, m.line(width))
		}
	}
}

// line divides by the time that has passed, which is therefore never zero.
func (m *Meter) line(width int) string {
	return "\r\x1b[K" + progressLine(m.done.Load(), m.total, max(time.Since(m.started), time.Millisecond), width-1)
}

// progressLine returns what a terminal of some width shows.
func progressLine(done, total int64, elapsed time.Duration, width int) string {
	rate := int64(float64(done) / elapsed.Seconds())
	if total <= 0 {
		return clip(fmt.Sprintf("%s  %s/s", byteSize(done), byteSize(rate)), width)
	}
	share := min(float64(done)/float64(total), 1)
	figures := fmt.Sprintf(" %3.0f%%  %s of %s  %s/s", 100*share, byteSize(done), byteSize(total), byteSize(rate))
	if rate > 0 && done < total {
		left := time.Duration((total-done)/rate+1) * time.Second
		figures += "  " + left.String() + " left"
	}
	bar := min(width-len(figures)-2, 40)
	if bar < 8 {
		return clip(strings.TrimSpace(figures), width)
	}
	full := int(share * float64(bar))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", bar-full) + "]" + figures
}

func clip(line string, width int) string { return line[:min(len(line), max(width, 0))] }

// byteSize formats a number of bytes with at most 3 digits and a binary unit.
func byteSize(bytes int64) string {
	value, units := float64(bytes), "KMGTPE"
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	unit := -1
	for value >= 1000 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if value < 10 {
		return fmt.Sprintf("%.1f %ciB", value, units[unit])
	}
	return fmt.Sprintf("%.0f %ciB", value, units[unit])
}
