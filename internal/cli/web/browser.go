package web

import (
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// opener returns the program that opens a file as the user likes it, and its arguments.
func opener() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"open"}
	case "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	return []string{"xdg-open"}
}

// openBrowser opens a link in the browser. Every user of this machine can read the
// arguments of a program, so the link is in a file that only its owner can read.
// remove removes the file.
func openBrowser(link string) (remove func(), err error) {
	directory, err := os.MkdirTemp("", "connpool-")
	if err != nil {
		return func() {}, err
	}
	remove = func() { _ = os.RemoveAll(directory) }
	file := filepath.Join(directory, "open.html")
	page := fmt.Sprintf(`<!doctype html><title>connpool</title><meta http-equiv="refresh" content="0;url=%s">`, html.EscapeString(link))
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		return remove, err
	}
	words := append(opener(), file)
	command := exec.Command(words[0], words[1:]...) //nolint:noctx // our own words; the browser outlives this program
	command.SysProcAttr = detached()
	if err := command.Start(); err != nil {
		return remove, err
	}
	go func() { _ = command.Wait() }() // xdg-open may stay for as long as the browser does
	return remove, nil
}
