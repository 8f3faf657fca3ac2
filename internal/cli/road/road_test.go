package road

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/client/direct"
	"github.com/connpool/connpool/internal/cli/memory"
	"github.com/connpool/connpool/test/directway"
)

// env is a chooser with a memory of its own, whose time stands still.
type env struct {
	*directway.Fixture
	Chooser

	now time.Time
}

func start(t *testing.T) *env {
	t.Helper()
	e := &env{Fixture: directway.Start(t), now: time.Now()}
	e.Chooser = Chooser{
		Mode: Auto, Finder: direct.Finder{Dial: e.Dial},
		Memory: memory.Memory{
			Folder: filepath.Join(t.TempDir(), "roads"), MaxAge: maxAge, Now: func() time.Time { return e.now },
		},
	}
	return e
}

// choose chooses, and returns whether the way is direct and how many requests that took.
func (e *env) choose(t *testing.T, token string) (isDirect bool, requests int) {
	t.Helper()
	e.Requests()
	chosen, err := e.Choose(t.Context(), e.Config(token))
	if err != nil {
		t.Fatal(err)
	}
	if at := strings.TrimPrefix(chosen.Config.Host, "https://"); chosen.IsDirect != (at == directway.ServiceName+":443") {
		t.Errorf("direct: %t, at %s", chosen.IsDirect, at)
	}
	return chosen.IsDirect, len(e.Requests())
}

func (e *env) want(t *testing.T, when, token string, isDirect bool, requests int) {
	t.Helper()
	if is, asked := e.choose(t, token); is != isDirect || asked != requests {
		t.Errorf("%s: direct: %t after %d requests, want %t after %d", when, is, asked, isDirect, requests)
	}
}

func TestWhatWorkedIsRemembered(t *testing.T) {
	e := start(t)
	e.want(t, "at first", "a", true, 2)
	e.want(t, "later", "a", true, 0)
	e.now = e.now.Add(maxAge)
	e.want(t, "much later", "a", true, 2)
}

func TestWhatDoesNotWorkIsRemembered(t *testing.T) {
	e := start(t)
	e.Forbidden = true
	e.want(t, "at first", "a", false, 1)
	e.Forbidden = false
	e.want(t, "later", "a", false, 0)
	e.Anew = true
	e.want(t, "if it is to look anew", "a", true, 2)
	e.Anew = false
	e.want(t, "after that", "a", true, 0)
}

func TestAWayThatWorkedBeforeAndIsGoneIsLeftBeforeAnythingIsSent(t *testing.T) {
	e := start(t)
	e.want(t, "at first", "a", true, 2)
	e.Refused = true
	e.want(t, "when it is refused", "a", false, 1)
	e.want(t, "after that", "a", false, 0)
}

func TestANewAuthorityIsLookedUp(t *testing.T) {
	e := start(t)
	config := e.Config("a")
	e.Memory.Remember(config, found{Address: directway.ServiceName + ":443", Authority: e.KubeAuthority()})
	e.want(t, "with the authority of before", "a", true, 2)
}

func TestAnAddressWithoutItsAuthorityIsNotBelieved(t *testing.T) {
	e := start(t)
	for name, damaged := range map[string]found{"without an authority": {Address: "evil:443"}, "without anything": {}} {
		e.Memory.Remember(e.Config("a"), damaged)
		e.want(t, name, "a", true, 2)
	}
}

func TestTheMemoryHasNoCredentials(t *testing.T) {
	e := start(t)
	e.want(t, "at first", "very-secret", true, 2)
	entries, err := os.ReadDir(e.Memory.Folder)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	text, err := os.ReadFile(filepath.Join(e.Memory.Folder, entries[0].Name()))
	if err != nil || strings.Contains(string(text)+entries[0].Name(), "secret") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestAnotherUserOfTheSameMachineIsAskedAnew(t *testing.T) {
	e := start(t)
	e.want(t, "alice", "a", true, 2)
	e.want(t, "bob", "b", true, 2)
	e.Unauthorized = true
	e.want(t, "carol, whom the operator does not know", "c", false, 2)
	e.want(t, "alice again", "a", true, 0)
}

func TestWithoutAFolderItIsLookedUpEachTime(t *testing.T) {
	e := start(t)
	e.Memory = memory.Memory{}
	e.want(t, "at first", "a", true, 2)
	e.want(t, "later", "a", true, 2)
}

func TestModes(t *testing.T) {
	e := start(t)
	e.Mode = Never
	e.want(t, "never", "a", false, 0)
	e.Mode, e.Refused = Always, true
	if chosen, err := e.Choose(t.Context(), e.Config("a")); err == nil {
		t.Errorf("chosen: %s", chosen)
	}
	e.Refused = false
	e.want(t, "always, although it did not work before", "a", true, 2)

	var mode Mode
	got := map[string]bool{}
	for _, text := range append([]string{"", "Always", "yes"}, Modes...) {
		got[text] = mode.Set(text) == nil
	}
	want := map[string]bool{"": false, "Always": false, "yes": false, "auto": true, "never": true, "always": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
