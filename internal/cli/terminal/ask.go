package terminal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// ErrNoTerminal says that there is no person to ask.
var ErrNoTerminal = errors.New("standard input is not a terminal")

// Confirm asks a question on out, and reports whether the person at the terminal in says
// yes. Anything but y or yes means no. The end of ctx ends the wait with its error.
func Confirm(ctx context.Context, in any, out io.Writer, question string) (bool, error) {
	file, ok := in.(*os.File)
	if !ok || !Is(in) {
		return false, ErrNoTerminal
	}
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer, err := unlessDone(ctx, func() (string, error) { return bufio.NewReader(file).ReadString('\n') })
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

// ReadHidden asks for a word that the terminal does not show. The end of ctx restores the
// terminal and ends the wait with its error.
func ReadHidden(ctx context.Context, in any, out io.Writer, prompt string) (string, error) {
	file, ok := in.(*os.File)
	if !ok || !Is(in) {
		return "", ErrNoTerminal
	}
	state, err := term.GetState(int(file.Fd()))
	if err != nil {
		return "", fmt.Errorf("read the state of the terminal: %w", err)
	}
	fmt.Fprintf(out, "%s: ", prompt)
	defer fmt.Fprintln(out)
	word, err := unlessDone(ctx, func() (string, error) {
		text, err := term.ReadPassword(int(file.Fd()))
		return string(text), err
	})
	if ctx.Err() != nil {
		_ = term.Restore(int(file.Fd()), state)
	}
	return word, err
}

// unlessDone waits for a read of the terminal, or for the end of ctx. The read goes on
// then, because no deadline can end it; the process is about to end.
func unlessDone(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		text, err := read()
		answered <- answer{text, err}
	}()
	select {
	case a := <-answered:
		return a.text, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
