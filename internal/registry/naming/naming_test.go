package naming

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/connpool/connpool/internal/poolset"
)

func TestANameIsTheSameForEverAndForNothingElse(t *testing.T) {
	pool, target := poolset.Ref{UID: "p"}, poolset.Ref{UID: "t", Name: strings.Repeat("a-long.name-", 20)}
	first := Of(pool, target, 1)
	if first != Of(pool, target, 1) {
		t.Error("two names for one connection")
	}
	for _, other := range []Identity{
		Of(pool, target, 2), Of(poolset.Ref{UID: "q"}, target, 1), Of(pool, poolset.Ref{UID: "u", Name: target.Name}, 1),
	} {
		if other.Name == first.Name || other.UID == first.UID {
			t.Errorf("%v and %v are different connections", first, other)
		}
	}
	if problems := validation.IsDNS1123Subdomain(first.Name); len(problems) > 0 || len(first.Name) > 63 {
		t.Errorf("name %s: %v", first.Name, problems)
	}
}
