package standby

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errRefused = errors.New("refused")

// server dials sockets in memory.
type server struct {
	mu      sync.Mutex // guards what follows
	refuses bool
	delay   time.Duration
	clients []net.Conn
	servers []net.Conn
	lost    []time.Duration
}

func (s *server) dial() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.delay > 0 {
		time.Sleep(s.delay)
	}
	if s.refuses {
		return nil, errRefused
	}
	client, end := net.Pipe()
	s.clients, s.servers = append(s.clients, client), append(s.servers, end)
	return client, nil
}

func (s *server) lose(age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, age)
}

func (s *server) losses() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lost)
}

func (s *server) dials() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// pair returns both ends of the socket that was dialed as the i-th. Others may be dialed
// meanwhile.
func (s *server) pair(i int) (client, end net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[i], s.servers[i]
}

func (s *server) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = true
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range slices.Concat(s.clients, s.servers) {
		_ = conn.Close()
	}
}

// virtually runs a test in virtual time, with two sockets ahead.
func virtually(t *testing.T, change func(*Options[net.Conn]), test func(*testing.T, *server, *Standby[net.Conn])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := new(server)
		options := Options[net.Conn]{Count: 2, Dial: s.dial, Lost: s.lose}
		if change != nil {
			change(&options)
		}
		kept := New(options)
		defer s.close()
		defer kept.Close()
		kept.Replenish()
		synctest.Wait()
		test(t, s, kept)
	})
}

func take(t *testing.T, kept *Standby[net.Conn]) net.Conn {
	t.Helper()
	socket, ok := kept.Take()
	if !ok {
		t.Fatal("there is no socket")
	}
	return socket
}

func wantUsable(t *testing.T, socket, end net.Conn) {
	t.Helper()
	go end.Write([]byte("x")) //nolint:errcheck // the reader notices
	if n, err := socket.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d bytes, error %v", n, err)
	}
}

func TestTheOldestSocketIsTakenAndReplaced(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, kept *Standby[net.Conn]) {
		for i := range 3 {
			if got := kept.Ready(); got != 2 {
				t.Errorf("%d sockets are ready, want 2", got)
			}
			socket := take(t, kept)
			client, end := s.pair(i)
			if socket != client {
				t.Errorf("socket %d is not the oldest", i)
			}
			wantUsable(t, socket, end)
			synctest.Wait()
		}
		if got := s.dials(); got != 5 {
			t.Errorf("%d dials, want 5", got)
		}
	})
}

func TestWithoutASocketTheCallerHasToDial(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, kept *Standby[net.Conn]) {
		s.refuse()
		for range 2 {
			take(t, kept)
		}
		if _, ok := kept.Take(); ok {
			t.Error("there is a third socket")
		}
		synctest.Wait()
	})
}

func TestASocketThatEndsOrSpeaksIsDropped(t *testing.T) {
	tests := map[string]func(net.Conn){
		"ends":   func(end net.Conn) { _ = end.Close() },
		"speaks": func(end net.Conn) { _, _ = end.Write([]byte("unasked")) },
	}
	for name, happens := range tests {
		t.Run(name, func(t *testing.T) {
			virtually(t, nil, func(t *testing.T, s *server, kept *Standby[net.Conn]) {
				time.Sleep(time.Second)
				go happens(s.servers[0])
				synctest.Wait()
				if got := kept.Ready(); got != 1 {
					t.Errorf("%d sockets are ready, want 1", got)
				}
				if got := s.losses(); !slices.Equal(got, []time.Duration{time.Second}) {
					t.Errorf("lost at the ages %v, want 1s", got)
				}
				if got := s.dials(); got != 2 {
					t.Errorf("%d dials, want no new one before it is asked for", got)
				}
				kept.Replenish()
				synctest.Wait()
				if got := kept.Ready(); got != 2 {
					t.Errorf("%d sockets are ready after Replenish, want 2", got)
				}
				if socket := take(t, kept); socket != s.clients[1] {
					t.Error("the socket that is taken is not the one that is left")
				}
			})
		})
	}
}

func TestATakenSocketThatHasEndedIsPassedOver(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, kept *Standby[net.Conn]) {
		_ = s.servers[0].Close() // and its watch may not have noticed yet
		second, _ := s.pair(1)
		if socket := take(t, kept); socket != second {
			t.Error("a dead socket was taken")
		}
		synctest.Wait()
	})
}

func TestReplenishDialsOnlyWhatIsMissing(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, kept *Standby[net.Conn]) {
		for range 10 {
			kept.Replenish()
		}
		synctest.Wait()
		if got := s.dials(); got != 2 {
			t.Errorf("%d dials, want 2", got)
		}
	})
}

func TestPutClosesWhatIsTooMuch(t *testing.T) {
	virtually(t, nil, func(t *testing.T, _ *server, kept *Standby[net.Conn]) {
		extra, end := net.Pipe()
		kept.Put(extra)
		if _, err := end.Read(make([]byte, 1)); err == nil {
			t.Error("a third socket was kept")
		}
		if got := kept.Ready(); got != 2 {
			t.Errorf("%d sockets are ready, want 2", got)
		}
	})
}

func TestASocketIsRefreshedUntilThatFails(t *testing.T) {
	var refreshed atomic.Int64
	var failing atomic.Bool
	refresh := func(o *Options[net.Conn]) {
		o.Count, o.Freshness = 1, 20*time.Second
		o.Refresh = func(net.Conn) bool {
			refreshed.Add(1)
			return !failing.Load()
		}
	}
	virtually(t, refresh, func(t *testing.T, s *server, kept *Standby[net.Conn]) {
		time.Sleep(65 * time.Second)
		synctest.Wait()
		if refreshed.Load() != 3 || kept.Ready() != 1 || s.dials() != 1 {
			t.Errorf("refreshed %d times, %d ready after %d dials", refreshed.Load(), kept.Ready(), s.dials())
		}
		failing.Store(true)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := s.losses(); kept.Ready() != 0 || !slices.Equal(got, []time.Duration{20 * time.Second}) {
			t.Errorf("%d ready, lost at the ages %v", kept.Ready(), got)
		}
	})
}

func TestATakenSocketIsNotRefreshed(t *testing.T) {
	refresh := func(o *Options[net.Conn]) {
		o.Count, o.Freshness = 1, 20*time.Second
		o.Refresh = func(net.Conn) bool {
			t.Error("it was refreshed")
			return true
		}
	}
	virtually(t, refresh, func(t *testing.T, s *server, kept *Standby[net.Conn]) {
		s.refuse()
		socket := take(t, kept)
		time.Sleep(time.Hour)
		wantUsable(t, socket, s.servers[0])
	})
}

func TestCloseEndsWhatIsReadyAndWhatIsComing(t *testing.T) {
	virtually(t, nil, func(t *testing.T, s *server, kept *Standby[net.Conn]) {
		s.delay = time.Minute
		taken := take(t, kept)
		kept.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, end := range s.servers[1:] {
			if _, err := end.Read(make([]byte, 1)); err == nil {
				t.Error("a socket is open")
			}
		}
		if got := s.losses(); len(got) != 0 {
			t.Errorf("%d sockets count as lost", len(got))
		}
		wantUsable(t, taken, s.servers[0])
		if _, ok := kept.Take(); ok {
			t.Error("a socket can be taken")
		}
	})
}
