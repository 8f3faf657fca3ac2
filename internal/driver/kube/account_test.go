package kube

import (
	"encoding/base64"
	"testing"
)

func TestAccountsAreToldApart(t *testing.T) {
	token := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	first := config{host: "a", token: token(`{"iss":"i","sub":"system:serviceaccount:web:connpool","exp":1}`)}
	account := first.accountOf()
	if account == "" {
		t.Fatal("a ServiceAccount's token names no account")
	}
	for name, c := range map[string]struct {
		config config
		same   bool
	}{
		"a newer token":           {config{host: "a", token: token(`{"exp":2,"sub":"system:serviceaccount:web:connpool","iss":"i"}`)}, true},
		"another account":         {config{host: "a", token: token(`{"iss":"i","sub":"system:serviceaccount:web:other"}`)}, false},
		"another issuer":          {config{host: "a", token: token(`{"iss":"j","sub":"system:serviceaccount:web:connpool"}`)}, false},
		"another server":          {config{host: "b", token: first.token}, false},
		"another path":            {config{host: "a", path: "/c", token: first.token}, false},
		"a certificate":           {config{host: "a", subject: "system:serviceaccount:web:connpool"}, false},
		"a token without claims":  {config{host: "a", token: "opaque"}, false},
		"a token that is no JSON": {config{host: "a", token: "a.b.c"}, false},
	} {
		if got := c.config.accountOf(); (got == account) != c.same {
			t.Errorf("%s: %s, the first is %s", name, got, account)
		}
	}
	for _, opaque := range []config{{host: "a", token: "opaque"}, {host: "a", token: token("{}")}, {host: "a", token: "a.!.c"}} {
		if got := opaque.accountOf(); got != "" {
			t.Errorf("%q names the account %s", opaque.token, got)
		}
	}
}
