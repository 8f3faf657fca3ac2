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
	"unicode"
	"unicode/utf8"

	"github.com/connpool/connpool/internal/cli/terminal"
)

// Meter counts what is transferred, and shows it on a terminal.
type Meter struct {
	started time.Time
	total   int64 // bytes; not positive for a stream, whose size is unknown
	done    atomic.Int64
	skipped atomic.Int64 // of done
	file    atomic.Pointer[string]

	mu sync.Mutex // guards what follows
	// broken are the files whose stream broke, and how much of each is counted.
	broken map[string]int64

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

// Skip counts n bytes that were there already, which the rate leaves out.
func (m *Meter) Skip(n int64) {
	m.skipped.Add(n)
	m.done.Add(n)
}

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

// File says which file is being copied. The name may be that of a hostile server.
func (m *Meter) File(name string) {
	name = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, name)
	m.file.Store(&name)
}

// Summary says what was copied, such as "3 files, 300 MiB in 2s (150 MiB/s)".
func (m *Meter) Summary(files int) string {
	count := "1 file"
	if files != 1 {
		count = fmt.Sprintf("%d files", files)
	}
	elapsed := m.elapsed()
	sent := m.done.Load() - m.skipped.Load()
	rate := byteSize(rateOf(sent, elapsed))
	text := fmt.Sprintf("copied %s, %s in %s (%s/s)", count, byteSize(sent), elapsed.Round(time.Millisecond), rate)
	if skipped := m.skipped.Load(); skipped > 0 {
		text += fmt.Sprintf(", %s were there already", byteSize(skipped))
	}
	return text
}

// elapsed is never zero: rates are divided by it.
func (m *Meter) elapsed() time.Duration { return max(time.Since(m.started), time.Millisecond) }

func rateOf(bytes int64, elapsed time.Duration) int64 {
	return int64(float64(bytes) / elapsed.Seconds())
}

func (m *Meter) line(width int) string {
	name := ""
	if file := m.file.Load(); file != nil {
		name = *file
	}
	skipped := m.skipped.Load()
	rate := rateOf(m.done.Load()-skipped, m.elapsed())
	return "\r\x1b[K" + progressLine(name, m.done.Load(), m.total, rate, width-1)
}

// progressLine returns what a terminal of some width shows.
func progressLine(name string, done, total, rate int64, width int) string {
	if total <= 0 {
		return clip(fmt.Sprintf("%s  %s/s", byteSize(done), byteSize(rate)), width)
	}
	share := min(float64(done)/float64(total), 1)
	figures := fmt.Sprintf(" %3.0f%%  %s of %s  %s/s", 100*share, byteSize(done), byteSize(total), byteSize(rate))
	if rate > 0 && done < total {
		left := time.Duration((total-done)/rate+1) * time.Second
		figures += "  " + byteSize(total-done) + " and " + left.String() + " left"
	}
	const shortest, longest, least = 8, 40, 12 // of the bar, and of a name
	room := width - len(figures) - 2
	if room < shortest {
		return clip(strings.TrimSpace(figures), width)
	}
	bar := room
	long := utf8.RuneCountInString(name)
	if shown := min(long, longest, room-shortest-1); shown > 0 && shown >= min(least, long) {
		bar -= shown + 1
		name = end(name, shown) + " "
	} else {
		name = ""
	}
	bar = min(bar, longest)
	full := int(share * float64(bar))
	return name + "[" + strings.Repeat("=", full) + strings.Repeat(" ", bar-full) + "]" + figures
}

// end returns the last n characters of a name, which say more than its first ones.
func end(name string, n int) string {
	all := []rune(name)
	return string(all[len(all)-min(n, len(all)):])
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
