package sshkey

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"sync"
)

// theFile is the next step where a key was spoiled on its way into the Secret.
const theFile = "; put the file itself there, as kubectl create secret generic --from-file=ssh-privatekey=FILE does"

// notAKey says what the text is that should be a private key.
func notAKey(text string) error {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.ContainsRune(text, 0):
		return errors.New("is not plain text, it seems to be UTF-16; convert it with iconv -f UTF-16 -t UTF-8")
	case strings.Contains(trimmed, "BEGIN SSH2"):
		return errors.New("is in the format of ssh.com; convert it with ssh-keygen -i -f FILE")
	case strings.Contains(trimmed, "PUBLIC KEY"), IsType(strings.SplitN(trimmed, " ", 2)[0]):
		return errors.New("is a public key; use the private key instead, the file without .pub")
	case strings.HasPrefix(trimmed, "PuTTY-User-Key-File"):
		return errors.New("is in PuTTY's format; convert it with puttygen -O private-openssh")
	case strings.Contains(trimmed, "-----BEGIN CERTIFICATE"):
		return errors.New("is a certificate; put the private key there")
	case !strings.Contains(trimmed, "-----BEGIN"):
		return notPEM(trimmed)
	case strings.Contains(trimmed, `\n`):
		return errors.New(`has the two characters \n where its lines should end` + theFile)
	case !strings.Contains(trimmed, "\n"):
		return errors.New("is all in one line" + theFile)
	}
	return errors.New("is cut off or damaged; copy the whole file again, from its BEGIN line to its END line")
}

// notPEM says what a text is that does not begin like a key.
func notPEM(text string) error {
	decoded, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\n", ""))
	switch {
	case err == nil && strings.Contains(string(decoded), "-----BEGIN"):
		return errors.New("is encoded in base64 twice; Kubernetes encodes what is under data once, so put the file's own text " +
			"under stringData, or its base64 under data")
	case err == nil && strings.HasPrefix(string(decoded), "openssh-key-v1"):
		return errors.New("lacks its BEGIN and END lines" + theFile)
	case strings.Contains(text, "PRIVATE KEY"):
		return errors.New("has characters other than five hyphens before and after BEGIN and END, as word processors write them" +
			theFile)
	}
	return errors.New("is not a private key; put there the file that ssh-keygen wrote")
}

// name is how algorithms are called.
var name = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9@.-]{1,40}$`) })

// known returns the name of an algorithm, which stands in the key, if it looks like one.
func known(algorithm string) string {
	if name().MatchString(algorithm) {
		return algorithm
	}
	return "a cipher of another name"
}
