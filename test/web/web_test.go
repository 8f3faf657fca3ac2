package web

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connpool/connpool/api/v1alpha1"
)

// patience bounds one program. On a quiet machine each takes some seconds.
const patience = 3 * time.Minute

// drive serves the page of a scene and runs one of the programs beside this file on it.
// The program asks for changes by name, and what it reports is read into found.
func (s *scene) drive(t *testing.T, program string, changes map[string]func(), found any) {
	t.Helper()
	installed(t)
	printed, stop := s.Start("web")
	stopped := make(chan struct{})
	end := func() {
		select {
		case <-stopped:
		default:
			close(stopped)
			stop()
		}
	}
	defer end()
	printed.Next("until Ctrl-C at")
	printed.Next("")
	link := strings.TrimSpace(printed.Next("http://127.0.0.1:"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, read := range []string{program, "browser.mjs"} { // go test runs again when they have changed
		if _, err := os.ReadFile(read); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(ctx, "node", program, link)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	reported := false
	for lines.Scan() {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		switch {
		case kind == "report":
			reported = json.Unmarshal([]byte(rest), found) == nil
		case kind == "change" && rest == "stop":
			end()
		case kind == "change":
			changes[rest]()
		default:
			t.Log(lines.Text())
		}
	}
	if err := command.Wait(); err != nil || !reported {
		t.Fatalf("%s: %v; reported: %v", program, err, reported)
	}
}

// installed makes sure that the packages of npm are there.
func installed(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("node_modules"); err == nil {
		return
	}
	output, err := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund").CombinedOutput()
	if err != nil {
		t.Fatalf("npm ci: %v\n%s", err, output)
	}
}

// hostileWords are what a server may say.
const hostileWords = `<img src=x onerror="globalThis.injected=1"><script>globalThis.injected=2</script> ` + "\x1b[31m The key has changed."

func TestThePageIsUsedWithTheMouse(t *testing.T) {
	s := onCall(t)
	var found struct {
		Steps, Attention, Rows, Detail, Filtered, Foreign, Console []string
		Squares                                                    int
		Levels                                                     map[string]int
		Title, Tip, Hash, Selected, Sentence, Hostile, Hint        string
		Banner                                                     string
		Injected                                                   []any
	}
	s.drive(t, "mouse.mjs", map[string]func(){
		"recover": func() { s.Change(func() { s.replaceTargets(); s.recover("web-07") }) },
		"fail": func() {
			s.Change(func() { s.replaceTargets(); s.fail("build-02", v1alpha1.ReasonHostKeyMismatch, hostileWords) })
		},
		"expire": func() { s.Expired.Store(true) },
		"renew":  func() { s.Expired.Store(false) },
	}, &found)
	steps := []string{
		"shows a target", "shows a failing target", "keeps the target in the address", "closes it", "filters",
		"sees a recovery", "sees a failure", "says what is stale, and when it is not", "says that the command has ended",
	}
	same(t, "steps", steps, found.Steps)
	same(t, "title", "(4) connpool · it / shop", found.Title)
	same(t, "pools", []string{"build", "clusters", "db", "edge", "web"}, found.Rows)
	same(t, "levels", map[string]int{"ready": 44, "failing": 3, "warning": 1, "warming": 1}, found.Levels)
	same(t, "squares", 49, found.Squares)
	if len(found.Attention) != 3 || !strings.Contains(found.Attention[0], "edge-03") || !strings.Contains(found.Attention[0], "edge-19") ||
		!strings.Contains(found.Attention[0], unreachable) {
		t.Errorf("needs attention: %q, want the two that are unreachable as one, with the sentence", found.Attention)
	}
	same(t, "hash", "#/shop/web/web-03", found.Hash)
	same(t, "connections", 2, len(found.Detail))
	if !strings.HasPrefix(found.Tip, "web-03, Ready, ") || !strings.HasPrefix(found.Selected, "web-03, Ready, ") {
		t.Errorf("the words of a square are %q and %q", found.Tip, found.Selected)
	}
	if !strings.Contains(found.Sentence, "authorized_keys") || !strings.Contains(found.Hint, "renew the credentials") {
		t.Errorf("the next steps are %q and %q", found.Sentence, found.Hint)
	}
	same(t, "filtered", []string{"edge-03", "edge-19"}, found.Filtered)
	same(t, "banner at the end", "", found.Banner)
	if !strings.HasPrefix(found.Hostile, "<img src=x") || strings.Contains(found.Hostile, "\x1b") {
		t.Errorf("hostile words are shown as %q", found.Hostile)
	}
	same(t, "injected", []any{nil, 0.0}, found.Injected)
	same(t, "requests to others", []string{}, found.Foreign)
	same(t, "console", []string{}, found.Console)
}

func TestThePageIsUsedWithTheKeyboard(t *testing.T) {
	var found struct {
		First, Slash, FilterAfterEscape, Outline, Tip, Entered, Back, Space string
		Stops, Moves, Console                                               []string
		DetailHidden                                                        bool
		Overflow                                                            int
	}
	onCall(t).drive(t, "keyboard.mjs", nil, &found)
	same(t, "first stop", "Skip to the pools", found.First)
	same(t, "slash", "filter", found.Slash)
	same(t, "filter after Escape", "", found.FilterAfterEscape)
	same(t, "stops", []string{
		"edge-03", "edge-19", "web-07", "db-02", "build-00", "clusters-00", "db-00", "edge-00", "web-00",
	}, found.Stops)
	same(t, "moves", []string{
		"ArrowRight build-01", "ArrowRight build-02", "ArrowLeft build-01", "End build-05", "ArrowRight clusters-00",
		"ArrowLeft build-05", "Home build-00", "ArrowDown clusters-00", "ArrowDown db-00", "ArrowUp clusters-00",
	}, found.Moves)
	if found.Outline == "none" || !strings.HasPrefix(found.Tip, "clusters-00, ") {
		t.Errorf("the focus is not seen: outline %s, words %q", found.Outline, found.Tip)
	}
	same(t, "Enter", "clusters-00", found.Entered)
	same(t, "Escape", "clusters-00", found.Back)
	same(t, "the details are hidden", true, found.DetailHidden)
	same(t, "Space", "clusters-00", found.Space)
	same(t, "cut off at twice the size", 0, found.Overflow)
	same(t, "console", []string{}, found.Console)
}

func TestThePageHasNoObstacles(t *testing.T) {
	s := onCall(t)
	var found struct {
		Checked    int
		Violations []string
	}
	s.drive(t, "obstacles.mjs", map[string]func(){
		"deny": func() { s.Change(func() { s.Denied["list live.connpool.dev/sessions"] = true }) },
	}, &found)
	same(t, "findings of axe-core", []string{}, found.Violations)
	if found.Checked == 0 {
		t.Error("axe-core has looked at nothing")
	}
}

func TestThePageIsQuickWithAThousandTargets(t *testing.T) {
	s := thousand(t)
	var found struct {
		Squares, Updates, Requests, StateBytes, RequestsWhileHidden        int
		FirstPaint, FirstPools, TaskMillisPerUpdate                        float64
		ScriptMillisPerUpdate, StyleMillisPerUpdate, LayoutMillisPerUpdate float64
		LongestUpdateMillis, RequestsPerSecond                             float64
		ShortestPauseMillis, Seconds                                       float64
		Down, Matches                                                      string
	}
	step := 0
	s.drive(t, "thousand.mjs", map[string]func(){
		"busy":      func() { step++; s.busy(step) },
		"unwatched": func() { s.AwaitWatches(0) },
	}, &found)
	t.Logf("%+v", found)
	same(t, "squares", 1000, found.Squares)
	same(t, "matches", "100 targets", found.Matches)
	same(t, "requests while hidden", 0, found.RequestsWhileHidden)
	if found.Down == "" || strings.HasPrefix(found.Down, "rack-00") {
		t.Errorf("30 lines down is %q", found.Down)
	}
	// A timer of the browser may be a little early, but a second is a second.
	if found.ShortestPauseMillis < 900 || found.Updates == 0 {
		t.Errorf("asks after %.0f ms, %d updates", found.ShortestPauseMillis, found.Updates)
	}
	// The figures are for people. These bounds only say that it is not hopeless.
	if found.FirstPaint > 20_000 || found.TaskMillisPerUpdate > 2_000 {
		t.Errorf("first paint after %.0f ms, %.0f ms of the main thread for an update", found.FirstPaint, found.TaskMillisPerUpdate)
	}
}

func same[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
