package progress

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

func TestTheProgressFitsTheTerminal(t *testing.T) {
	for _, c := range []struct {
		name        string
		file        string
		done, total int64
		width       int
		want        string
	}{
		{
			"a wide terminal has a bar", "", 512 << 20, 1 << 30, 80,
			"[==========           ]  50%  512 MiB of 1.0 GiB  51 MiB/s  512 MiB and 11s left",
		},
		{
			"a wider one names the file", "/var/backups/dump.sql", 512 << 20, 1 << 30, 110,
			"/var/backups/dump.sql [==============               ]  50%  512 MiB of 1.0 GiB  51 MiB/s  512 MiB and 11s left",
		},
		{
			"the end of a long name is shown", "/var/backups/of/the/year/dump.sql", 512 << 20, 1 << 30, 80,
			"ear/dump.sql [====    ]  50%  512 MiB of 1.0 GiB  51 MiB/s  512 MiB and 11s left",
		},
		{"a narrow one has figures", "file", 512 << 20, 1 << 30, 64, "50%  512 MiB of 1.0 GiB  51 MiB/s  512 MiB and 11s left"},
		{"a stream has no end", "", 10 << 10, -1, 80, "10 KiB  1.0 KiB/s"},
		{"a tiny one is not overrun", "", 512 << 20, 1 << 30, 7, "50%  51"},
		{"what grew is complete", "", 2048, 1024, 32, "100%  2.0 KiB of 1.0 KiB  204 B/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := progressLine(c.file, c.done, c.total, rateOf(c.done, 10*time.Second), c.width)
			if diff := cmp.Diff(c.want, got); diff != "" || len(got) > c.width {
				t.Errorf("%d wide (-want +got):\n%s", len(got), diff)
			}
		})
	}
}

func TestProgressIsShownOnATerminalOnly(t *testing.T) {
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ours.Close() }()
	if err := pty.Setsize(ours, &pty.Winsize{Cols: 80, Rows: 24}); err != nil {
		t.Fatal(err)
	}
	for _, quiet := range []bool{true, false} {
		m := NewMeter(theirs, 100, quiet)
		m.Add(100)
		m.Stop()
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	shown, _ := io.ReadAll(ours) // it ends with an error of its own when the other end is closed
	if text := string(shown); !strings.Contains(text, "100%") || strings.Count(text, "\n") != 1 {
		t.Errorf("the terminal shows %q", text)
	}
}
