package poolset

import (
	"testing"

	"github.com/connpool/connpool/internal/driver"
)

func TestWhatIsExplainedOfATargetLastsUntilItIsRemoved(t *testing.T) {
	withFixture(t, func(f *fixture) {
		missing := &driver.Error{Reason: driver.CredentialsMissing, Message: "the Secret does not exist"}
		f.set.Explain("web-uid", missing)
		if got := f.set.Problem("web-uid"); got != missing {
			f.Errorf("the problem is %v", got)
		}
		f.set.Explain("web-uid", nil)
		if got := f.set.Problem("web-uid"); got != nil {
			f.Errorf("the problem that is gone is %v", got)
		}
		f.set.Explain("web-uid", missing)
		f.set.Remove("web-uid")
		if got := f.set.Problem("web-uid"); got != nil {
			f.Errorf("the problem of a target that is gone is %v", got)
		}
	})
}
