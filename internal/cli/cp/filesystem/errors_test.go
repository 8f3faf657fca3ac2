package filesystem

import (
	"strings"
	"testing"

	"github.com/pkg/sftp"
)

// A full disk is the most frequent failure for which the protocol has no words.
func TestAFailureWithoutWordsSaysWhereToLook(t *testing.T) {
	got := Explain("dump.sql", &sftp.StatusError{Code: uint32(sftp.ErrSSHFxFailure)})
	if !strings.HasPrefix(got.Error(), `"dump.sql": `) || !strings.Contains(got.Error(), "df") {
		t.Errorf("it says %v", got)
	}
	if got := Explain("dump.sql", &sftp.StatusError{Code: uint32(sftp.ErrSSHFxBadMessage)}); strings.Contains(got.Error(), "df") {
		t.Errorf("of another failure it says %v", got)
	}
}
