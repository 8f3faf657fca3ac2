package web

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/cli/clitest"
	"github.com/connpool/connpool/internal/cli/web/shown"
)

// visitor is a browser that has opened the link.
type visitor struct {
	*testing.T

	client http.Client
	home   string
}

// visit starts the command and opens its link.
func visit(t *testing.T, f *clitest.Fixture, arguments ...string) (v *visitor, stop func() int) {
	t.Helper()
	printed, end := f.Start(append([]string{"web"}, arguments...)...)
	stop = sync.OnceValue(end)
	t.Cleanup(func() { stop() })
	printed.Next("until Ctrl-C at")
	printed.Next("")
	return open(t, strings.TrimSpace(printed.Next("http://127.0.0.1:"))), stop
}

func open(t *testing.T, link string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{T: t, client: http.Client{Jar: jar}}
	code, body := v.get(link)
	home := regexp.MustCompile(`url=(/\w+/)`).FindStringSubmatch(body)
	if code != http.StatusOK || home == nil {
		t.Fatalf("the link answers %d: %s", code, body)
	}
	address, _, _ := strings.Cut(link, "/?")
	v.home = address + home[1]
	return v
}

func (v *visitor) get(address string) (code int, body string) {
	v.Helper()
	request, err := http.NewRequestWithContext(v.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		v.Fatal(err)
	}
	response, err := v.client.Do(request)
	if err != nil {
		v.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		v.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// look asks for the state.
func (v *visitor) look(query string) shown.Page {
	v.Helper()
	code, body := v.get(v.home + "state" + query)
	var page shown.Page
	if err := json.Unmarshal([]byte(body), &page); err != nil || code != http.StatusOK {
		v.Fatalf("the state answers %d: %v: %s", code, err, body)
	}
	return page
}

// awaitLimit is far above what anything takes, on any machine.
const awaitLimit = time.Minute

// await asks for the state until it is as wanted.
func (v *visitor) await(what string, is func(shown.Page) bool) shown.Page {
	v.Helper()
	return v.awaitAt("", what, is)
}

func (v *visitor) awaitAt(query, what string, is func(shown.Page) bool) shown.Page {
	v.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(awaitLimit)
	for {
		page := v.look(query)
		if is(page) {
			return page
		}
		select {
		case <-tick.C:
		case <-limit:
			v.Fatalf("the page never shows %s: %+v", what, page)
		}
	}
}

func TestThePageShowsPoolsTargetsAndConnections(t *testing.T) {
	f := clitest.Shop(t, New)
	v, stop := visit(t, f)
	page := v.look("?namespace=shop&pool=web&target=web-1")
	if len(page.Pools) != 2 || page.Pools[1].Name != "web" || len(page.Pools[1].Members) != 2 {
		t.Fatalf("pools are %+v", page.Pools)
	}
	web := page.Pools[1]
	if web.Level != shown.LevelWarning || web.Running != 2 || web.Warm != 1 || web.Ready != 1 {
		t.Errorf("pool web is %+v", web)
	}
	if failing := web.Members[1]; failing.Level != shown.LevelFailing || failing.Word != "AuthenticationFailed" ||
		failing.Message != "The server refuses the key.[31m Add its public half to authorized_keys." {
		t.Errorf("web-2 is %+v, want its sentence without what steers a terminal", failing)
	}
	if page.Detail == nil || len(page.Detail.Connections) != 1 || page.Detail.Connections[0].Uses != 41 ||
		page.Detail.Connections[0].RoundTrips[0] != 480 {
		t.Errorf("the details are %+v", page.Detail)
	}
	if len(page.Problems) > 0 || page.Heard != 0 || page.Waiting {
		t.Errorf("something is missing: %+v", page)
	}
	if code := stop(); code != 0 {
		t.Errorf("Ctrl-C ends it with %d", code)
	}
}

func TestADetailShowsWhoUsesTheTargetAndWhoHas(t *testing.T) {
	f := clitest.Shop(t, New)
	use := func(name, target, user string, state livev1alpha1.UseState) livev1alpha1.Use {
		return livev1alpha1.Use{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", CreationTimestamp: *clitest.MinutesAgo(2)},
			Pool:       "web", Target: target, User: user, Action: livev1alpha1.UseExec, State: state, Command: []string{"uptime"},
		}
	}
	f.Uses = []livev1alpha1.Use{
		use("u1", "web-1", "alice", livev1alpha1.UseRunning), use("u2", "web-2", "bob", livev1alpha1.UseRunning),
		use("u3", "web-1", "carol", livev1alpha1.UseEnded),
	}
	f.Uses[2].ExitCode, f.Uses[2].EndTime = new(int32(3)), clitest.MinutesAgo(1)
	v, _ := visit(t, f)
	page := v.awaitAt("?namespace=shop&pool=web&target=web-1", "who uses it", func(p shown.Page) bool { return len(p.Detail.Running) > 0 })
	running := []shown.Use{{ID: "u1", User: "alice", What: "exec uptime", Since: clitest.MinutesAgo(2).UnixMilli()}}
	ended := []shown.Use{{
		ID: "u3", User: "carol", What: "exec uptime", Result: "exit 3",
		Since: clitest.MinutesAgo(2).UnixMilli(), Until: clitest.MinutesAgo(1).UnixMilli(),
	}}
	if diff := cmp.Diff([][]shown.Use{running, ended}, [][]shown.Use{page.Detail.Running, page.Detail.Ended}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAUserWhoMayNotSeeUsesSeesSessions(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Denied["list live.connpool.dev/uses"] = true
	f.Sessions = []livev1alpha1.Session{{
		ObjectMeta: metav1.ObjectMeta{Name: "web-x7k2", Namespace: "shop", CreationTimestamp: *clitest.MinutesAgo(4)},
		Spec:       livev1alpha1.SessionSpec{Pool: "web", Target: "web-1", Container: "app"},
		Status:     livev1alpha1.SessionStatus{Owner: "alice", State: livev1alpha1.SessionBusy},
	}}
	v, _ := visit(t, f)
	page := v.awaitAt("?namespace=shop&pool=web&target=web-1", "the session", func(p shown.Page) bool { return len(p.Detail.Running) > 0 })
	want := []shown.Use{{ID: "web-x7k2", User: "alice", What: "session web-x7k2 in app", Since: clitest.MinutesAgo(4).UnixMilli()}}
	if diff := cmp.Diff(want, page.Detail.Running); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(page.Detail.NoUses, "cannot list resource") || len(page.Problems) > 0 {
		t.Errorf("says %q, and problems are %+v; want a sentence in the detail only", page.Detail.NoUses, page.Problems)
	}
}

func TestAChangeIsSeenAtOnce(t *testing.T) {
	f := clitest.Shop(t, New)
	v, _ := visit(t, f)
	v.look("")
	f.Change(func() {
		targets := slices.Clone(f.Targets)
		targets[2] = clitest.Target("web-2", "web")
		f.Targets = targets
	})
	v.await("that web-2 is ready", func(p shown.Page) bool { return p.Pools[1].Members[1].Level == shown.LevelReady })
}

func TestAUserSeesWhatRBACAllowsAndASentenceAboutTheRest(t *testing.T) {
	tests := map[string]struct {
		denied []string
		want   string // the pools and their targets
	}{
		"no targets":     {[]string{"list connpool.dev/connectiontargets"}, "db[db-1 ready] web[web-1 ready, web-2 failing]"},
		"no pools":       {[]string{"list connpool.dev/connectionpools"}, "db[db-1 ready] web[web-1 ready, web-2 failing]"},
		"no connections": {[]string{"list live.connpool.dev/connections"}, "db[db-1 ready] web[web-1 ready, web-2 failing]"},
		"nothing": {[]string{
			"list connpool.dev/connectiontargets", "list connpool.dev/connectionpools",
			"list live.connpool.dev/connections", "list live.connpool.dev/sessions",
		}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := clitest.Shop(t, New)
			f.Targets[2].Status.Pools[0].Ready = new(false)
			for _, what := range test.denied {
				f.Denied[what] = true
			}
			v, _ := visit(t, f)
			page := v.look("")
			if got := namesOf(page); got != test.want {
				t.Errorf("shows %q, want %q", got, test.want)
			}
			if len(page.Problems) != len(test.denied) {
				t.Fatalf("problems are %+v", page.Problems)
			}
			for _, problem := range page.Problems {
				if !problem.Denied || !strings.Contains(problem.Text, "cannot list") || !strings.Contains(problem.Hint, "kind: Role") {
					t.Errorf("the problem is %+v, want who may not do what, and a Role", problem)
				}
			}
			if page.Heard != 0 {
				t.Error("what may not be read is not old")
			}
		})
	}
}

func namesOf(page shown.Page) string {
	var pools []string
	for _, p := range page.Pools {
		var members []string
		for _, m := range p.Members {
			members = append(members, m.Name+" "+string(m.Level))
		}
		pools = append(pools, p.Name+"["+strings.Join(members, ", ")+"]")
	}
	return strings.Join(pools, " ")
}

func TestWhatIsDeniedIsNotAskedAgainAndAgain(t *testing.T) {
	f := clitest.Shop(t, New)
	f.Denied["list live.connpool.dev/sessions"] = true
	v, _ := visit(t, f)
	v.look("")
	count := func(what string) (n int) {
		for _, request := range f.Requests() {
			if strings.Contains(request, what) {
				n++
			}
		}
		return n
	}
	v.await("three polls", func(shown.Page) bool { return count("/connections") >= 3 })
	if n := count("/sessions"); n != 1 {
		t.Errorf("sessions were asked for %d times", n)
	}
}

func TestAClusterThatIsGoneLeavesThePageWithItsAge(t *testing.T) {
	f := clitest.Shop(t, New)
	var later atomic.Int64
	f.Now = func() time.Time { return clitest.Noon.Add(time.Duration(later.Load())) }
	v, _ := visit(t, f)
	if page := v.look(""); page.Heard != 0 || len(page.Problems) > 0 {
		t.Fatalf("at the beginning: %+v", page)
	}
	f.Expired.Store(true)
	v.await("that the token has expired", func(p shown.Page) bool { // of what is watched it may be known later
		return len(p.Problems) == 1 && strings.Contains(p.Problems[0].What, "connections") &&
			strings.Contains(p.Problems[0].Hint, "renew the credentials")
	})
	later.Store(int64(time.Minute))
	page := v.look("")
	if page.Heard != clitest.Noon.UnixMilli() || page.Pools[1].Warm != 1 {
		t.Errorf("after a minute: heard %d, pools %+v; want what was known, from noon", page.Heard, page.Pools)
	}
	f.Expired.Store(false)
	v.await("that it is back", func(p shown.Page) bool { return p.Heard == 0 && len(p.Problems) == 0 })
}

func TestTheClusterIsNotAskedWhileNoPageIsSeen(t *testing.T) {
	f := clitest.Shop(t, New)
	printed, stop := f.Start("web")
	defer stop()
	printed.Next("until Ctrl-C at")
	printed.Next("")
	link := strings.TrimSpace(printed.Next("http://127.0.0.1:"))
	if asked := f.Requests(); len(asked) > 0 {
		t.Errorf("before a page was opened the cluster was asked for %q", asked)
	}
	v := open(t, link)
	v.look("")
	f.AwaitWatches(2)
	f.AwaitWatches(0) // no page asks any more
	before := len(f.Requests())
	v.await("what the cluster says now", func(shown.Page) bool { return len(f.Requests()) > before })
}

func TestSeveralPagesCostTheClusterNoMoreThanOne(t *testing.T) {
	f := clitest.Shop(t, New)
	v, _ := visit(t, f)
	began := time.Now()
	for range 100 {
		v.look("")
	}
	polls := 0
	for _, request := range f.Requests() {
		if strings.Contains(request, "/connections") {
			polls++
		}
	}
	if most := int(time.Since(began)/time.Second) + 1; polls > most {
		t.Errorf("100 requests of pages became %d polls, want at most %d", polls, most)
	}
}

func TestThePortIsChosenOrRefusedInWords(t *testing.T) {
	f := clitest.Shop(t, New)
	clitest.WantStderr(t, f.Run("web", "--port", "70000"), 1, "--port 70000 is not a valid port (0-65535)")
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	clitest.WantStderr(t, f.Run("web", "--port", port), 1, "listen on port "+port+" of 127.0.0.1")
}

func TestTheBrowserIsOpenedWithoutShowingTheLinkToOthers(t *testing.T) {
	clitest.TempDir(t)
	programs := t.TempDir()
	script := "#!/bin/sh\nstat -c %a \"$1\" >\"$0.mode\"\ncat \"$1\" >\"$0.page\"\necho \"$@\" >\"$0.new\"\nmv \"$0.new\" \"$0.words\"\n"
	for _, name := range []string{"xdg-open", "open"} {
		if err := os.WriteFile(filepath.Join(programs, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	f := clitest.Shop(t, New)
	printed, stop := f.Start("web", "--open")
	printed.Next("until Ctrl-C at")
	printed.Next("")
	link := strings.TrimSpace(printed.Next("http://127.0.0.1:"))
	name := filepath.Join(programs, opener()[0])
	words := awaitFile(t, name+".words")
	if strings.Contains(words, "token") || strings.Contains(words, "http") {
		t.Errorf("every user can read %q", words)
	}
	if mode, page := awaitFile(t, name+".mode"), awaitFile(t, name+".page"); mode != "600\n" || !strings.Contains(page, link) {
		t.Errorf("the file has mode %s and holds %s", mode, page)
	}
	if code := stop(); code != 0 {
		t.Errorf("ends with %d", code)
	}
}

func awaitFile(t *testing.T, name string) string {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(awaitLimit)
	for {
		content, err := os.ReadFile(name)
		if err == nil {
			return string(content)
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal(err)
		}
	}
}

func TestWithoutABrowserTheLinkIsEnough(t *testing.T) {
	clitest.TempDir(t)
	t.Setenv("PATH", t.TempDir())
	f := clitest.Shop(t, New)
	printed, stop := f.Start("web", "--open")
	for _, want := range []string{"until Ctrl-C at", "", "http://127.0.0.1:", "", "opened once", "open the link yourself"} {
		printed.Next(want)
	}
	if code := stop(); code != 0 {
		t.Errorf("ends with %d", code)
	}
}
