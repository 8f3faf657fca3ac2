package stream

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// encodeStatus writes how a command ended as the protocol expects it on its
// error stream: as a Status since v4; before, the message of a failure and
// nothing for a success.
func encodeStatus(status *metav1.Status, protocol string) []byte {
	if strings.HasPrefix(protocol, "v4.") || strings.HasPrefix(protocol, "v5.") {
		text, _ := json.Marshal(status) //nolint:errchkjson // A Status always has a JSON form.
		return text
	}
	if status.Status == metav1.StatusSuccess {
		return nil
	}
	return []byte(status.Message)
}
