package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/quota"
)

// Many outputs together are bounded, too. What is beyond the bound is dropped, and the
// commands go on. Another namespace still has its share.
func TestOutputOfOneNamespaceIsBoundedAndLeavesThatOfOthers(t *testing.T) {
	const small = 32 << 20
	held := quota.New(quota.Of(small, 1.0/8))
	long := make([]byte, live.MaxExecOutputBytes)
	var all []*Output
	whole := 0
	for n := range 100 {
		out := New(held, quota.Owner{Namespace: "team", User: fmt.Sprint("robot ", n)}, live.MaxExecOutputBytes)
		_, _ = out.Stdout().Write(long)
		_, _ = out.Stderr().Write(long)
		whole += out.stdout.kept.Len() + out.stderr.kept.Len()
		all = append(all, out)
	}
	if whole > small/2/Cost || whole < small/4/Cost {
		t.Errorf("%d bytes of one namespace are kept", whole)
	}
	other := New(held, quota.Owner{Namespace: "kube-system", User: "admin"}, live.MaxExecOutputBytes)
	_, _ = other.Stdout().Write(long)
	if other.stdout.truncated {
		t.Error("the output in another namespace is cut")
	}
	for _, out := range append(all, other) {
		out.Release()
	}
	for n := range 8 { // each namespace has an eighth, and each user may take it
		name := fmt.Sprint("frank ", n)
		if held.Take(quota.Owner{Namespace: name, User: name}, small/8) != quota.Free {
			t.Error("some bytes are left")
		}
	}
}

func TestOutputIsCutAtItsBound(t *testing.T) {
	out := New(quota.New(quota.Bounds{}), quota.Owner{}, 4)
	_, _ = out.Stdout().Write([]byte("abcdef"))
	_, _ = out.Stderr().Write([]byte("abcd"))
	status := new(live.ExecStatus)
	if out.PutInto(status); status.Stdout != "abcd" || status.Stderr != "abcd" || !status.Truncated {
		t.Errorf("the result is %+v", status)
	}
}

func TestTheLengthOfTextInJSONIsKnown(t *testing.T) {
	for _, text := range []string{"plain\n", "<b>&amp;</b>", `"\\`, "\x00\b\f\r\t", "\x1b[32mok\x1b[0m", strings.Repeat("ä", 10)} {
		var encoded bytes.Buffer
		encoder := json.NewEncoder(&encoded)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(text); err != nil {
			t.Fatal(err)
		}
		if want := encoded.Len() - len("\"\"\n"); jsonLength(text) != want {
			t.Errorf("%q takes %d bytes, want %d", text, jsonLength(text), want)
		}
	}
}
