package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestOutcomeOf(t *testing.T) {
	tests := map[string]struct {
		err  error
		want Outcome
	}{
		"no error means the command completed":                   {nil, Completed},
		"a classified error before the start is proven":          {&Error{Reason: SessionLimit}, NotStarted},
		"a classified error after the start is unknown":          {&Error{Reason: Timeout, Started: true}, Unknown},
		"a wrapped classified error keeps its outcome":           {fmt.Errorf("run: %w", &Error{Reason: Timeout}), NotStarted},
		"an unclassified error proves nothing":                   {errors.New("boom"), Unknown},
		"an unclassified deadline proves nothing":                {context.DeadlineExceeded, Unknown},
		"the inner cause does not change a classified outcome":   {&Error{Err: context.Canceled}, NotStarted},
		"an outer Started wins over an inner proven not started": {&Error{Started: true, Err: &Error{}}, Unknown},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := OutcomeOf(tc.err); got != tc.want {
				t.Errorf("OutcomeOf(%v) = %s, want %s", tc.err, got, tc.want)
			}
		})
	}
}

func TestAsErrorClassifiesTheUnclassified(t *testing.T) {
	if got := AsError(fmt.Errorf("dial: %w", context.DeadlineExceeded)).Reason; got != Timeout {
		t.Errorf("deadline: reason %s, want %s", got, Timeout)
	}
	if got := AsError(errors.New("boom")).Reason; got != ProtocolError {
		t.Errorf("other: reason %s, want %s", got, ProtocolError)
	}
}

func TestAClassifiedErrorIsCopiedForEachCaller(t *testing.T) {
	shared := &Error{Reason: DNSError, Message: "no such name"}
	for range 2 {
		got := AsError(fmt.Errorf("dial: %w", shared))
		if *got != (Error{Reason: DNSError, Message: "no such name"}) {
			t.Errorf("got %+v, want a copy of %+v", got, shared)
		}
		got.Message, got.Started = "changed", true
	}
	if _, ok := Classified(errors.New("boom")); ok {
		t.Error("an unclassified error counts as classified")
	}
}

func TestTheEndOfAConnectionIsToldToEachCaller(t *testing.T) {
	cause := &Error{Reason: Timeout, Stage: StageKeepalive, Message: "no sign of life", RetryAfter: time.Second}
	got := Ended(cause, "host:22", StageRun, true)
	if want := (Error{Reason: Timeout, Stage: StageRun, Message: "no sign of life", Started: true, Err: cause}); *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	got = Ended(context.Canceled, "host:22", StageSession, false)
	if got.Reason != Unreachable || got.Message != "the connection to host:22 was closed" || got.Started {
		t.Errorf("after Close: %+v", *got)
	}
}

func TestSanitize(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"plain words stay":                    {"Permission denied", "Permission denied"},
		"lines become one":                    {"a\r\nb\tc", "a b c"},
		"escape sequences lose their escape":  {"\x1b[31mred\x1b[0m", "[31mred[0m"},
		"right-to-left overrides are removed": {"a\u202eb", "ab"},
		"invalid UTF-8 is removed":            {"a\xffb", "ab"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Sanitize(tc.in); got != tc.want {
				t.Errorf("Sanitize(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add("ssh: \x00\x1b]0;title\x07")
	f.Add(strings.Repeat("é", 300))
	f.Fuzz(func(t *testing.T, in string) {
		got := Sanitize(in)
		if len(got) > maxRemoteWords {
			t.Errorf("%d bytes, want at most %d", len(got), maxRemoteWords)
		}
		if !utf8.ValidString(got) {
			t.Errorf("invalid UTF-8: %q", got)
		}
		if strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("control character in %q", got)
		}
	})
}

func TestAFailureToStartIsSaidOnce(t *testing.T) {
	for stage, want := range map[Stage]string{StageStart: "there is no container x", StageConnect: "connect: there is no container x"} {
		if got := (&Error{Stage: stage, Message: "there is no container x"}).Error(); got != want {
			t.Errorf("%s: %q", stage, got)
		}
	}
}

func TestClassesOfReasons(t *testing.T) {
	for reason, class := range classes {
		if class.permanent && class.transient {
			t.Errorf("%s is permanent and transient", reason)
		}
	}
	for name, tc := range map[string]struct {
		err  Error
		want bool
	}{
		"another host key":                       {Error{Reason: HostKeyMismatch, Stage: StageHostKey}, true},
		"a certificate that the server presents": {Error{Reason: CertificateInvalid, Stage: StageTLS}, true},
		"a certificate of the operator's own":    {Error{Reason: CertificateInvalid, Stage: StagePrepare}, false},
		"refused credentials":                    {Error{Reason: AuthenticationFailed}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.err.AboutIdentity(); got != tc.want {
				t.Errorf("about identity: %t, want %t", got, tc.want)
			}
		})
	}
}
