package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/internal/poolset"
)

// identity is what a connection is called. Both names follow from the UIDs of its
// pool and target and its number, so that a name can be found again and nothing
// has to be remembered.
type identity struct {
	name string
	uid  types.UID
}

const (
	// maxTargetInName leaves room for a dash and the digits in 63 characters.
	maxTargetInName = 63 - 1 - nameDigits
	// nameDigits tell apart the connections to one target.
	nameDigits = 10
)

func identityOf(pool, target poolset.Ref, id uint64) identity {
	sum := sha256.Sum256([]byte(pool.UID + "/" + target.UID + "/" + strconv.FormatUint(id, 10)))
	name := namePrefix(target.Name) + hex.EncodeToString(sum[:])[:nameDigits]
	return identity{name: name, uid: types.UID(uuid.NewSHA1(uuid.Nil, sum[:]).String())}
}

// namePrefix is the part of a name that people read.
func namePrefix(target string) string {
	if len(target) > maxTargetInName {
		target = strings.TrimRight(target[:maxTargetInName], "-.")
	}
	return target + "-"
}

// find returns the connection of that name in the namespace.
func (r *Registry) find(namespace, name string) (poolset.Connection, bool) {
	for _, c := range r.Pools.Connections(namespace) {
		if strings.HasPrefix(name, namePrefix(c.Target.Name)) && identityOf(c.Pool, c.Target, c.ID).name == name {
			return c, true
		}
	}
	return poolset.Connection{}, false
}
