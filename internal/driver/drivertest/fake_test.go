package drivertest

import (
	"context"
	"errors"
	"testing"

	"github.com/connpool/connpool/internal/driver"
)

func dialFake(t *testing.T, fake *Fake) (*FakeConn, error) {
	t.Helper()
	dialer, err := fake.Prepare(driver.Endpoint{Address: "host:22"})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dialer.Dial(t.Context())
	if err != nil {
		return nil, err
	}
	return conn.(*FakeConn), nil
}

func TestAFakeFailsToDialAsScripted(t *testing.T) {
	fake := new(Fake)
	refused := errors.New("refused")
	fake.OnDial(func(context.Context, driver.Endpoint) error { return refused })
	if _, err := dialFake(t, fake); !errors.Is(err, refused) {
		t.Errorf("error %v, want %v", err, refused)
	}
	fake.OnDial(nil)
	if _, err := dialFake(t, fake); err != nil {
		t.Error(err)
	}
	if dials, live := len(fake.Dials()), len(fake.Live()); dials != 2 || live != 1 {
		t.Errorf("%d dials, %d live, want 2 and 1", dials, live)
	}
}

func TestAKilledFakeSaysWhyAndRunsNothing(t *testing.T) {
	fake := new(Fake)
	conn, err := dialFake(t, fake)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), driver.Command{Shell: "true"}, driver.Streams{}); err != nil {
		t.Error(err)
	}
	cause := &driver.Error{Reason: driver.Timeout}
	conn.Kill(cause)
	if got := context.Cause(conn.Context()); !errors.Is(got, cause) {
		t.Errorf("cause %v, want %v", got, cause)
	}
	_, err = conn.Exec(t.Context(), driver.Command{Shell: "true"}, driver.Streams{})
	if got := driver.OutcomeOf(err); got != driver.NotStarted {
		t.Errorf("outcome %s, want %s", got, driver.NotStarted)
	}
	if len(conn.Execs()) != 1 || len(fake.Live()) != 0 {
		t.Errorf("%d commands, %d live, want 1 and 0", len(conn.Execs()), len(fake.Live()))
	}
}
