package ssh

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/internal/driver"
)

func TestCommandsBecomeRequests(t *testing.T) {
	tests := map[string]struct {
		command driver.Command
		want    request
	}{
		"arguments are quoted, each":      {driver.Command{Argv: []string{"echo", "it's", ""}}, request{"exec", payload(`'echo' 'it'\''s' ''`)}},
		"a shell line is left alone":      {driver.Command{Shell: "echo $HOME"}, request{"exec", payload("echo $HOME")}},
		"a subsystem is asked for":        {driver.Command{Subsystem: "sftp"}, request{"subsystem", payload("sftp")}},
		"nothing at all is a login shell": {driver.Command{}, request{kind: "shell"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := newRequest(tc.command)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(request{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
