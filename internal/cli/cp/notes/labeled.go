package notes

import (
	"bytes"
	"fmt"
	"io"
	"sync"
)

// Labeled is a writer that puts a label before each line.
type Labeled struct {
	Printing *sync.Mutex // held while a line is printed
	Out      io.Writer
	Label    string

	writing sync.Mutex // guards rest, which is no whole line yet
	rest    []byte
}

// Write implements io.Writer.
func (l *Labeled) Write(p []byte) (int, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.print(line)
		l.rest = rest
	}
}

func (l *Labeled) print(line []byte) {
	l.Printing.Lock()
	defer l.Printing.Unlock()
	fmt.Fprintf(l.Out, "%s%s\n", l.Label, line)
}

// Flush prints a last line that has no end.
func (l *Labeled) Flush() {
	l.writing.Lock()
	defer l.writing.Unlock()
	if len(l.rest) > 0 {
		l.print(l.rest)
	}
}
