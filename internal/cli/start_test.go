package cli

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/internal/cli/plugin"
)

func TestACommandIsMadeWithoutTheOthers(t *testing.T) {
	tests := map[string]struct {
		args  []string
		alone bool
	}{
		"the command comes first":           {[]string{"exec", "web", "--", "status"}, true},
		"flags with their values before it": {[]string{"--context=lab", "--namespace=shop", "exec"}, true},
		"a flag whose value comes after it": {[]string{"-n", "exec", "status"}, false},
		"a flag without an equals sign":     {[]string{"--namespace", "exec", "status"}, false},
		"a short flag with its value":       {[]string{"-n=exec", "status"}, false},
		"a word that is no command":         {[]string{"exce", "exec"}, false},
		"nothing":                           {nil, false},
		"help, which is about the others":   {[]string{"help", "exec"}, false},
		"a completion":                      {[]string{"__complete", "exec"}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := plugin.New("connpool", "", genericiooptions.NewTestIOStreamsDiscard())
			all := newRoot(f, calledFirst(test.args)).Commands()
			if alone := len(all) == 1; alone != test.alone || alone && all[0].Name() != "exec" {
				t.Errorf("%d commands, the first is %s", len(all), all[0].Name())
			}
		})
	}
}

func TestCommandsHaveTheNamesByWhichTheyAreChosen(t *testing.T) {
	f := plugin.New("connpool", "", genericiooptions.NewTestIOStreamsDiscard())
	var names, made []string
	for _, group := range groups {
		for _, entry := range group.commands {
			names, made = append(names, entry.name), append(made, entry.make(f).Name())
		}
	}
	if diff := cmp.Diff(names, made); diff != "" {
		t.Errorf("(-chosen by +made):\n%s", diff)
	}
	var visible []string
	for _, command := range newRoot(f, "").Commands() {
		visible = append(visible, command.Name())
	}
	if !slices.ContainsFunc(visible, func(name string) bool { return name == "exec" }) || len(visible) != len(names) {
		t.Errorf("the root has %v", visible)
	}
}

func TestTheHelpOfACommandIsTheSameWithoutTheOthers(t *testing.T) {
	help := func(called string) string {
		var out bytes.Buffer
		f := plugin.New("connpool", "", genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
		f.Execute(t.Context(), newRoot(f, called), []string{"session", "create", "--help"})
		return out.String()
	}
	if diff := cmp.Diff(help(""), help("session")); diff != "" {
		t.Errorf("(-with the others +without):\n%s", diff)
	}
}

// ownAllocations and allAllocations bound what packages allocate before main begins, for
// every command: a regular expression costs about a hundred. The second one has room for a
// new version of a library.
const (
	ownAllocations = 300
	allAllocations = 7000
)

// initialized is a line of GODEBUG=inittrace=1.
var initialized = regexp.MustCompile(`(?m)^init (\S+) @.* (\d+) allocs$`)

// build builds the plugin, and returns its path.
func build(t *testing.T) string {
	t.Helper()
	program := t.TempDir() + "/kubectl-connpool"
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/kubectl-connpool").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

func TestLittleIsDoneBeforeAnyCommand(t *testing.T) {
	program := build(t)
	run := exec.CommandContext(t.Context(), program, "--version")
	run.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	var trace bytes.Buffer
	run.Stderr = &trace
	if err := run.Run(); err != nil {
		t.Fatal(err)
	}
	own, all, most := 0, 0, &strings.Builder{}
	for _, line := range initialized.FindAllStringSubmatch(trace.String(), -1) {
		n, _ := strconv.Atoi(line[2])
		all += n
		if strings.HasPrefix(line[1], "github.com/connpool/connpool/") {
			own += n
		}
		if n > 100 {
			most.WriteString("\n" + line[1] + " " + line[2])
		}
	}
	if own == 0 || own > ownAllocations || all > allAllocations {
		t.Errorf("our packages allocate %d times, at most %d; all packages %d times, at most %d; more than 100 times:%s",
			own, ownAllocations, all, allAllocations, most)
	}
}

// keepsMethods are functions that can call a method of any type by its name. A program that
// links one of them keeps all exported methods of all its types.
var keepsMethods = regexp.MustCompile(`(?m) (text/template\.\S*evalField|html/template\.\S+)$`)

func TestThePluginLinksOnlyMethodsThatItCalls(t *testing.T) {
	symbols, err := exec.CommandContext(t.Context(), "go", "tool", "nm", build(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(symbols, []byte("cobra.(*Command).ExecuteC")) {
		t.Fatal("the list of symbols is incomplete")
	}
	if found := keepsMethods.FindAll(symbols, 3); found != nil {
		t.Errorf("it links templates, and so every method of every type: %s", found)
	}
}

// tooHeavy are packages that would be initialized at every start, by the beginning of their
// paths: the types of all Kubernetes APIs, their descriptions, and what parses all
// certificate authorities.
var tooHeavy = []string{
	"golang.org/x/crypto/x509roots/fallback\n", "k8s.io/api/", "k8s.io/kube-openapi/pkg/common", "k8s.io/kubectl/", "k8s.io/cli-runtime/pkg/resource",
	"k8s.io/client-go/discovery", "k8s.io/client-go/kubernetes", "k8s.io/apiserver/", "sigs.k8s.io/controller-runtime", "go.opentelemetry.io/",
	"github.com/prometheus/",
}

func TestThePluginLinksNothingHeavy(t *testing.T) {
	output, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../../cmd/kubectl-connpool").Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := "\n" + string(output)
	if !strings.Contains(linked, "\nk8s.io/client-go/rest\n") {
		t.Fatalf("the list is incomplete:%s", linked)
	}
	for _, heavy := range tooHeavy {
		if _, found, ok := strings.Cut(linked, "\n"+heavy); ok {
			rest, _, _ := strings.Cut(found, "\n")
			t.Errorf("it links %s%s", strings.TrimSpace(heavy), rest)
		}
	}
}
