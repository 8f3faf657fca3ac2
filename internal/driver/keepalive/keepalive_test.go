package keepalive

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/driver"
)

const (
	interval = 10 * time.Second
	timeout  = 3 * time.Second
)

var errLost = errors.New("lost")

// server is what a Monitor asks. Its answers take as long as delay says; a negative
// one means that it does not answer before it is closed.
type server struct {
	asked, heard, answers, alive, deaths atomic.Int64

	delay  time.Duration
	err    error
	closed chan struct{}
}

func newServer() *server { return &server{closed: make(chan struct{})} }

func (s *server) options() Options[int64] {
	return Options[int64]{
		Address: "host:1", Interval: interval, Timeout: timeout, SuspectTimeout: 2 * timeout,
		Ask: s.ask, Heard: s.heard.Load,
		Answered: func(Result[int64]) { s.answers.Add(1) },
		Alive:    func() { s.alive.Add(1) },
		Dead:     func() { s.deaths.Add(1) },
	}
}

func (s *server) ask() (int64, error) {
	asked := s.asked.Add(1)
	answer := time.After(s.delay)
	if s.delay < 0 {
		answer = nil
	}
	select {
	case <-answer:
		return asked, s.err
	case <-s.closed:
		return 0, errLost
	}
}

// virtually runs a test in virtual time, with a Monitor that is stopped at its end.
func virtually(t *testing.T, change func(*Options[int64]), test func(*testing.T, *server, *Monitor[int64])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		options := s.options()
		if change != nil {
			change(&options)
		}
		m := New(options)
		defer synctest.Wait()
		defer close(s.closed)
		defer m.Stop()
		test(t, s, m)
	})
}

// pass lets virtual time pass, and all that it brings about.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func wantCounts(t *testing.T, s *server, asked, alive, deaths int64) {
	t.Helper()
	if a, b, c := s.asked.Load(), s.alive.Load(), s.deaths.Load(); a != asked || b != alive || c != deaths {
		t.Errorf("asked %d times, alive %d, dead %d; want %d, %d and %d", a, b, c, asked, alive, deaths)
	}
}

func TestKeepalivesFollowEachAnswerByTheInterval(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
		s.delay = time.Second
		m.Start()
		pass(interval - 1)
		wantCounts(t, s, 0, 0, 0)
		pass(1 + time.Second)
		wantCounts(t, s, 1, 1, 0)
		if got := m.RoundTrip(); got != time.Second {
			t.Errorf("round trip %s, want 1s", got)
		}
		pass(interval - 1)
		wantCounts(t, s, 1, 1, 0)
		pass(1 + time.Second)
		wantCounts(t, s, 2, 2, 0)
	})
}

func TestAProbeStandsForAKeepalive(t *testing.T) {
	virtually(t, func(o *Options[int64]) { o.Alive = nil }, func(t *testing.T, s *server, m *Monitor[int64]) {
		m.Start()
		pass(interval / 2)
		if _, err := m.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(interval - time.Second)
		wantCounts(t, s, 1, 0, 0)
		pass(time.Second)
		wantCounts(t, s, 2, 0, 0)
	})
}

// Thousands of connections must not wake the process at a moment of each.
func TestKeepalivesOfConnectionsComeTogether(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
		pass(100 * time.Millisecond)
		m.Start()
		pass(interval - 101*time.Millisecond)
		wantCounts(t, s, 0, 0, 0)
		pass(time.Millisecond)
		wantCounts(t, s, 1, 1, 0)
	})
}

func TestNoIntervalMeansNoKeepalives(t *testing.T) {
	virtually(t, func(o *Options[int64]) { o.Interval = 0 }, func(t *testing.T, s *server, m *Monitor[int64]) {
		m.Start()
		pass(time.Hour)
		wantCounts(t, s, 0, 0, 0)
	})
}

func TestAMonitorThatWasStoppedDoesNotStart(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
		m.Stop()
		m.Start()
		m.Suspect()
		pass(time.Hour)
		wantCounts(t, s, 0, 0, 0)
	})
}

func TestStopDuringAKeepaliveIsTheLast(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
		s.delay = time.Second
		m.Start()
		pass(interval + time.Second/2)
		m.Stop()
		pass(time.Hour)
		wantCounts(t, s, 1, 1, 0)
	})
}

func TestAServerThatDoesNotAnswerIsDeadAfterTheTimeout(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
		s.delay = -1
		m.Start()
		pass(interval + timeout - 1)
		wantCounts(t, s, 1, 0, 0)
		pass(1)
		wantCounts(t, s, 1, 0, 1)
		pass(time.Hour)
		wantCounts(t, s, 1, 0, 1)
	})
}

func TestASlowPathIsGivenGraceWhileBytesArrive(t *testing.T) {
	inEach := []time.Duration{1, timeout + 1, 2*timeout + 1, 3*timeout + 1, 4*timeout + 1, 5*timeout + 1}
	tests := map[string]struct {
		answer time.Duration   // after the keepalive began; negative means never
		heard  []time.Duration // when other bytes arrive
		dead   time.Duration   // when the server counts as dead; 0 means never
	}{
		"an answer just within the timeout needs no bytes": {timeout - 1, nil, 0},
		"an answer after the timeout, without bytes":       {timeout + 1, nil, timeout},
		"an answer just within the fifth timeout":          {5*timeout - 1, inEach, 0},
		"no answer within five timeouts":                   {-1, inEach, 5 * timeout},
		"bytes that stop after the second timeout":         {-1, inEach[:2], 3 * timeout},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
				s.delay = tc.answer
				m.Start()
				pass(interval)
				for _, at := range tc.heard {
					defer time.AfterFunc(at, func() { s.heard.Add(1) }).Stop()
				}
				if tc.dead == 0 {
					pass(tc.answer)
					wantCounts(t, s, 1, 1, 0)
					return
				}
				pass(tc.dead - 1)
				wantCounts(t, s, 1, 0, 0)
				pass(1)
				wantCounts(t, s, 1, 0, 1)
			})
		})
	}
}

func TestProbesShareOneRoundTrip(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
		s.delay = time.Second
		var probing sync.WaitGroup
		for range 100 {
			probing.Go(func() {
				if result, err := m.Probe(t.Context()); err != nil || result.Err != nil || result.Answer != 1 {
					t.Errorf("result %+v, error %v", result, err)
				}
			})
		}
		probing.Wait()
		wantCounts(t, s, 1, 0, 0)
		if got := s.answers.Load(); got != 1 {
			t.Errorf("answered %d times", got)
		}
		if result, err := m.Probe(t.Context()); err != nil || result.Answer != 2 {
			t.Errorf("a later probe: %+v, error %v, want a round trip of its own", result, err)
		}
	})
}

func TestAProbeReportsThatThereIsNoAnswer(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
		s.err = errLost
		if result, err := m.Probe(t.Context()); err != nil || !errors.Is(result.Err, errLost) {
			t.Errorf("result %+v, error %v", result, err)
		}
		if got := m.RoundTrip(); got != 0 {
			t.Errorf("round trip %s without an answer", got)
		}
	})
}

func TestAProbeThatGivesUpLeavesTheRoundTripToOthers(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
		s.delay = time.Minute
		var first *driver.Error
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := m.Probe(ctx)
			cancel()
			own, ok := errors.AsType[*driver.Error](err)
			if !ok || own.Reason != driver.Timeout || own.Stage != driver.StageKeepalive || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %+v", err)
			}
			if own == first {
				t.Error("two callers got the same error")
			}
			first = own
		}
		if result, err := m.Probe(t.Context()); err != nil || result.Answer != 1 {
			t.Errorf("result %+v, error %v, want that of the first round trip", result, err)
		}
	})
}

func TestSuspicion(t *testing.T) {
	t.Run("asks at once and only once", func(t *testing.T) {
		virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
			s.delay = time.Second
			for range 10 {
				m.Suspect()
			}
			synctest.Wait()
			wantCounts(t, s, 1, 0, 0)
			pass(time.Hour)
			wantCounts(t, s, 1, 0, 0)
		})
	})
	t.Run("waits for the gap after an answer", func(t *testing.T) {
		virtually(t, func(o *Options[int64]) { o.MinGap = time.Second }, func(t *testing.T, s *server, m *Monitor[int64]) {
			m.Suspect()
			synctest.Wait()
			wantCounts(t, s, 1, 0, 0)
			m.Suspect()
			pass(time.Second - 1)
			wantCounts(t, s, 1, 0, 0)
			pass(1)
			wantCounts(t, s, 2, 0, 0)
		})
	})
	t.Run("ends in death after its own timeout, without grace", func(t *testing.T) {
		virtually(t, nil, func(t *testing.T, s *server, m *Monitor[int64]) {
			s.delay = -1
			defer time.AfterFunc(time.Second, func() { s.heard.Add(1) }).Stop()
			m.Suspect()
			pass(2*timeout - 1)
			wantCounts(t, s, 1, 0, 0)
			pass(1)
			wantCounts(t, s, 1, 0, 1)
		})
	})
	t.Run("ends with the monitor", func(t *testing.T) {
		virtually(t, func(o *Options[int64]) { o.MinGap = time.Second }, func(t *testing.T, s *server, m *Monitor[int64]) {
			m.Suspect()
			synctest.Wait()
			m.Suspect()
			m.Stop()
			pass(time.Hour)
			wantCounts(t, s, 1, 0, 0)
		})
	})
}

func TestAnAskThatBoundsItselfIsNotBoundedAgain(t *testing.T) {
	virtually(t, func(o *Options[int64]) { o.Dead = nil }, func(t *testing.T, s *server, m *Monitor[int64]) {
		s.delay = time.Hour
		m.Start()
		m.Suspect()
		pass(2 * time.Hour)
		if s.alive.Load() == 0 || s.deaths.Load() != 0 {
			t.Errorf("alive %d, dead %d", s.alive.Load(), s.deaths.Load())
		}
	})
}
