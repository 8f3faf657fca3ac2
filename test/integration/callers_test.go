package integration

import (
	"fmt"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/client"
)

// callers is how many commands come at once.
const callers = 200

// forCallers is what a pool sets for so many of them: room in the queue. The rest are the
// defaults.
func forCallers(spec *v1alpha1.ConnectionPoolSpec) {
	spec.Acquire.MaxPending = new(int32(callers))
	spec.Size.Max = new(int32(20))
}

// An sshd with its defaults takes 10 sessions on a connection, and drops new connections
// from the tenth one that has not logged in.
func TestManyCallersShareAServerWithItsDefaults(t *testing.T) {
	f := warm(t, startPlainSSHD(t, "MaxSessions 10", "MaxStartups 10:30:100"), forCallers)
	const users = 4
	var all []*client.Pool
	for i := range users {
		config := rest.CopyConfig(env.config)
		config.Impersonate = rest.ImpersonationConfig{UserName: fmt.Sprintf("caller-%d", i), Groups: []string{"system:masters"}}
		c, err := client.New(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.CloseIdleConnections)
		all = append(all, c.Pool(f.pool.Namespace, f.pool.Name))
	}
	eventually(t, 15*time.Second, "the pool serves", func() (bool, string) {
		_, err := all[0].Exec(t.Context(), client.Command{Shell: "true"})
		return err == nil, errorText(err)
	})
	var running sync.WaitGroup
	begin := make(chan struct{})
	for i := range callers {
		running.Go(func() {
			<-begin
			if _, err := all[i%users].Exec(t.Context(), client.Command{Shell: "sleep 0.1"}); err != nil {
				t.Errorf("a command of user %d failed: %v", i%users, err)
			}
		})
	}
	close(begin)
	running.Wait()
	c, err := client.New(env.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	list, err := c.Connections(t.Context(), f.pool.Namespace, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(list.Items); n < 1 || n > 25 {
		t.Errorf("%d connections, want at most 25", n)
	}
}
