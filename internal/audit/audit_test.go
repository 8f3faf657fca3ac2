package audit_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/connpool/connpool/internal/audit"
)

// line returns the line that the operator's logger writes about a user.
func line(user string) string {
	var log bytes.Buffer
	zap.New(zap.WriteTo(&log)).Info("use started", "user", audit.Exact(user), "command", audit.Words([]string{"echo", user}))
	return log.String()
}

func TestWordsOfOthersAreWrittenAsTheyAre(t *testing.T) {
	long := strings.Repeat("a", 5000)
	for name, test := range map[string]struct{ user, text string }{
		"a plain name":               {"system:serviceaccount:team:web", `"system:serviceaccount:team:web"`},
		"a character without form":   {"adm\u200bin", `"adm\u200bin"`},
		"a letter of another script": {"\u0430dmin", `"\u0430dmin"`},
		"the direction of writing":   {"nimda\u202e", `"nimda\u202e"`},
		"escapes of a terminal":      {"a\x1b[2K\r\n\x7f", `"a\u001b[2K\u000d\u000a\u007f"`},
		"quotes and backslashes":     {`a","user":"b\u0061`, `"a\",\"user\":\"b\\u0061"`},
		"beyond 16 bits":             {"\U0001f600", `"\ud83d\ude00"`},
		"spaces":                     {" a  b ", `" a  b "`},
		"signs of HTML":              {"<&>", `"<&>"`},
		"many characters":            {long, `"` + long + `"`},
		"none":                       {"", `""`},
	} {
		t.Run(name, func(t *testing.T) {
			text := line(test.user)
			if !strings.Contains(text, `"user":`+test.text+`,"command":["echo",`+test.text+`]`) {
				t.Errorf("the line is %s", text)
			}
			var read struct {
				User    string
				Command []string
			}
			if err := json.Unmarshal([]byte(text), &read); err != nil || read.User != test.user || read.Command[1] != test.user {
				t.Errorf("a reader of JSON gets %q and %q (%v), want %q", read.User, read.Command, err, test.user)
			}
		})
	}
}

func TestALongNameIsCut(t *testing.T) {
	for name, test := range map[string]struct{ given, want string }{
		"a name":                        {"web-1\u200b", "web-1\u200b"},
		"the longest":                   {strings.Repeat("a", 256), strings.Repeat("a", 256)},
		"one that is none":              {strings.Repeat("a", 1<<20), strings.Repeat("a", 256) + "..."},
		"not in the middle of a letter": {strings.Repeat("a", 255) + "\u00e9\u00e9", strings.Repeat("a", 255) + "..."},
	} {
		t.Run(name, func(t *testing.T) {
			if got := audit.Name(test.given); string(got) != test.want {
				t.Errorf("%q", got)
			}
		})
	}
}
