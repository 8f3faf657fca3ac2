package serving

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	// period is how long to wait between two checks that all is as it should be.
	period = time.Minute
	// retryPeriod is how long to wait after a failure.
	retryPeriod = 3 * time.Second
	// minGap is how long a replica waits after it has followed a change.
	minGap = time.Second
	// callTimeout bounds how long kube-apiserver may take for one check.
	callTimeout = 20 * time.Second
	// spread is the part of a period that is added at random, so that replicas do
	// not ask at the same time.
	spread = 0.1
)

// repeat acts once in each period until ctx ends. An act that fails is tried again
// until it works.
func repeat(ctx context.Context, task string, act func(context.Context) error) {
	logger := log.FromContext(ctx).WithName("serving").WithValues("task", task)
	wait.JitterUntilWithContext(ctx, func(ctx context.Context) {
		if failed := untilItWorks(ctx, logger, act); failed && ctx.Err() == nil {
			logger.Info("works again")
		}
	}, period, spread, true)
}

// untilItWorks acts until the act succeeds or ctx ends. It reports whether the act
// failed before, and logs the first failure only.
func untilItWorks(ctx context.Context, logger logr.Logger, act func(context.Context) error) (failed bool) {
	// The error is that of ctx; those of the act are logged.
	_ = wait.PollUntilContextCancel(ctx, wait.Jitter(retryPeriod, spread), true, func(ctx context.Context) (bool, error) {
		err := bounded(ctx, act)
		if err != nil && ctx.Err() == nil && !failed {
			logger.Error(err, "failed; what is in memory stays in use, and it is tried again until it works")
			failed = true
		}
		return err == nil, nil
	})
	return failed
}

func bounded(ctx context.Context, act func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return act(ctx)
}
