package output

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// pipe returns a queue that writes to a pipe which is not read yet.
func pipe(t *testing.T) (*Queue, *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	q := New(write)
	t.Cleanup(func() {
		_ = read.Close() // which ends a Write that waits
		<-q.done
		_ = write.Close()
	})
	return q, read
}

func TestLinesAreWrittenInTheirOrder(t *testing.T) {
	q, read := pipe(t)
	log, audit := q.Writer(Size/2), q.Writer(Size)
	for n := range 1000 {
		fmt.Fprintf([]*Writer{log, audit}[n%2], "line %d\n", n)
	}
	lines := bufio.NewReader(read)
	for n := range 1000 {
		if line, err := lines.ReadString('\n'); line != fmt.Sprintf("line %d\n", n) {
			t.Fatalf("line %d is %q, %v", n, line, err)
		}
	}
	if log.Dropped()+audit.Dropped() != 0 {
		t.Error("some lines are dropped")
	}
	q.Close(time.Minute)
}

// A write to the pipe itself would block for ever after 64 KiB.
func TestAPipeThatIsNotReadBlocksNoLineAndWhatHasNoRoomIsCounted(t *testing.T) {
	q, read := pipe(t)
	log, audit := q.Writer(Size/2), q.Writer(Size)
	lost := make(chan uint64, 1)
	q.TellLost(func(lines uint64) { lost <- lines })
	const each = 8 * Size / 1000
	line := []byte(strings.Repeat("x", 999) + "\n")
	for range each {
		_, _ = log.Write(line)
	}
	for range each {
		_, _ = audit.Write(line)
	}
	dropped := log.Dropped() + audit.Dropped()
	if log.Dropped() == 0 || audit.Dropped() == 0 || each-audit.Dropped() < Size/2/1000 || q.held() > Size {
		t.Errorf("of %d lines each, the log has lost %d and the audit %d; %d bytes wait", each, log.Dropped(), audit.Dropped(), q.held())
	}
	whole := bufio.NewReader(read)
	for range 2*each - dropped {
		if got, err := whole.ReadBytes('\n'); !bytes.Equal(got, line) {
			t.Fatalf("a line is %q, %v", got, err)
		}
	}
	if told := <-lost; told != dropped {
		t.Errorf("%d lines are lost, and %d were told", dropped, told)
	}
	_, _ = audit.Write([]byte("the next\n"))
	if got, err := whole.ReadString('\n'); got != "the next\n" {
		t.Errorf("afterwards a line is %q, %v", got, err)
	}
	q.Close(time.Minute)
}

func (q *Queue) held() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func TestTheLastLinesAreWrittenBeforeTheEndIfTheyAreRead(t *testing.T) {
	var written bytes.Buffer
	q := New(&written)
	_, _ = q.Writer(Size).Write([]byte("stopping\n"))
	q.Close(time.Minute)
	if _, _ = q.Writer(Size).Write([]byte("too late\n")); written.String() != "stopping\n" {
		t.Errorf("written is %q", written.String())
	}
}

func TestAPipeThatIsNotReadDoesNotKeepTheProgramFromEnding(t *testing.T) {
	q, _ := pipe(t)
	_, _ = q.Writer(Size).Write(make([]byte, Size))
	q.Close(time.Millisecond)
}

func BenchmarkWrite(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	q := New(null)
	defer q.Close(time.Minute)
	w, line := q.Writer(Size), bytes.Repeat([]byte("x"), 500)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = w.Write(line)
	}
}
