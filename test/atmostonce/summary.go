package atmostonce

import (
	"fmt"
	"strings"
	"time"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// maxExamples bounds how many violations are described in full.
const maxExamples = 5

// Summary says how the commands of a load ended, and what was wrong with that.
type Summary struct {
	// Commands is how many were sent, each retry included. Strikes is how often the
	// fault struck.
	Commands, Strikes int
	// How many ended with each outcome, as reported.
	Completed, NotStarted, Unknown int
	// Duplicates ran more than once. Phantoms ran although they were reported as
	// NotStarted. Missing did not run although they were reported as Completed.
	Duplicates, Phantoms, Missing int
	// WrongExits were reported as Completed with a wrong exit code.
	WrongExits int
	// LostBytes is how many bytes Completed commands printed that no client got.
	LostBytes int
	// Garbled is how many outputs are not a beginning of what was printed.
	Garbled int
	// SlowestUnknown is the longest time from a strike until a command that ran then
	// was reported as Unknown.
	SlowestUnknown time.Duration
	// Reasons counts the messages of the commands that did not complete.
	Reasons map[string]int

	examples []string
}

func (r *running) summarize() (Summary, error) {
	counts, err := r.Ledger.counts()
	if err != nil {
		return Summary{}, fmt.Errorf("read what ran: %w", err)
	}
	s := Summary{Commands: len(r.attempts), Strikes: r.strikes, Reasons: map[string]int{}}
	for i := range r.attempts {
		a := &r.attempts[i]
		s.count(a)
		s.checkRuns(a, counts[a.id])
		s.checkOutput(a)
	}
	return s, nil
}

func (s *Summary) count(a *attempt) {
	switch a.Outcome {
	case live.OutcomeCompleted:
		s.Completed++
		return
	case live.OutcomeNotStarted:
		s.NotStarted++
	default:
		s.Unknown++
	}
	s.SlowestUnknown = max(s.SlowestUnknown, a.late)
	s.Reasons[fmt.Sprintf("%s by %s: %s", a.Outcome, a.client, reasonOf(a.Err))]++
}

// reasonOf returns the message without the request ID, which differs from command to
// command.
func reasonOf(err error) string {
	text := fmt.Sprint(err)
	if before, after, found := strings.Cut(text, " of request "); found {
		_, after, _ = strings.Cut(after, " ")
		text = before + " " + after
	}
	before, _, _ := strings.Cut(text, " (request ")
	return before
}

func (s *Summary) checkRuns(a *attempt, runs int) {
	if runs > 1 {
		s.blamef(1, &s.Duplicates, a, "it ran %d times", runs)
	}
	if runs > 0 && a.Outcome == live.OutcomeNotStarted {
		s.blamef(1, &s.Phantoms, a, "it ran")
	}
	if runs == 0 && a.Outcome == live.OutcomeCompleted {
		s.blamef(1, &s.Missing, a, "it did not run")
	}
	if a.Outcome == live.OutcomeCompleted && a.ExitCode != a.exit {
		s.blamef(1, &s.WrongExits, a, "it ended with %d, not %d", a.exit, a.ExitCode)
	}
}

func (s *Summary) checkOutput(a *attempt) {
	want, got := a.output(), string(a.Output)
	switch {
	case !strings.HasPrefix(want, got):
		s.blamef(1, &s.Garbled, a, "of its output, %q... is not what it printed", got[:min(len(got), 80)])
	case a.Outcome == live.OutcomeNotStarted && got != "":
		s.blamef(1, &s.Garbled, a, "it had output")
	case a.Outcome == live.OutcomeCompleted && len(got) < len(want):
		s.blamef(len(want)-len(got), &s.LostBytes, a, "its output is %d bytes of %d", len(got), len(want))
	}
}

func (s *Summary) blamef(by int, counter *int, a *attempt, format string, arguments ...any) {
	*counter += by
	if len(s.examples) < maxExamples {
		s.examples = append(s.examples, fmt.Sprintf("%s by %s was reported as %s (%v): %s",
			a.id, a.client, a.Outcome, a.Err, fmt.Sprintf(format, arguments...)))
	}
}

// Err returns nil unless a command broke the contract.
func (s Summary) Err() error {
	if s.Duplicates+s.Phantoms+s.Missing+s.WrongExits+s.LostBytes+s.Garbled == 0 {
		return nil
	}
	return fmt.Errorf("%s; for example:\n%s", s, strings.Join(s.examples, "\n"))
}

// Failed returns how many commands did not complete.
func (s Summary) Failed() int { return s.NotStarted + s.Unknown }

// String returns the summary in one line.
func (s Summary) String() string {
	return fmt.Sprintf("%d commands, %d strikes: %d completed, %d not started, %d unknown (at most %s after a strike); "+
		"%d duplicates, %d phantoms, %d missing, %d wrong exit codes, %d bytes lost, %d outputs garbled",
		s.Commands, s.Strikes, s.Completed, s.NotStarted, s.Unknown, s.SlowestUnknown.Round(time.Millisecond),
		s.Duplicates, s.Phantoms, s.Missing, s.WrongExits, s.LostBytes, s.Garbled)
}
