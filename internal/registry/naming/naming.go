// Package naming names live connections.
//
//	naming.Of(pool, target, 7).Name // web-1-0f3a9c1b22
//
// Name and UID follow from the UIDs of pool and target and the number of the connection,
// so nothing has to be remembered, and a connection is found by making all names.
package naming

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/types"

	"github.com/connpool/connpool/internal/poolset"
)

// Identity is the name and the UID of a connection.
type Identity struct {
	Name string
	UID  types.UID
}

const (
	// maxTargetInName leaves room for a dash and the digits in 63 characters.
	maxTargetInName = 63 - 1 - nameDigits
	// nameDigits tell apart the connections to one target.
	nameDigits = 10
)

// Of returns the identity of a connection by its number.
func Of(pool, target poolset.Ref, id uint64) Identity {
	sum := sha256.Sum256([]byte(pool.UID + "/" + target.UID + "/" + strconv.FormatUint(id, 10)))
	name := namePrefix(target.Name) + hex.EncodeToString(sum[:])[:nameDigits]
	return Identity{Name: name, UID: types.UID(uuid.NewSHA1(uuid.Nil, sum[:]).String())}
}

// Possible reports, quicker than Of, whether a connection to the target may have that name.
func Possible(target, name string) bool { return strings.HasPrefix(name, namePrefix(target)) }

func namePrefix(target string) string {
	if len(target) > maxTargetInName {
		target = strings.TrimRight(target[:maxTargetInName], "-.")
	}
	return target + "-"
}
