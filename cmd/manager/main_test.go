package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/logs/output"
)

func TestBadFlagsAreRefusedWithTheNextStep(t *testing.T) {
	tests := map[string]struct {
		arguments []string
		says      string
	}{
		"an argument that is no flag":      {[]string{"start"}, `"start"`},
		"no requests to clusters":          {[]string{"--kubernetes-qps=0"}, "--kubernetes-qps"},
		"no requests to clusters at once":  {[]string{"--kubernetes-burst=0"}, "--kubernetes-burst"},
		"a flag that the operator refuses": {[]string{"--replica-name="}, "--replica-name"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(tc.arguments); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v: error %v, want it to contain %s", tc.arguments, err, tc.says)
			}
		})
	}
}

func TestTheVersionIsPrintedWhateverElseIsMissing(t *testing.T) {
	s, err := parse([]string{"--version", "--replica-name="})
	if err != nil || !s.printVersion {
		t.Errorf("printVersion is %t, error %v", s.printVersion, err)
	}
}

func TestTheFirstLineOfTheLogSaysWhatRuns(t *testing.T) {
	arguments := []string{"--replica-name=one", "--live-bind-address=0", "--allow-cidrs=127.0.0.0/8"}
	s, err := parse(arguments)
	if err != nil {
		t.Fatal(err)
	}
	facts := s.facts()
	for name, want := range map[string]string{"version": s.operator.Version, "replica": "one", "arguments": fmt.Sprint(arguments)} {
		at := slices.Index(facts, any(name))
		if at < 0 || fmt.Sprint(facts[at+1]) != want {
			t.Errorf("%s is not %s in %v", name, want, facts)
		}
	}
}

func TestEveryAuditLineIsWrittenHowManyThereAreAndAtAnyLevel(t *testing.T) {
	s, err := parse([]string{"--replica-name=one", "--live-bind-address=0", "--zap-log-level=error"})
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	queue := output.New(&written)
	logger := s.log(queue)
	for range 1000 {
		s.operator.Audit.Logger.WithName("audit").Info("use started")
		logger.Info("left out")
	}
	queue.Close(time.Minute)
	if n := strings.Count(written.String(), `"logger":"audit","msg":"use started"`); n != 1000 {
		t.Errorf("%d of 1,000 audit lines are written", n)
	}
	if strings.Contains(written.String(), "left out") {
		t.Error("a line below the level is written")
	}
}

func TestALogThatIsNotReadStopsNothingAndSaysSoLater(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s, err := parse([]string{"--replica-name=one", "--live-bind-address=0"})
	if err != nil {
		t.Fatal(err)
	}
	queue := output.New(write)
	logger := s.log(queue)
	for range 10_000 {
		s.operator.Audit.Logger.Info("use started", "words", strings.Repeat("x", 1000))
		logger.Error(nil, "a problem", "words", strings.Repeat("x", 1000))
	}
	if s.operator.Audit.Dropped() == 0 {
		t.Error("no audit line was dropped")
	}
	for lines := bufio.NewReader(read); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "Lines of this log are lost") {
			break
		}
	}
	queue.Close(time.Minute)
	_, _ = read.Close(), write.Close()
}
