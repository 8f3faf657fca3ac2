package cluster

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

// requestLog is an http.RoundTripper that logs requests. It stands behind those that
// authenticate them.
type requestLog struct {
	next    http.RoundTripper
	out     io.Writer
	writing *sync.Mutex // of the process: requests run at the same time
	headers bool
}

// RoundTrip implements http.RoundTripper.
func (l *requestLog) RoundTrip(request *http.Request) (*http.Response, error) {
	began := time.Now()
	response, err := l.next.RoundTrip(request)
	took := time.Since(began).Round(100 * time.Microsecond)
	end := fmt.Sprint(err)
	if err == nil {
		end = cmp.Or(response.Status, strconv.Itoa(response.StatusCode))
	}
	text := fmt.Sprintf("%s %s %s %s in %s\n", began.Format("15:04:05.000"), request.Method, request.URL, end, took)
	if l.headers {
		text += headerLines("request", request.Header)
		if err == nil {
			text += headerLines("response", response.Header)
		}
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	_, _ = io.WriteString(l.out, text)
	return response, err
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
