package cp

import (
	"context"
	"encoding/binary"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connpool/connpool/internal/cli/cp/sftpclient"
)

// rawServer answers requests with packets that no library would write.
type rawServer struct {
	// names are in every answer to a request for more of a directory.
	names []string
	// silentAt is the type of the requests that it never answers.
	silentAt byte
	listed   atomic.Int64
}

// Types of packets that it knows.
const (
	packetInit, packetVersion          = 1, 2
	packetOpendir, packetReaddir       = 11, 12
	packetStat, packetLstat            = 17, 7
	packetStatus, packetHandle         = 101, 102
	packetName, packetAttrs, statusEOF = 104, 105, 1
)

func (s *rawServer) serve(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	defer context.AfterFunc(ctx, func() { _ = stdin.(io.Closer).Close() })()
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(stdin, head); err != nil {
			return nil // the client has left
		}
		if _, err := io.CopyN(io.Discard, stdin, int64(binary.BigEndian.Uint32(head))-5); err != nil {
			return err
		}
		if head[4] == s.silentAt {
			continue
		}
		if _, err := stdout.Write(s.answer(head[4], head[5:])); err != nil {
			return err
		}
	}
}

func (s *rawServer) answer(asked byte, id []byte) []byte {
	const hasPermissions, directory = 4, 0o040755
	body := func(kind byte, numbers ...uint32) []byte {
		packet := append([]byte{0, 0, 0, 0, kind}, id...)
		for _, n := range numbers {
			packet = binary.BigEndian.AppendUint32(packet, n)
		}
		return packet
	}
	var packet []byte
	switch asked {
	case packetInit:
		packet = []byte{0, 0, 0, 0, packetVersion, 0, 0, 0, 3}
	case packetStat, packetLstat:
		packet = body(packetAttrs, hasPermissions, directory)
	case packetOpendir:
		packet = body(packetHandle, 0)
	case packetReaddir:
		s.listed.Add(int64(len(s.names)))
		packet = body(packetName, uint32(len(s.names)))
		for _, name := range s.names {
			packet = binary.BigEndian.AppendUint32(packet, uint32(len(name)))
			packet = append(packet, name...)
			packet = append(packet, 0, 0, 0, 0, 0, 0, 0, 0) // no long name, no attributes
		}
	default:
		packet = body(packetStatus, statusEOF, 0, 0)
	}
	binary.BigEndian.PutUint32(packet, uint32(len(packet)-4))
	return packet
}

func TestADirectoryWithoutEndIsNotKept(t *testing.T) {
	for name, names := range map[string][]string{
		"many short names":           strings.Split(strings.Repeat("a,", 19_000), ","),
		"long names":                 {strings.Repeat("x", 250<<10)},
		"answers that hold no names": nil,
	} {
		t.Run(name, func(t *testing.T) {
			server := &rawServer{names: names}
			test := newCopyTest(t)
			err := test.run(t, server.serve, "-r", "web:/tree", "L:in")
			if err == nil || !strings.Contains(err.Error(), "lists more than") || strings.Contains(err.Error(), "connection lost") {
				t.Errorf("error %v, want that it lists too much", err)
			}
			if n := server.listed.Load(); n > 1_100_000 {
				t.Errorf("it could list %d names", n)
			}
		})
	}
}

// A path repeats the names of all directories above it, so few bytes of a server
// become many of ours.
func TestATreeOfLongNamesEnds(t *testing.T) {
	server := &rawServer{names: []string{strings.Repeat("x", 100<<10)}}
	err := newCopyTest(t).run(t, func(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
		return server.serve(ctx, stdin, stdout)
	}, "-r", "web:/tree", "L:in")
	if err == nil || len(err.Error()) > 2000 {
		t.Errorf("error %.3000v, want a short one", err)
	}
}

func TestASilentServerIsNotedAndLeft(t *testing.T) {
	for name, silentAt := range map[string]byte{"at the beginning": packetInit, "later": packetStat} {
		t.Run(name, func(t *testing.T) {
			test := newCopyTest(t)
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := test.run(t, (&rawServer{silentAt: silentAt}).serve, "web:/file", "L:file")
				if err == nil || !strings.Contains(err.Error(), "has not answered for 5m0s") {
					t.Errorf("error %v, want that it does not answer", err)
				}
				if took := time.Since(began); took < sftpclient.GiveUpAfter || took > sftpclient.GiveUpAfter+time.Minute {
					t.Errorf("it took %s", took)
				}
			})
			if notes := test.problem.String(); strings.Count(notes, "has not answered for 15s") != 1 {
				t.Errorf("printed %q, want one note", notes)
			}
		})
	}
}

// A program that writes slowly to standard input is not the server's silence.
func TestSlowInputIsNoSilence(t *testing.T) {
	test := newCopyTest(t)
	synctest.Test(t, func(t *testing.T) {
		read, write := io.Pipe()
		go func() {
			_, _ = io.WriteString(write, "slow ")
			time.Sleep(2 * sftpclient.GiveUpAfter)
			_, _ = io.WriteString(write, "input")
			_ = write.Close()
		}()
		if err := test.runWith(t, read, served, "-", "R:file"); err != nil {
			t.Error(err)
		}
	})
	if got := listing(t, test.remote)["file"]; !strings.HasSuffix(got, "slow input") || test.problem.Len() > 0 {
		t.Errorf("got %q, printed %q", got, &test.problem)
	}
}

func TestNamesOfAServerCannotSteerATerminal(t *testing.T) {
	const evil = "a\x1b[2J\rb\u202e\x07"
	server := hostile{"/tree": {{name: evil, mode: 0o644, size: 1 << 40}, {name: evil + "/..", mode: 0o644}}}
	for _, source := range []string{"/tree", "/tree/" + evil} {
		test := newCopyTest(t)
		err := test.run(t, server.serve, "-r", "web:"+source, "L:in")
		if text := textOf(err) + test.problem.String(); err == nil || strings.ContainsAny(text, "\x1b\r\x07\u202e") {
			t.Errorf("printed %q", text)
		}
	}
}
