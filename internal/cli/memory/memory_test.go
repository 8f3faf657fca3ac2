package memory

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func TestUsersAndClustersShareNothing(t *testing.T) {
	folder := t.TempDir()
	m := Memory{Folder: folder, MaxAge: time.Hour}
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

// env is a memory whose time stands still.
type env struct {
	Memory

	now time.Time
}

func start(t *testing.T) *env {
	t.Helper()
	e := &env{now: time.Now()}
	e.Memory = Memory{Folder: filepath.Join(t.TempDir(), "some", "folder"), MaxAge: time.Minute, Now: func() time.Time { return e.now }}
	return e
}

func user(token string) *rest.Config { return &rest.Config{Host: "https://a", BearerToken: token} }

// want checks what is remembered for the user alice.
func (e *env) want(t *testing.T, when, want string) {
	t.Helper()
	var got string
	if ok := e.Recall(user("alice"), &got); got != want || ok != (want != "") {
		t.Errorf("%s: %q, %t, want %q", when, got, ok, want)
	}
}

func TestWhatIsRememberedIsBelievedForItsTime(t *testing.T) {
	e := start(t)
	e.want(t, "at first", "")
	e.Remember(user("bob"), "bob's")
	e.want(t, "what is for another user", "")
	e.Remember(user("alice"), "old")
	e.Remember(user("alice"), "new")
	e.want(t, "what is remembered last", "new")
	e.Also = []string{"AWS_PROFILE=other"}
	e.want(t, "in another environment", "")
	e.Also = nil
	e.now = e.now.Add(time.Minute)
	e.want(t, "when it is old", "")
	e.now = e.now.Add(-time.Minute)
	e.Forget(user("alice"))
	e.want(t, "what was forgotten", "")
}

func TestADamagedFileIsNoneAtAll(t *testing.T) {
	damages := map[string]func(path, other string) error{
		"cut in the middle":             func(path, _ string) error { return os.Truncate(path, 20) },
		"empty":                         func(path, _ string) error { return os.Truncate(path, 0) },
		"writable by others":            func(path, _ string) error { return os.Chmod(path, 0o666) },
		"readable by others":            func(path, _ string) error { return os.Chmod(path, 0o640) },
		"that of another user, renamed": func(path, other string) error { return os.Rename(other, path) },
		"a link": func(path, _ string) error {
			if err := os.Rename(path, path+".real"); err != nil {
				return err
			}
			return os.Symlink(path+".real", path)
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			e := start(t)
			e.Remember(user("alice"), "alice's")
			e.Remember(user("bob"), "bob's")
			e.want(t, "before", "alice's")
			if err := damage(e.path(user("alice")), e.path(user("bob"))); err != nil {
				t.Fatal(err)
			}
			e.want(t, "with the damaged file", "")
			e.Remember(user("alice"), "new")
			e.want(t, "after that", "new")
		})
	}
}

func TestWhatIsFromTheFutureIsNotBelieved(t *testing.T) {
	e := start(t)
	e.now = e.now.Add(time.Hour)
	e.Remember(user("alice"), "from the future")
	e.now = e.now.Add(-time.Hour)
	e.want(t, "an hour before", "")
}

func TestFilesAreForTheirOwner(t *testing.T) {
	e := start(t)
	e.Remember(user("very-secret"), "something")
	if info, err := os.Stat(e.Folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
	if info, err := os.Stat(e.path(user("very-secret"))); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
}

func TestOldFilesAreRemoved(t *testing.T) {
	e := start(t)
	e.Remember(user("alice"), "old")
	e.now = e.now.Add(2 * time.Minute)
	e.Remember(user("bob"), "new")
	entries, err := os.ReadDir(e.Folder)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
