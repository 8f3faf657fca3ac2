package road

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/connpool/connpool/client/direct"
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
		Memory: Memory{Folder: filepath.Join(t.TempDir(), "roads"), Now: func() time.Time { return e.now }},
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
	e.Memory.remember(config, found{Address: directway.ServiceName + ":443", Authority: e.KubeAuthority()})
	e.want(t, "with the authority of before", "a", true, 2)
}

func TestUsersAndClustersShareNothing(t *testing.T) {
	folder := t.TempDir()
	m := Memory{Folder: folder}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	configs := map[string]*rest.Config{
		"no user":             {Host: "https://a"},
		"another cluster":     {Host: "https://b"},
		"another path":        {Host: "https://a", APIPath: "/x"},
		"another authority":   {Host: "https://a", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("ca")}},
		"a token":             {Host: "https://a", BearerToken: "t"},
		"another token":       {Host: "https://a", BearerToken: "u"},
		"a token in a file":   {Host: "https://a", BearerTokenFile: token},
		"a password":          {Host: "https://a", Username: "u", Password: "p"},
		"a certificate":       {Host: "https://a", TLSClientConfig: rest.TLSClientConfig{CertData: []byte("c"), KeyData: []byte("k")}},
		"another key":         {Host: "https://a", TLSClientConfig: rest.TLSClientConfig{CertData: []byte("c"), KeyData: []byte("l")}},
		"a program":           {Host: "https://a", ExecProvider: &clientcmdapi.ExecConfig{Command: "login"}},
		"the same for others": {Host: "https://a", ExecProvider: &clientcmdapi.ExecConfig{Command: "login", Args: []string{"--as=bob"}}},
		"a provider":          {Host: "https://a", AuthProvider: &clientcmdapi.AuthProviderConfig{Name: "oidc"}},
		"another user's name": {Host: "https://a", Impersonate: rest.ImpersonationConfig{UserName: "bob"}},
	}
	paths := map[string]string{}
	for name, config := range configs {
		path := m.path(config)
		if other, ok := paths[path]; ok || path == "" {
			t.Errorf("%s and %s have the file %q", name, other, path)
		}
		paths[path] = name
	}
	before := m.path(configs["a token in a file"])
	if err := os.WriteFile(token, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m.path(configs["a token in a file"]) == before {
		t.Error("the file is the same with another token")
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

func TestADamagedMemoryIsNoneAtAll(t *testing.T) {
	damages := map[string]func(t *testing.T, path string){
		"cut in the middle": func(t *testing.T, path string) {
			t.Helper()
			if err := os.Truncate(path, 20); err != nil {
				t.Fatal(err)
			}
		},
		"empty": func(t *testing.T, path string) { t.Helper(); write(t, path, "") },
		"without an authority": func(t *testing.T, path string) {
			t.Helper()
			write(t, path, `{"at":"`+time.Now().Format(time.RFC3339)+`","address":"evil:443"}`)
		},
		"from the future": func(t *testing.T, path string) {
			t.Helper()
			write(t, path, `{"at":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`","why":"no way"}`)
		},
		"writable by others": func(t *testing.T, path string) {
			t.Helper()
			write(t, path, `{"at":"`+time.Now().Format(time.RFC3339Nano)+`","why":"no way"}`)
			if err := os.Chmod(path, 0o666); err != nil {
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T, path string) {
			t.Helper()
			if err := os.Rename(path, path+".real"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			e := start(t)
			e.want(t, "at first", "a", true, 2)
			damage(t, e.Memory.path(e.Config("a")))
			e.want(t, "with the damaged file", "a", true, 2)
			e.want(t, "after that", "a", true, 0)
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheMemoryIsForItsOwnerAndHasNoCredentials(t *testing.T) {
	e := start(t)
	e.want(t, "at first", "very-secret", true, 2)
	e.want(t, "another token", "other-secret", true, 2)
	if info, err := os.Stat(e.Memory.Folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
	entries, err := os.ReadDir(e.Memory.Folder)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, entry := range entries {
		path := filepath.Join(e.Memory.Folder, entry.Name())
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(text), "secret") {
			t.Errorf("%s, %v", text, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

func TestOldFilesAreRemoved(t *testing.T) {
	e := start(t)
	e.want(t, "an old token", "a", true, 2)
	e.now = e.now.Add(2 * maxAge)
	e.want(t, "a new token", "b", true, 2)
	entries, err := os.ReadDir(e.Memory.Folder)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestWithoutAFolderItIsLookedUpEachTime(t *testing.T) {
	e := start(t)
	e.Memory = Memory{}
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
