// Package outage answers requests that could not be admitted because kube-apiserver could not
// be asked who sends them, or what that user may do.
//
//	handler = outage.Answer(handler) // around the generic server's handlers
//	if outage.Is(err) { outage.Note(ctx) } // in an authenticator or an authorizer
//
// Trade-offs: the answer of those handlers is replaced, because they have no hook for it.
package outage

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/endpoints/responsewriter"

	"github.com/connpool/connpool/internal/registry/refusal"
)

// retryAfterSeconds is what a client is told to wait that could not be admitted. It is in the
// body only: a header would make clients send the request again on their own.
const retryAfterSeconds = 1

// notedKey is the key of an *atomic.Bool in the context of a request.
type notedKey struct{}

// Note notes that kube-apiserver could not be asked about the request of a context.
func Note(ctx context.Context) {
	if noted, ok := ctx.Value(notedKey{}).(*atomic.Bool); ok {
		noted.Store(true)
	}
}

// Answer answers 503 to requests about which kube-apiserver could not be asked. The
// generic server's handlers answer 401, 403 or 500 to them: a client with valid credentials would
// give up, or would not know whether a command has run.
func Answer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		noted := &atomic.Bool{}
		wrapped := responsewriter.WrapForHTTP1Or2(&writer{ResponseWriter: w, noted: noted})
		next.ServeHTTP(wrapped, req.WithContext(context.WithValue(req.Context(), notedKey{}, noted)))
	})
}

// writer replaces the answer to a request that kube-apiserver could not be asked about.
type writer struct {
	http.ResponseWriter

	noted    *atomic.Bool
	replaced bool
}

// Unwrap implements responsewriter.UserProvidedDecorator.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(code int) {
	if w.replaced {
		return
	}
	if !w.noted.Load() || code < http.StatusBadRequest {
		w.ResponseWriter.WriteHeader(code)
		return
	}
	w.replaced = true
	refused := refusal.NotStarted(refusal.Unavailable, "",
		"the operator cannot ask kube-apiserver now who sends this request and what that user may do; try again")
	refused.ErrStatus.TypeMeta.Kind, refused.ErrStatus.APIVersion = "Status", "v1"
	refused.ErrStatus.Details.RetryAfterSeconds = retryAfterSeconds
	w.Header().Set("Content-Type", "application/json")
	w.Header().Del("Content-Length")
	w.ResponseWriter.WriteHeader(int(refused.ErrStatus.Code))
	_ = json.NewEncoder(w.ResponseWriter).Encode(&refused.ErrStatus) //nolint:errchkjson // A Status always has a JSON form.
}

// Write implements http.ResponseWriter. It drops the body of an answer that was replaced.
func (w *writer) Write(p []byte) (int, error) {
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// Is reports whether kube-apiserver could not be asked, or failed to answer. Any other
// error is an answer. The error may have others in it.
func Is(err error) bool {
	found := false
	_ = utilerrors.FilterOut(err, func(err error) bool {
		var network net.Error
		var status apierrors.APIStatus
		switch {
		case errors.As(err, &status):
			found = found || status.Status().Code >= http.StatusInternalServerError || status.Status().Code == http.StatusTooManyRequests
		case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
			found = true
		}
		return false
	})
	return found
}
