package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connpool/connpool/client"
	"github.com/connpool/connpool/test/sshserver"
)

// measureLoad puts as much load on the live API as two cores can serve. The SSH
// server is in this process, so that no time is spent on starting processes.
func measureLoad(ctx context.Context, s settings) ([]row, error) {
	server, err := sshserver.Start(sshserver.Options{Handler: echo})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	c, err := startCluster(ctx, s.say)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	both, err := c.open(ctx, endpoint{server.Addr, "bench", server.PrivateKey, server.HostKey}, 16)
	if err != nil {
		return nil, err
	}
	before, err := descriptors(c.operator.Pid())
	if err != nil {
		return nil, err
	}
	sustained, err := sustain(ctx, s, both.direct, 500)
	if err != nil {
		return nil, err
	}
	streams, err := holdStreams(ctx, s, both.direct)
	if err != nil {
		return nil, err
	}
	after, err := settledDescriptors(ctx, c.operator.Pid(), before)
	if err != nil {
		return nil, err
	}
	return append(append(sustained, streams...),
		figure("descriptors of the operator left by all of it", float64(after-before), "").atMost(8)), nil
}

// echo answers `true` at once and anything else with its input.
func echo(_ context.Context, command sshserver.Command) int {
	if command.Line != "'true'" {
		_, _ = io.Copy(command.Stdout, command.Stdin)
	}
	return 0
}

// sustain sends so many commands a second, whether or not earlier ones have
// ended.
func sustain(ctx context.Context, s settings, u user, rate int) ([]row, error) {
	span := of(s, time.Minute, 2*time.Second)
	s.say("%d commands a second for %s", rate, span)
	var running sync.WaitGroup
	var failed atomic.Int64
	var mu sync.Mutex
	var took []float64
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	begin := time.Now()
	for range int(span.Seconds()) * rate {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
		running.Go(func() {
			sent := time.Now()
			if err := u.exec("").do(ctx); err != nil && failed.Add(1) == 1 {
				s.say("the first failure: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, float64(time.Since(sent).Microseconds())/1e3)
		})
	}
	running.Wait()
	reached := float64(len(took)) / time.Since(begin).Seconds()
	name := fmt.Sprintf("%s of JSON execs: ", span)
	return []row{
		figure(name+"commands a second", reached, "").atLeast(float64(rate) * 0.99),
		figure(name+"failures", float64(failed.Load()), "").atMost(0),
		figure(name+"p50", percentile(took, 50), "ms"),
		figure(name+"p99", percentile(took, 99), "ms"),
	}, nil
}

// holdStreams opens streams until all of them are open, and sends a line through
// each and back.
func holdStreams(ctx context.Context, s settings, u user) ([]row, error) {
	count := of(s, 1000, 50)
	s.say("%d streams at the same time", count)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var opened, ended sync.WaitGroup
	opened.Add(count)
	release, errs := make(chan struct{}), make(chan error, count)
	begin := time.Now()
	for range count {
		ended.Go(func() {
			if err := stream(ctx, u, &opened, release); err != nil {
				errs <- err
			}
		})
	}
	all := make(chan struct{})
	go func() { opened.Wait(); close(all) }()
	select {
	case <-all:
	case err := <-errs:
		return nil, fmt.Errorf("a stream failed: %w", err)
	}
	took := time.Since(begin)
	close(release)
	ended.Wait()
	close(errs)
	return []row{
		figure(fmt.Sprintf("%d streams at once: failures", count), float64(len(errs)), "").atMost(0),
		figure(fmt.Sprintf("%d streams at once: until the last one is open", count), took.Seconds(), "s"),
	}, nil
}

// stream sends a line, waits for its echo, and ends when it is released.
func stream(ctx context.Context, u user, opened *sync.WaitGroup, release <-chan struct{}) error {
	input, send := io.Pipe()
	receive, output := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := u.pool.Stream(ctx, client.Command{Argv: []string{"cat"}, Stdin: input}, client.Streams{Stdout: output})
		_ = output.CloseWithError(errors.Join(io.EOF, err))
		done <- err
	}()
	if _, err := io.WriteString(send, "hello\n"); err != nil {
		return err
	}
	lines := bufio.NewReader(receive)
	if line, err := lines.ReadString('\n'); line != "hello\n" {
		return fmt.Errorf("got %q: %w", line, err)
	}
	opened.Done()
	<-release
	_ = send.Close()
	discard(lines)
	return <-done
}

// descriptors counts a process's open files.
func descriptors(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries), err
}

// settledDescriptors counts when those of closed connections are gone.
func settledDescriptors(ctx context.Context, pid, baseline int) (int, error) {
	for end := time.Now().Add(15 * time.Second); ; {
		count, err := descriptors(pid)
		if err != nil || count <= baseline || time.Now().After(end) {
			return count, err
		}
		if err := pause(ctx, time.Second); err != nil {
			return 0, err
		}
	}
}
