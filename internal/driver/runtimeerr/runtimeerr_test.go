package runtimeerr

import "testing"

func TestTheExitCodeIsThatOfAShell(t *testing.T) {
	const prefix = `exec failed: unable to start container process: exec: `
	tests := map[string]struct {
		said  string
		code  int
		known bool
	}{
		"a name that is not in the path": {`"jq": executable file not found in $PATH: unknown`, NoProgram, true},
		"a path that does not exist":     {`"/no": stat /no: no such file or directory: unknown`, NoProgram, true},
		"a file that may not be run":     {`"/etc/passwd": permission denied: unknown`, NoPermission, true},
		"a directory":                    {`"/etc": is a directory: unknown`, NoPermission, true},
		"a program of another machine":   {`"/arm": exec format error`, NoPermission, true},
		"a failure of the runtime":       {`procReady not received`, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, known := ExitCode(prefix + test.said)
			if code != test.code || known != test.known {
				t.Errorf("got %d, %t", code, known)
			}
		})
	}
}
