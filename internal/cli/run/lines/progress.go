package lines

import (
	"fmt"
	"sync"
	"time"

	"github.com/connpool/connpool/internal/cli/terminal"
)

// How often progress is shown: on a terminal in place, and elsewhere in a new line.
const (
	redrawEvery = 200 * time.Millisecond
	sayEvery    = 5 * time.Second
)

// Progress says how many targets are done while the others run.
type Progress struct {
	mixer *Mixer
	total int
	done  int // guarded by the lock of the mixer
	said  int // what the last line said
	quit  chan struct{}
	ended sync.WaitGroup
}

// ShowProgress shows on err of the mixer how many of total targets are done, until Stop.
func ShowProgress(mixer *Mixer, total int) *Progress {
	p := &Progress{mixer: mixer, total: total, quit: make(chan struct{})}
	if total > 1 {
		p.ended.Go(p.show)
	}
	return p
}

// Add counts a target that is done.
func (p *Progress) Add() {
	p.mixer.mu.Lock()
	defer p.mixer.mu.Unlock()
	p.done++
}

// Stop ends it, and leaves nothing below the last line.
func (p *Progress) Stop() {
	close(p.quit)
	p.ended.Wait()
	p.mixer.mu.Lock()
	defer p.mixer.mu.Unlock()
	p.mixer.erase()
}

func (p *Progress) show() {
	every, show := sayEvery, p.say
	if terminal.Is(p.mixer.err) {
		every, show = redrawEvery, p.draw
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-ticker.C:
			p.mixer.mu.Lock()
			show()
			p.mixer.mu.Unlock()
		}
	}
}

func (p *Progress) line() string { return fmt.Sprintf("%d of %d done", p.done, p.total) }

func (p *Progress) draw() {
	if line := p.line(); line != p.mixer.below {
		p.mixer.erase()
		p.mixer.below = line
		fmt.Fprint(p.mixer.err, line)
	}
}

func (p *Progress) say() {
	if p.done != p.said {
		p.said = p.done
		fmt.Fprintln(p.mixer.err, p.line())
	}
}
