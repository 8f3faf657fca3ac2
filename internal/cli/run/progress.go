package run

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

// progress says how many targets are done while the others run.
type progress struct {
	mixer *lineMixer
	total int
	done  int // guarded by the lock of the mixer
	said  int // what the last line said
	quit  chan struct{}
	ended sync.WaitGroup
}

func showProgress(mixer *lineMixer, total int) *progress {
	p := &progress{mixer: mixer, total: total, quit: make(chan struct{})}
	if total > 1 {
		p.ended.Go(p.show)
	}
	return p
}

// add counts a target that is done.
func (p *progress) add() {
	p.mixer.mu.Lock()
	defer p.mixer.mu.Unlock()
	p.done++
}

// stop ends it, and leaves nothing below the last line.
func (p *progress) stop() {
	close(p.quit)
	p.ended.Wait()
	p.mixer.mu.Lock()
	defer p.mixer.mu.Unlock()
	p.mixer.erase()
}

func (p *progress) show() {
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

func (p *progress) line() string { return fmt.Sprintf("%d of %d done", p.done, p.total) }

func (p *progress) draw() {
	if line := p.line(); line != p.mixer.below {
		p.mixer.erase()
		p.mixer.below = line
		fmt.Fprint(p.mixer.err, line)
	}
}

func (p *progress) say() {
	if p.done != p.said {
		p.said = p.done
		fmt.Fprintln(p.mixer.err, p.line())
	}
}
