package connectiontarget

import (
	"fmt"

	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/controller/consent"
)

// checkConsent checks that every Secret of the path that names hosts names the host that
// gets its credentials, and the jump hosts on the way: each of them could pose as that
// host, since the target's author also says how hosts prove themselves.
func checkConsent(f facts, _ Drivers) *problem {
	for i, here := range f.path {
		hosts, limited := "", false
		if here.secret != nil {
			hosts, limited = here.secret.Annotations[v1alpha1.HostsAnnotation]
		}
		if !limited {
			continue
		}
		for _, on := range f.path[i:] {
			host := consent.HostOf(on.access().Endpoint)
			if host == "" || consent.Allows(hosts, host) {
				continue
			}
			_, name := credentialsOf(here.target)
			message := fmt.Sprintf("the annotation %s of the Secret %s does not name the host %s, so its credentials are not sent there; "+
				"ask the Secret's owner to add the host, or use another Secret", v1alpha1.HostsAnnotation, name, host)
			if i > 0 {
				return jumpNotReady(here.name, message)
			}
			return credentialsMissing(message)
		}
	}
	return nil
}
