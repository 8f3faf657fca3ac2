// Command bench measures connpool beside the tools that people use today and
// prints one table:
//
//	go run ./hack/bench                 # everything, about 20 minutes
//	go run ./hack/bench -run command    # the measurements whose names match
//	go run ./hack/bench -quick          # a smoke run, whose figures meet no goals
//	go run ./hack/bench -o json
//
// The contenders of a row are measured in the same run and in turn, so that the
// load of the machine affects all of them alike. Figures are medians unless the
// row says otherwise. A missed goal is a line in the table and not a failure, since
// it may be the machine that is slow.
//
// It needs OpenSSH, and Linux for what it reads of processes; containers and pods
// also need root and what hack/install-test-deps.sh installs. As root it logs in
// as a user that it makes, whose shell sources nothing. What fleet-sshd compares
// with is in Debian's clustershell, pssh and ansible-core; a row says what is missing.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/connpool/connpool/test/controlplane/binaries"
)

// measurement yields some rows of the table.
type measurement struct {
	name string
	run  func(context.Context, settings) ([]row, error)
}

// settings are what all measurements have in common.
type settings struct {
	// quick asks for a smoke run.
	quick bool
	// memoryLimit is the operator's GOMEMLIMIT in sizing.
	memoryLimit string
	say         binaries.Say
}

// of is the amount for a whole run or for a quick one.
func of[T any](s settings, whole, quick T) T {
	if s.quick {
		return quick
	}
	return whole
}

func measurements() []measurement {
	return []measurement{
		{"command", measureCommands},
		{"command-50ms", measureDistantCommands},
		{"engine", measureEngine},
		{"routing", measureRouting},
		{"memory", measureMemory},
		{"scale", measureScale},
		{"sizing", measureSizing},
		{"live", measureLive},
		{"load", measureLoad},
		{"cli", measureCLI},
		{"copies-near", measureCopies(0, (*copies).near)},
		{"copies-large", measureCopies(50*time.Millisecond, (*copies).large)},
		{"copies-small", measureCopies(26*time.Millisecond, (*copies).small)},
		{"once", measureOnce},
		{"containers", measureContainers},
		{"pods", measurePods},
		{"sessions", measureSessions},
		{"handshakes", measureHandshakes},
		{"kubeconfigs", measureKubeconfigs},
		{"fleet", measureFleet},
		{"fleet-sshd", measureFleetOnSSHD},
		{"fleet-8000", measureLargeFleet},
		{"callers", measureCallers},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	if role, ok := os.LookupEnv(roleVariable); ok {
		return play(ctx, role)
	}
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	pattern := flags.String("run", "", "only the `measurements` whose names match:\n"+
		"command, command-50ms, engine, memory, scale, sizing, live, load, cli, copies-near,\n"+
		"copies-large, copies-small, once, containers, pods, sessions, handshakes, kubeconfigs,\n"+
		"fleet, fleet-sshd, fleet-8000, callers")
	quick := flags.Bool("quick", false, "a smoke run: its figures mean little, so no goal is looked at")
	limit := flags.String("memory-limit", "460MiB", "GOMEMLIMIT of the operator in sizing; it sets 90 % of its container's limit itself")
	output := flags.String("o", "table", "`format` of the output: table or json")
	_ = flags.Parse(arguments) // it exits by itself
	only, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *output != "table" && *output != "json" {
		return fmt.Errorf("-o %s is not possible; choose table or json", *output)
	}

	testing.Init() // for testing.Benchmark
	ctrl.SetLogger(logr.Discard())
	results := measureAll(ctx, only, settings{*quick, *limit, binaries.Printer(os.Stderr)})
	if *output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(results)
	}
	fmt.Print(format(results))
	return nil
}

// measureAll takes one measurement after the other. If one cannot be taken, it
// says so on stderr and goes on with the next.
func measureAll(ctx context.Context, only *regexp.Regexp, s settings) []row {
	var results []row
	for _, m := range measurements() {
		if !only.MatchString(m.name) || ctx.Err() != nil {
			continue
		}
		s.say("measure %s", m.name)
		begin := time.Now()
		rows, err := m.run(ctx, s)
		if err != nil {
			s.say("%s cannot be measured: %v", m.name, err)
		}
		s.say("measured %s in %s", m.name, time.Since(begin).Round(time.Second))
		for _, r := range rows {
			if s.quick {
				r.Goal, r.Met = "", nil
			}
			results = append(results, r)
		}
	}
	return results
}
