package exit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
)

func TestGoWordsDoNotReachAPerson(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{&url.Error{Op: "Get", URL: "https://cluster/apis", Err: context.Canceled}, Interrupted},
		{&url.Error{Op: "Get", URL: "https://cluster/apis", Err: context.DeadlineExceeded}, Failed},
		{fmt.Errorf("read the answer: %w", io.ErrUnexpectedEOF), Failed},
		{fmt.Errorf("read the answer: %w", io.EOF), Failed},
		{errors.New("context deadline exceeded (Client.Timeout exceeded while awaiting headers)"), Failed},
		{io.ErrClosedPipe, Failed},
		{WithError(Unknown, context.Canceled), Unknown},
	} {
		var out bytes.Buffer
		if code := Report(&out, c.err, Failed); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, code, c.code)
		}
		for _, word := range []string{"context", "EOF", "Client.Timeout", "closed pipe"} {
			if strings.Contains(out.String(), word) {
				t.Errorf("%q is in %q", word, &out)
			}
		}
	}
}
