package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
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
