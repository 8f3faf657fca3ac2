package session

import (
	"io"
	"strings"
	"sync"
)

// input is the standard input of the shell. It knows how much of it was read: the
// shell may have seen that much.
type input struct {
	mu    sync.Mutex
	wake  sync.Cond
	text  string
	taken bool // something of the newest text was read
	ended bool
}

func newInput() *input {
	i := &input{}
	i.wake.L = &i.mu
	return i
}

// write appends text and does not wait.
func (i *input) write(text string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.text += text
	i.taken = false
	i.wake.Broadcast()
}

// end makes the input end here. What has not been read never will be.
func (i *input) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.wake.Broadcast()
}

// withdraw takes back what was not read. It reports whether some of the newest text
// was read, and whether all was read that a shell needs to execute it: at the end of
// its input a shell does not need the last newline.
func (i *input) withdraw() (some, all bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	some, all = i.taken, strings.TrimSpace(i.text) == ""
	i.text = ""
	return some, all
}

func (i *input) Read(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for i.text == "" && !i.ended {
		i.wake.Wait()
	}
	if i.ended {
		return 0, io.EOF
	}
	n := copy(p, i.text)
	i.text = i.text[n:]
	i.taken = i.taken || n > 0
	return n, nil
}
