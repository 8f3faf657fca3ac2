// Package clients_test runs the tests that clients in other languages than Go have of
// their own. With a real operator they are run by test/integration.
package clients_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const (
	pythonClient = "../../clients/python"
	// python is Debian's.
	python = "/usr/bin/python3"
)

// look reads the files that Python will read, so that go test runs these tests again when
// one of them has changed.
func look(t *testing.T, folder string) {
	t.Helper()
	for _, pattern := range []string{folder + "/*.py", pythonClient + "/*.py"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if _, err := os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// runIn runs a program in a folder to its end.
func runIn(t *testing.T, folder, name string, arguments ...string) {
	t.Helper()
	look(t, folder)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, arguments...)
	command.Dir = folder
	path, err := filepath.Abs(pythonClient)
	if err != nil {
		t.Fatal(err)
	}
	command.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+path)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", name, arguments, err, output)
	}
}

func TestThePythonClientReadsEveryAnswer(t *testing.T) {
	runIn(t, pythonClient, python, "-W", "error", "-m", "unittest")
}

func TestTheExampleForAirflowRunsWithStubsOfItsClasses(t *testing.T) {
	runIn(t, pythonClient+"/airflow", python, "-W", "error", "-m", "unittest")
}

func TestThePythonClientsTypesHoldForTheOldestPython(t *testing.T) {
	runIn(t, pythonClient, "mypy", "--strict", "--python-version=3.9", "--cache-dir=/dev/null", "connpool.py")
}

func TestNoNameIsUnusedInPython(t *testing.T) {
	runIn(t, "../..", "pyflakes3", "clients/python", "test/clients/exec.py", "test/clients/pool.py")
}
