package kube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/connpool/connpool/internal/driver"
)

// accountOf names the account that a config acts as at its server, or returns "" if that
// cannot be told. It serves to recognize that a credential was replaced by another one
// of the same account, and proves nothing: the server decides who an account is.
func (c *config) accountOf() string {
	var name string
	switch {
	case c.token != "":
		name = subjectOf(c.token)
	case c.subject != "":
		name = "certificate of " + c.subject
	}
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%q %q %q %q", c.host, c.path, c.serverName, name)
}

// subjectOf returns the issuer and the subject of a JSON Web Token, such as those of
// ServiceAccounts, without verifying it, or "" for any other token.
func subjectOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	if json.Unmarshal(text, &claims) != nil || claims.Subject == "" {
		return ""
	}
	return fmt.Sprintf("%q of %q", claims.Subject, claims.Issuer)
}

// superseded reports whether the server accepts another credential of the client's
// account, with which another client of this driver was dialed. That is so after the
// token in a Secret was replaced.
func (d *Driver) superseded(c *client) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, other := range d.clients {
		if other != c && other.account != "" && other.account == c.account && other.accepted.Load() {
			return true
		}
	}
	return false
}

// refused ends the connections whose credentials the server refuses. Those of a
// credential that was replaced stay while something runs on them: the server has
// authenticated it once, and does not again. The pool gives them to no one else.
func (c *client) refused(by *answer) {
	c.accepted.Store(false)
	problem := c.config.answerError(by, driver.StageKeepalive)
	if !c.superseded(c) || c.network.endIdle(problem) {
		c.end(problem)
	}
}
