package session

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// play lets a scanner find a section in each of the streams, which arrive in
// pieces. As in a session, a stream begins when the command before has ended.
func play(streams [][]byte, marks []nonce, pieces func() int) (outputs, codes []string) {
	scan := new(scanner)
	for i, stream := range streams {
		var out bytes.Buffer
		c := &section{out: &out, begins: marks[i].begins(), ends: marks[i].ends(), progress: newProgress()}
		scan.expect(c)
		for len(stream) > 0 {
			n := min(max(1, pieces()), len(stream))
			_, _ = scan.Write(stream[:n:n])
			stream = stream[n:]
		}
		outputs, codes = append(outputs, out.String()), append(codes, string(c.code))
	}
	return outputs, codes
}

// nasty returns output that is full of parts of markers.
func nasty(random *rand.Rand, marks []nonce) []byte {
	var all []byte
	for range random.IntN(20) {
		mark := marks[random.IntN(len(marks))]
		whole := append(mark.ends(), "0\n"...)
		from, to := random.IntN(len(whole)), random.IntN(len(whole))
		if from <= to && to-from < len(whole)-3 {
			all = append(all, whole[from:to]...)
		}
		for range random.IntN(5) {
			all = append(all, byte(random.IntN(256)))
		}
		if bytes.Contains(all, mark.ends()) || bytes.Contains(all, mark.begins()) {
			return nil
		}
	}
	return all
}

// frame returns what the shell writes for a command.
func frame(mark nonce, output []byte, code string) []byte {
	all := append(mark.begins(), output...)
	return append(append(append(all, mark.ends()...), code...), '\n')
}

func TestOutputComesOutAsItWentInHoweverItIsCut(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		marks := []nonce{newNonce(), newNonce()}
		first, second := nasty(random, marks), nasty(random, marks)
		streams := [][]byte{
			slices.Concat(nasty(random, marks), frame(marks[0], first, "7")),
			slices.Concat(nasty(random, marks), frame(marks[1], second, ""), nasty(random, marks)),
		}
		outputs, codes := play(streams, marks, func() int { return random.IntN(40) })
		if outputs[0] != string(first) || outputs[1] != string(second) || codes[0] != "7" || codes[1] != "" {
			t.Fatalf("%q became %q with the codes %q", streams, outputs, codes)
		}
	}
}

func TestOutputIsNotHeldBackLongerThanNecessary(t *testing.T) {
	mark := newNonce()
	var out bytes.Buffer
	scan := new(scanner)
	scan.expect(&section{out: &out, begins: mark.begins(), ends: mark.ends(), progress: newProgress()})
	for _, piece := range []struct{ write, want string }{
		{string(mark.begins()) + "prompt> ", "prompt> "},
		{mark.left, "prompt> "},
		{"!", "prompt> " + mark.left + "!"},
	} {
		_, _ = scan.Write([]byte(piece.write))
		if out.String() != piece.want {
			t.Errorf("after %q: %q, want %q", piece.write, out.String(), piece.want)
		}
	}
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte("some output\n"), uint8(3))
	f.Add([]byte{0, 255, 10}, uint8(1))
	f.Fuzz(func(t *testing.T, output []byte, cut uint8) {
		mark := nonce{"0123456789abcdef", "0123456789abcdee"}
		if bytes.Contains(output, mark.ends()) {
			return // no command guesses 128 random bits
		}
		outputs, codes := play([][]byte{frame(mark, output, "42")}, []nonce{mark}, func() int { return int(cut) })
		if outputs[0] != string(output) || codes[0] != "42" {
			t.Errorf("%q became %q with code %q", output, outputs[0], codes[0])
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	mark := newNonce()
	scan := new(scanner)
	scan.expect(&section{begins: mark.begins(), ends: mark.ends(), progress: newProgress(), begun: true})
	block := bytes.Repeat([]byte("0123456789abcdef\n"), 32<<10/17)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		_, _ = scan.Write(block)
	}
}
