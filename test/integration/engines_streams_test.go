package integration

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/poolset"
)

// A pool with the defaults carries the streams of a project with many services, whose
// logs are followed, and short requests beside them do not wait.
func TestManyLongStreamsOfAnEngineLeaveRoomForShortRequests(t *testing.T) {
	const streams = 45
	_, _, ct, p := warmEngine(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var open sync.WaitGroup
	for range streams {
		open.Go(func() {
			response, end, err := requestOn(ctx, p, ct, "/events")
			if err != nil {
				t.Error(err)
				return
			}
			context.AfterFunc(ctx, func() {
				_ = response.Body.Close()
				end()
			})
		})
	}
	open.Wait()
	if got := observe(p, ct).Leases; got != streams {
		t.Errorf("%d streams are open, want %d", got, streams)
	}
	begin := time.Now()
	response, end, err := requestOn(ctx, p, ct, "/containers/json")
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if took := time.Since(begin); response.StatusCode != http.StatusOK || took > 2*time.Second {
		t.Errorf("a short request was answered with %s after %s", response.Status, took)
	}
}

// requestOn sends a request to the target's API on a lease, which lasts until end is called.
func requestOn(
	ctx context.Context, p *v1alpha1.ConnectionPool, ct *v1alpha1.ConnectionTarget, path string,
) (response *http.Response, end func(), err error) {
	lease, err := env.pools.Acquire(ctx, poolset.Request{Pool: string(p.UID), Target: string(ct.UID)})
	if err != nil {
		return nil, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	response, err = lease.Conn().(driver.Proxier).Proxy(request)
	return response, func() { env.pools.Return(lease, nil) }, err
}
