package status

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// UIDs remembers the UIDs of objects by their names. When an object is gone, only its
// name is left. The zero value is ready to use, and methods are safe for concurrent
// use.
type UIDs struct {
	mu    sync.Mutex
	known map[types.NamespacedName]types.UID
}

// Replace remembers the UID of the object of that name, or forgets the name if the
// UID is empty. It returns the UID of an earlier object of that name, or "" if there
// was none or it has the same UID.
func (u *UIDs) Replace(name types.NamespacedName, uid types.UID) types.UID {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known == nil {
		u.known = map[types.NamespacedName]types.UID{}
	}
	previous := u.known[name]
	if uid == "" {
		delete(u.known, name)
	} else {
		u.known[name] = uid
	}
	if previous == uid {
		return ""
	}
	return previous
}
