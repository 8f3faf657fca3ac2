package apiserver

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

// undecidedKey is the key of an *atomic.Bool in the context of a request, which is true if
// kube-apiserver could not be asked who sends the request, or what that user may do.
type undecidedKey struct{}

// leaveUndecided notes that kube-apiserver could not be asked about a request.
func leaveUndecided(ctx context.Context) {
	if undecided, ok := ctx.Value(undecidedKey{}).(*atomic.Bool); ok {
		undecided.Store(true)
	}
}

// withUndecided answers 503 to requests about which kube-apiserver could not be asked. The
// generic server's handlers answer 401, 403 or 500 to them: a client with valid credentials would
// give up, or would not know whether a command has run.
func withUndecided(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		undecided := &atomic.Bool{}
		wrapped := responsewriter.WrapForHTTP1Or2(&undecidedWriter{ResponseWriter: w, undecided: undecided})
		next.ServeHTTP(wrapped, req.WithContext(context.WithValue(req.Context(), undecidedKey{}, undecided)))
	})
}

// undecidedWriter replaces the answer to a request that was left undecided.
type undecidedWriter struct {
	http.ResponseWriter

	undecided *atomic.Bool
	replaced  bool
}

// Unwrap implements responsewriter.UserProvidedDecorator.
func (w *undecidedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *undecidedWriter) WriteHeader(code int) {
	if w.replaced {
		return
	}
	if !w.undecided.Load() || code < http.StatusBadRequest {
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
func (w *undecidedWriter) Write(p []byte) (int, error) {
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// isOutage reports whether kube-apiserver could not be asked, or failed to answer. Any other
// error is an answer. The error may have others in it.
func isOutage(err error) bool {
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
