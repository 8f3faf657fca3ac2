// Package clients_test runs the tests that clients in other languages than Go have of
// their own. With a real operator they are run by test/integration.
package clients_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

const pythonClient = "../../clients/python"

// runIn runs a program in a folder to its end.
func runIn(t *testing.T, folder, name string, arguments ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, name, arguments...)
	command.Dir = folder
	command.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%s %q: %v\n%s", name, arguments, err, output)
	}
}

func TestThePythonClientReadsEveryAnswer(t *testing.T) {
	runIn(t, pythonClient, "python3", "-W", "error", "-m", "unittest")
}

func TestThePythonClientsTypesHoldForTheOldestPython(t *testing.T) {
	runIn(t, pythonClient, "mypy", "--strict", "--python-version=3.9", "--cache-dir=/dev/null", "connpool.py")
}

func TestNoNameIsUnusedInPython(t *testing.T) {
	runIn(t, "../..", "pyflakes3", "clients/python", "test/clients/exec.py", "test/clients/pool.py")
}
