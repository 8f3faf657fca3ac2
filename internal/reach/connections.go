package reach

import (
	"fmt"
	"sync"

	"github.com/connpool/connpool/internal/driver"
)

// connections bounds the connections of each namespace, so that no tenant can take the
// memory and the descriptors of all.
type connections struct {
	mu sync.Mutex
	// most is how many a namespace may have, 0 for no bound; held is how many it has,
	// those that are being dialed included.
	most int
	held map[string]int
}

// take takes the place of one connection of a namespace, and returns what gives it
// back, to be called once. The error is a *driver.Error.
func (c *connections) take(namespace string) (give func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 0 && c.held[namespace] >= c.most {
		return nil, &driver.Error{
			Reason: driver.ConnectionLimit, Stage: driver.StagePrepare, Message: fmt.Sprintf(
				"namespace %s has %d connections, as many as the operator's --max-connections-per-namespace allows; "+
					"lower the size of pools of the namespace, pause some, or ask an administrator to raise the flag",
				namespace, c.held[namespace]),
		}
	}
	c.held[namespace]++
	return func() { c.give(namespace) }, nil
}

func (c *connections) give(namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[namespace]--
	if c.held[namespace] == 0 {
		delete(c.held, namespace)
	}
}

// LimitConnections bounds how many connections the targets of one namespace may have,
// jump hosts and those that are being dialed included; 0 is no bound. More than that
// are not dialed, with the reason ConnectionLimit. Those that live are not closed.
func (n *Network) LimitConnections(perNamespace int) {
	n.connections.mu.Lock()
	defer n.connections.mu.Unlock()
	n.connections.most = perNamespace
}
