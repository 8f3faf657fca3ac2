package login

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// env is a server that takes one token, and a program that prints one.
type env struct {
	*httptest.Server

	takes  atomic.Value
	folder string
	asks   int // a number for each run, because client-go keeps tokens within a process
}

func start(t *testing.T) *env {
	t.Helper()
	e := &env{folder: t.TempDir()}
	e.takes.Store("one")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(e.folder, "cache"))
	t.Setenv(Variable, "5m")
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.Header.Get("Authorization") != fmt.Sprint("Bearer ", e.takes.Load()) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(e.Close)
	script := "#!/bin/sh\necho asked >>" + e.folder + "/asked\n" +
		`echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"'$(cat ` + e.folder + `/token)'"}}'` + "\n"
	e.write(t, "program", script, 0o700)
	e.write(t, "token", "one", 0o600)
	return e
}

func (e *env) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(e.folder, name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// login is another user from now on.
func (e *env) login(t *testing.T, token string) {
	t.Helper()
	e.takes.Store(token)
	e.write(t, "token", token, 0o600)
}

// run sends a request as a run of the plugin does, and returns its status and how often
// the program was asked.
func (e *env) run(t *testing.T, method, body string) (status, asked int) {
	t.Helper()
	e.asks++
	config := &rest.Config{Host: e.URL, ExecProvider: &clientcmdapi.ExecConfig{
		Command: e.folder + "/program", APIVersion: "client.authentication.k8s.io/v1",
		InteractiveMode: clientcmdapi.NeverExecInteractiveMode, StdinUnavailableMessage: strconv.Itoa(e.asks),
	}}
	if err := Share(config); err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), method, e.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	text, err := os.ReadFile(e.folder + "/asked")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return response.StatusCode, strings.Count(string(text), "asked")
}

func (e *env) want(t *testing.T, when string, status, asked int) {
	t.Helper()
	if gotStatus, gotAsked := e.run(t, http.MethodGet, ""); gotStatus != status || gotAsked != asked {
		t.Errorf("%s: status %d, asked %d times, want %d and %d", when, gotStatus, gotAsked, status, asked)
	}
}

func TestRunsShareTheTokenOfAProgram(t *testing.T) {
	e := start(t)
	e.want(t, "the first run", http.StatusOK, 1)
	e.want(t, "the second run", http.StatusOK, 1)
	t.Setenv("AWS_PROFILE", "other")
	e.want(t, "in another environment", http.StatusOK, 2)
	e.want(t, "there again", http.StatusOK, 2)
}

func TestATokenIsNotSharedUnlessTheUserAsksForIt(t *testing.T) {
	e := start(t)
	for runs, value := range []string{"", "0s"} {
		t.Setenv(Variable, value)
		e.want(t, value, http.StatusOK, 2*runs+1)
		e.want(t, value, http.StatusOK, 2*runs+2)
	}
	if entries, _ := filepath.Glob(e.folder + "/cache/connpool/tokens/*"); len(entries) > 0 {
		t.Errorf("kept: %v", entries)
	}
}

func TestATokenThatIsNoLongerTakenIsReplacedAndTheRequestSentAgain(t *testing.T) {
	e := start(t)
	e.want(t, "the first run", http.StatusOK, 1)
	e.login(t, "two")
	e.want(t, "after another login", http.StatusOK, 2)
	e.want(t, "after that", http.StatusOK, 2)
	e.takes.Store("three")
	e.want(t, "when the program is wrong, too, which client-go asks twice then", http.StatusUnauthorized, 4)
}

func TestARequestWithABodyIsNotSentAgain(t *testing.T) {
	e := start(t)
	e.want(t, "the first run", http.StatusOK, 1)
	e.login(t, "two")
	if status, asked := e.run(t, http.MethodPost, "{}"); status != http.StatusUnauthorized || asked != 1 {
		t.Errorf("status %d, asked %d times", status, asked)
	}
	if status, asked := e.run(t, http.MethodPost, "{}"); status != http.StatusOK || asked != 2 {
		t.Errorf("the next one: status %d, asked %d times", status, asked)
	}
}

func TestTheFileOfATokenIsForItsOwner(t *testing.T) {
	e := start(t)
	e.want(t, "the first run", http.StatusOK, 1)
	files, err := filepath.Glob(e.folder + "/cache/connpool/tokens/*")
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	for path, mode := range map[string]os.FileMode{files[0]: 0o600, filepath.Dir(files[0]): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

func TestTheVariableIsADurationWithinBounds(t *testing.T) {
	for value, ok := range map[string]bool{"": true, "0s": true, "15m": true, "16m": false, "-1s": false, "yes": false} {
		t.Setenv(Variable, value)
		if err := Share(&rest.Config{}); (err == nil) != ok {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestATokenThatTheUserNamesIsUsed(t *testing.T) {
	e := start(t)
	e.want(t, "the first run", http.StatusOK, 1)
	config := &rest.Config{Host: e.URL, BearerToken: "named", ExecProvider: &clientcmdapi.ExecConfig{Command: "program"}}
	if err := Share(config); err != nil || config.BearerToken != "named" || config.WrapTransport != nil {
		t.Errorf("%v, %s", err, config.BearerToken)
	}
}
