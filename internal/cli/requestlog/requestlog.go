// Package requestlog logs the requests of the plugin, as kubectl does with -v.
//
//	log := requestlog.New(os.Stderr, verbosity)
//	config.Wrap(log.Wrap)
//
// Trade-off: it is a transport of its own, and not client-go's, which logs by klog: that
// prints a header of its own before each line, and shows credentials from level 9 on.
package requestlog

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Verbosities, as kubectl has them.
const (
	logRequests = 6
	logHeaders  = 8
)

const timeOfDay = "15:04:05.000"

// Log is where the requests of a process are logged. It is safe for concurrent use.
type Log struct {
	out       io.Writer
	verbosity int
	writing   sync.Mutex // requests run at the same time
}

// New returns a log of URLs and times if the verbosity is at least 6, and of headers if it
// is at least 8.
func New(out io.Writer, verbosity int) *Log { return &Log{out: out, verbosity: verbosity} }

// Note logs a line that is about no single request.
func (l *Log) Note(text string) {
	if l.verbosity >= logRequests {
		l.write(time.Now().Format(timeOfDay) + " " + text + "\n")
	}
}

// Wrap returns a transport that logs the requests. It stands behind those that authenticate
// them.
func (l *Log) Wrap(next http.RoundTripper) http.RoundTripper {
	if l.verbosity < logRequests {
		return next
	}
	return &logged{next, l}
}

type logged struct {
	next http.RoundTripper
	log  *Log
}

// RoundTrip implements http.RoundTripper.
func (l *logged) RoundTrip(request *http.Request) (*http.Response, error) {
	began := time.Now()
	response, err := l.next.RoundTrip(request)
	took := time.Since(began).Round(100 * time.Microsecond)
	end := fmt.Sprint(err)
	if err == nil {
		end = cmp.Or(response.Status, strconv.Itoa(response.StatusCode))
	}
	text := fmt.Sprintf("%s %s %s %s in %s\n", began.Format(timeOfDay), request.Method, request.URL, end, took)
	if l.log.verbosity >= logHeaders {
		text += headerLines("request", request.Header)
		if err == nil {
			text += headerLines("response", response.Header)
		}
	}
	l.log.write(text)
	return response, err
}

func (l *Log) write(text string) {
	l.writing.Lock()
	defer l.writing.Unlock()
	_, _ = io.WriteString(l.out, text)
}

// secret are headers whose values are credentials.
var secret = []string{"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Sec-Websocket-Key"}

func headerLines(of string, header http.Header) string {
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			if slices.Contains(secret, http.CanonicalHeaderKey(name)) {
				value = "<masked>"
			}
			fmt.Fprintf(&lines, "  %s: %s: %q\n", of, name, value)
		}
	}
	return lines.String()
}
