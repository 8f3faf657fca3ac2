package connectiontarget

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// uids remembers which object had a name, since an object that is gone cannot
// tell.
type uids struct {
	mu    sync.Mutex
	known map[types.NamespacedName]types.UID
}

// replace remembers the UID, or forgets the name when it is empty, and returns
// the UID of an earlier object of that name.
func (u *uids) replace(name types.NamespacedName, uid types.UID) types.UID {
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
