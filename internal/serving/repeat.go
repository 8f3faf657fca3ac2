package serving

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// period is how often is looked whether all is still as it should be.
	period = time.Minute
	// retryPeriod is how long to wait after a failure.
	retryPeriod = 3 * time.Second
	// callTimeout bounds how long kube-apiserver may take for one look.
	callTimeout = 20 * time.Second
)

// repeat acts until ctx ends. Of failures in a row it logs the first, and then
// their end.
func repeat(ctx context.Context, what string, act func(context.Context) error) {
	logger := log.FromContext(ctx).WithName("serving").WithValues("task", what)
	failing := false
	for ctx.Err() == nil {
		err := bounded(ctx, act)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			logger.Error(err, "failed; what is in memory stays in use, and it is tried again until it works")
		case err == nil && failing:
			logger.Info("works again")
		}
		failing = err != nil
		pause(ctx, failing)
	}
}

func bounded(ctx context.Context, act func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return act(ctx)
}

// pause waits for the next turn or the end of ctx.
func pause(ctx context.Context, failing bool) {
	length := period
	if failing {
		length = retryPeriod
	}
	timer := time.NewTimer(wait.Jitter(length, 0.1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
