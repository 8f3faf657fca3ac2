package exec

import (
	"context"
	"net/http"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/registry/fanout"
	"github.com/connpool/connpool/internal/registry/refusal"
)

// stopMany ends the command on many targets that has the request ID of an object. Its own
// answer says what became of each target.
func (r *request) stopMany(ctx context.Context, w http.ResponseWriter, object *live.Exec) error {
	if problems := fanout.ValidateStop(&object.Spec); len(problems) > 0 {
		return refusal.Invalid(problems)
	}
	r.use.RequestID = object.Spec.RequestID
	key, err := r.key(ctx, r.use.RequestID)
	if err != nil {
		return err
	}
	if !r.commands.running.Stop(key) {
		return refusal.NotStarted(refusal.NotFound, "", "no command of yours on targets of this pool runs under that spec.requestID")
	}
	r.use.Audit("fan-out stopped")
	object.Status = fanout.Stopped(r.use.RequestID)
	send(w, r.commands.encode(object))
	return nil
}
