package idempotency

import (
	"encoding/json"

	live "github.com/connpool/connpool/api/live/v1alpha1"
)

// kept is a result in the form in which it takes least: what it says as JSON, and the
// output beside that, if there is any.
type kept struct {
	said   string
	output *output
}

// output is what a command has written.
type output struct {
	stdout, stderr           string
	stdoutBytes, stderrBytes []byte
}

// keep returns the form in which a result is kept.
func keep(status *live.ExecStatus) kept {
	said := *status
	said.Stdout, said.StdoutBytes, said.Stderr, said.StderrBytes = "", nil, "", nil
	text, _ := json.Marshal(&said) //nolint:errchkjson // words and numbers always have a JSON
	k := kept{said: string(text)}
	if len(status.Stdout)+len(status.StdoutBytes)+len(status.Stderr)+len(status.StderrBytes) > 0 {
		k.output = &output{status.Stdout, status.Stderr, status.StdoutBytes, status.StderrBytes}
	}
	return k
}

// bytes is how much memory it takes.
func (k kept) bytes() int64 {
	size := len(k.said)
	if o := k.output; o != nil {
		size += outputOverhead + len(o.stdout) + len(o.stdoutBytes) + len(o.stderr) + len(o.stderrBytes)
	}
	return int64(size)
}

// outputOverhead is what output takes beside its bytes.
const outputOverhead = 128

// status returns the result that was kept.
func (k kept) status() *live.ExecStatus {
	status := new(live.ExecStatus)
	_ = json.Unmarshal([]byte(k.said), status)
	if o := k.output; o != nil {
		status.Stdout, status.StdoutBytes, status.Stderr, status.StderrBytes = o.stdout, o.stdoutBytes, o.stderr, o.stderrBytes
	}
	return status
}
