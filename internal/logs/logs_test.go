package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

func TestOnlyWhatAPersonMustActOnIsAnError(t *testing.T) {
	const serviceAccount = `Get "https://10.96.0.1/api/v1/namespaces/a/serviceaccounts/b": `
	for name, tc := range map[string]struct {
		err     error
		message string
		want    string // in the line; empty if there is none at the default level
	}{
		"a client that left before the answer": {
			errors.New("apiserver was unable to write a application/json response: http: Handler timeout"), "Unhandled Error", "",
		},
		"a client that cut the connection": {
			errors.New("apiserver was unable to close cleanly the response writer: write tcp 1.2.3.4:5->6.7.8.9:10: write: connection reset by peer"),
			"Unhandled Error", "",
		},
		"an answer that cannot be encoded": {
			errors.New("apiserver was unable to write a application/json response: json: unsupported value"), "Unhandled Error", `"level":"error"`,
		},
		"a request that went on without its client": {nil, "Post-timeout activity", ""},
		"a request that ended without its client": {
			errors.New("FinishRequest: post-timeout activity - time-elapsed: 1ms, panicked: false, err: <nil>"), "Unhandled Error", "",
		},
		"a request that panicked without its client": {
			errors.New("FinishRequest: post-timeout activity - time-elapsed: 1ms, panicked: true, err: <nil>"), "Unhandled Error", `"level":"error"`,
		},
		"a question for a client that left": {
			nil, "Failed to make webhook authorizer request: webhook call failed: context canceled", "",
		},
		"a wrapped question for a client that left": {fmt.Errorf("look: %w", context.Canceled), "Unhandled Error", ""},
		"kube-apiserver cannot be asked":            {errors.New(serviceAccount + "connection reset by peer"), "Unhandled Error", `"level":"error"`},
		"kube-apiserver takes too long":             {errors.New(serviceAccount + "context deadline exceeded"), "Unhandled Error", `"level":"error"`},
		"a wrong token":                             {errors.New("invalid bearer token"), "Unable to authenticate the request", `"level":"info"`},
		"a reconciliation that failed":              {errors.New("etcdserver: request timed out"), "Reconciler error", `"level":"error"`},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			logger := WithoutDepartures(WithoutBodies(zap.New(zap.WriteTo(&log)))).WithName("n").WithValues("a", "b")
			logger.Error(tc.err, tc.message, "fact", 1)
			text := log.String()
			if (tc.want == "") != (text == "") || !strings.Contains(text, tc.want) {
				t.Errorf("logged %q, want it to contain %q", text, tc.want)
			}
			if isError := tc.want == `"level":"error"`; strings.Contains(text, "stacktrace") != isError {
				t.Errorf("logged %q with a stack trace, want one: %t", text, isError)
			}
			if text != "" && (!strings.Contains(text, `"a":"b","fact":1`) || tc.err != nil && !strings.Contains(text, tc.err.Error()[:4])) {
				t.Errorf("a fact is missing in %q", text)
			}
		})
	}
}

func TestWhatLibrariesPrintIsALineOfTheLog(t *testing.T) {
	flags, output, stderr := log.Flags(), log.Writer(), os.Stderr
	t.Cleanup(func() {
		_ = os.Stderr.Close() // which ends the reader
		os.Stderr = stderr
		log.SetFlags(flags)
		log.SetOutput(output)
	})
	written := make(chan string, 2)
	logger := funcr.NewJSON(func(line string) { written <- line }, funcr.Options{})
	if err := Capture(logger); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(string){
		"the standard logger": func(text string) { log.Print(text) },
		"standard error":      func(text string) { _, _ = os.Stderr.WriteString(text + "\n") },
	} {
		write("http: TLS handshake error from 127.0.0.1:1: EOF") // which funcr leaves out at level 0
		write("http: panic serving\nand why")
		select {
		case line := <-written:
			if !strings.Contains(line, `"msg":"http: panic serving\nand why"`) || !strings.Contains(line, `"error"`) {
				t.Errorf("%s: the line is %s", name, line)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: nothing was logged", name)
		}
	}
}
