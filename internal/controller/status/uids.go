package status

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// UIDs remembers which object had a name, since an object that is gone cannot
// tell. Its zero value is ready to use.
type UIDs struct {
	mu    sync.Mutex
	known map[types.NamespacedName]types.UID
}

// Replace remembers the UID, or forgets the name when it is empty, and returns
// the UID of an earlier object of that name.
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
