package stream

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// encodeStatus returns how a command ended in the form that the protocol has on its
// error stream. Since v4 that is a Status. Before, it is the message of a failure, and
// nothing for a success.
func encodeStatus(status *metav1.Status, protocol string) []byte {
	if strings.HasPrefix(protocol, "v4.") || strings.HasPrefix(protocol, "v5.") {
		text, _ := json.Marshal(status) //nolint:errchkjson // a Status always has a JSON form
		return text
	}
	if status.Status == metav1.StatusSuccess {
		return nil
	}
	return []byte(status.Message)
}
