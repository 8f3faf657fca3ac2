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

// runIn runs a program in a folder to its end.
func runIn(t *testing.T, folder, name string, arguments ...string) {
	t.Helper()
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
