package serving

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

var (
	testNames = Options{Namespace: "connpool-system", Service: "connpool-live"}.names()
	epoch     = time.Date(2030, time.January, 1, 0, 0, 0, 0, time.UTC)
)

func mustRenew(t *testing.T, now time.Time, present contents) (contents, renewal) {
	t.Helper()
	next, due, err := renew(now, present, testNames)
	if err != nil {
		t.Fatal(err)
	}
	return next, due
}

// store writes and reads back, as the Secret does.
func store(t *testing.T, m contents) contents {
	t.Helper()
	data := map[string][]byte{}
	if err := m.write(data); err != nil {
		t.Fatal(err)
	}
	return readContents(data)
}

func verify(m contents, bundle []byte, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	_, err := m.certificate.Leaf.Verify(x509.VerifyOptions{DNSName: testNames[0], Roots: roots, CurrentTime: now})
	return err
}

func TestAFirstCertificateIsGoodForAllNames(t *testing.T) {
	first, due := mustRenew(t, epoch, contents{})
	first = store(t, first)
	if due.authority == "" || due.certificate == "" {
		t.Errorf("nothing was there, but due is %+v", due)
	}
	for _, name := range testNames {
		if err := first.certificate.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if err := verify(first, first.bundle(), epoch.Add(-30*time.Minute)); err != nil {
		t.Errorf("a client whose clock is half an hour behind: %v", err)
	}
	if _, due := mustRenew(t, epoch.Add(time.Second), first); due.needed() {
		t.Errorf("a second later there is something due: %+v", due)
	}
}

// Every 12 hours for 12 years a client verifies the certificate with a bundle that
// is up to 12 hours old: clients may be that late.
func TestRotationIsInvisibleForYears(t *testing.T) {
	const step = 12 * time.Hour
	present, _ := mustRenew(t, epoch, contents{})
	bundle := present.bundle()
	authorities, certificates, most := 0, 0, 0
	for now := epoch; now.Before(epoch.Add(12 * 365 * day)); now = now.Add(step) {
		next, due := mustRenew(t, now, present)
		if err := verify(next, bundle, now); err != nil {
			t.Fatalf("after %s: %v (due: %+v)", now.Sub(epoch), err, due)
		}
		if err := verify(present, next.bundle(), now); err != nil {
			t.Fatalf("after %s, with the earlier certificate: %v (due: %+v)", now.Sub(epoch), err, due)
		}
		if left := next.certificate.Leaf.NotAfter.Sub(now); left < certificateLife/3-2*step {
			t.Fatalf("after %s: the certificate ends in %s", now.Sub(epoch), left)
		}
		if due.needed() {
			next = store(t, next)
		}
		if due.authority != "" {
			authorities++
		}
		if due.certificate != "" {
			certificates++
		}
		most = max(most, len(next.authorities))
		present, bundle = next, next.bundle()
	}
	if authorities != 1 || most != 2 || len(present.authorities) != 1 {
		t.Errorf("%d new authorities, at most %d at a time, %d at the end; want 1, 2, 1", authorities, most, len(present.authorities))
	}
	if certificates < 12*365/60 || certificates > 12*365/50 {
		t.Errorf("%d certificates in 12 years, want one in 51 to 60 days", certificates)
	}
}

func TestWhatIsDueDependsOnTheSecretAndTheTime(t *testing.T) {
	first, _ := mustRenew(t, epoch, contents{})
	foreign, _ := mustRenew(t, epoch, contents{})
	successor, _ := mustRenew(t, epoch.Add(authorityLife-reserve+time.Hour), first)
	tests := map[string]struct {
		after       time.Duration
		edit        func(map[string][]byte)
		authority   string
		certificate string
		forgotten   int
	}{
		"a young certificate stays":                       {after: 40 * day},
		"an old one is renewed by the same authority":     {after: 61 * day, certificate: "two thirds"},
		"one that has run out is renewed":                 {after: 400 * day, certificate: "last day"},
		"nothing readable is made anew":                   {edit: func(d map[string][]byte) { clear(d) }, authority: "none", certificate: "none"},
		"a lost certificate is issued again":              {edit: func(d map[string][]byte) { delete(d, certificateKey) }, certificate: "none"},
		"a key of something else is as good as none":      {edit: func(d map[string][]byte) { take(t, d, foreign, privateKeyKey) }, certificate: "none"},
		"a certificate of another authority is replaced":  {edit: func(d map[string][]byte) { take(t, d, foreign, certificateKey, privateKeyKey) }, certificate: "signed"},
		"an authority without its key gets a successor":   {edit: func(d map[string][]byte) { delete(d, authorityKeyKey) }, authority: "key is known"},
		"an authority with a wrong key gets one as well":  {edit: func(d map[string][]byte) { take(t, d, foreign, authorityKeyKey) }, authority: "key is known"},
		"a lost authority takes its certificates with it": {edit: func(d map[string][]byte) { delete(d, authoritiesKey) }, authority: "key is known", certificate: "signed"},
		"what is of the future is replaced":               {after: -2 * day, authority: "future", certificate: "future"},
		"a new authority is trusted before it signs": {after: authorityLife - reserve + 2*time.Hour, edit: func(d map[string][]byte) {
			take(t, d, successor, authoritiesKey, authorityKeyKey, certificateKey, privateKeyKey)
		}},
		"an authority that nothing needs is forgotten": {after: authorityLife - reserve + 100*day, edit: func(d map[string][]byte) {
			take(t, d, successor, authoritiesKey, authorityKeyKey, certificateKey, privateKeyKey)
		}, certificate: "last day", forgotten: 1},
		"the last year of an authority brings its successor": {after: authorityLife - reserve + time.Hour, authority: "last year", certificate: "last day"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			data := map[string][]byte{}
			if err := first.write(data); err != nil {
				t.Fatal(err)
			}
			if tc.edit != nil {
				tc.edit(data)
			}
			next, due := mustRenew(t, epoch.Add(tc.after), readContents(data))
			if !says(due.authority, tc.authority) || !says(due.certificate, tc.certificate) || due.forgotten != tc.forgotten {
				t.Errorf("due is %+v", due)
			}
			if err := verify(next, next.bundle(), epoch.Add(tc.after)); err != nil {
				t.Error(err)
			}
		})
	}
}

// take copies keys of another Secret.
func take(t *testing.T, into map[string][]byte, from contents, keys ...string) {
	t.Helper()
	data := map[string][]byte{}
	if err := from.write(data); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		into[key] = data[key]
	}
}

// says reports whether a reason contains the words. Without words there must be no
// reason.
func says(reason, words string) bool {
	if words == "" {
		return reason == ""
	}
	return strings.Contains(reason, words)
}

func TestACertificateThatLacksANameIsReplaced(t *testing.T) {
	first, _ := mustRenew(t, epoch, contents{})
	names := append([]string{"connpool.example.com"}, testNames...)
	next, due, err := renew(epoch, first, names)
	if err != nil {
		t.Fatal(err)
	}
	if due.certificate == "" || due.authority != "" || next.certificate.Leaf.VerifyHostname("connpool.example.com") != nil {
		t.Errorf("due is %+v, and the names are %v", due, next.certificate.Leaf.DNSNames)
	}
}

func TestRenewalsAreSpread(t *testing.T) {
	times := map[time.Time]bool{}
	for range 20 {
		m, _ := mustRenew(t, epoch, contents{})
		at := renewalTime(m.certificate.Leaf)
		if at.Before(epoch.Add(50*day)) || at.After(epoch.Add(60*day)) {
			t.Errorf("a renewal after %s", at.Sub(epoch))
		}
		times[at] = true
	}
	if len(times) < 19 {
		t.Errorf("20 certificates are renewed at %d times", len(times))
	}
}
