package ssh

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/dialerr"
	"github.com/connpool/connpool/internal/driver/ssh/knownhosts"
)

// hints are the words for SSH in the sentences of dialerr.Connect.
var hints = dialerr.Hints{Address: "the address", Name: "its spelling", Port: "the port", Server: "the SSH server"}

// handshakeError classifies the library's error for a handshake that this driver did
// not end itself.
func handshakeError(err error, stage driver.Stage, address string) *driver.Error {
	if negotiation, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok {
		return negotiationError(negotiation, err)
	}
	if words := disconnectWords(err); words != "" {
		return driver.Errorf(driver.Unreachable, stage,
			"%s ended the connection and said %q; look into the server's log", address, words).Because(err)
	}
	if isClosed(err) {
		return driver.Errorf(driver.Unreachable, stage,
			"%s closed the connection; look into the server's log", address).Because(err)
	}
	return driver.Errorf(driver.ProtocolError, stage, "%s",
		driver.Sanitize(address+" does not speak SSH as it should: "+libraryText(err))).Because(err)
}

// oldAlgorithms are what servers offer that know nothing better: algorithms that are not
// secure, which the library does not offer by default.
var oldAlgorithms = regexp.MustCompile(`^(diffie-hellman-group(1|14|-exchange)-sha1|ssh-rsa|ssh-dss|` +
	`.*-cbc(@.*)?|arcfour.*|none|hmac-(sha1|md5|ripemd160)(-96)?(-etm)?(@.*)?)$`)

// settings are the settings of sshd_config by the words of the library.
var settings = []struct{ word, name string }{
	{"key exchange", "KexAlgorithms"}, {"cipher", "Ciphers"}, {"MAC", "MACs"}, {"compression", "Compression"},
}

func negotiationError(negotiation *ssh.AlgorithmNegotiationError, err error) *driver.Error {
	offers := slices.DeleteFunc(slices.Clone(negotiation.RequestedAlgorithms), isExtension)
	supports := slices.DeleteFunc(slices.Clone(negotiation.SupportedAlgorithms), isExtension)
	offered := driver.Sanitize(strings.Join(offers, ", "))
	isOld := !slices.ContainsFunc(offers, func(name string) bool { return !oldAlgorithms.MatchString(name) })
	what := driver.Sanitize(negotiation.What)
	switch {
	case strings.Contains(what, "host key") && isOld && slices.Contains(supports, ssh.KeyAlgoRSASHA512):
		return driver.Errorf(driver.ProtocolError, driver.StageKeyExchange,
			"the server proves its host key with SHA-1 only (%s), which is not secure; update the server", offered).Because(err)
	case strings.Contains(what, "host key"):
		return &driver.Error{
			Reason: driver.HostKeyMismatch, Stage: driver.StageHostKey, RetryAfter: knownhosts.MismatchRetryAfter, Err: err,
			Message: "the server has no host key of a type that hostKeys pin, only " + offered +
				"; if its keys were changed on purpose, update hostKeys",
		}
	case isOld:
		return driver.Errorf(driver.ProtocolError, driver.StageKeyExchange,
			"the server offers no secure %s, only %s; update the server", what, offered).Because(err)
	}
	return driver.Errorf(driver.ProtocolError, driver.StageKeyExchange,
		"the server offers no %s that connpool supports, only %s; allow one of %s%s",
		what, offered, strings.Join(supports, ", "), settingOf(what)).Because(err)
}

// isExtension reports whether a name in the list of key exchanges is the announcement of
// an extension.
func isExtension(name string) bool {
	return strings.HasPrefix(name, "kex-strict-") || strings.HasPrefix(name, "ext-info-")
}

func settingOf(what string) string {
	for _, setting := range settings {
		if strings.Contains(what, setting.word) {
			return " in " + setting.name + " of its sshd_config"
		}
	}
	return ""
}

// bannerError classifies the end of a connection that did not greet as SSH servers do.
func bannerError(err error, said, address string) *driver.Error {
	if refusal := throttled(said, address); refusal != nil {
		return refusal
	}
	switch protocol := protocolOf(said); {
	case isClosed(err) && said == "":
		return driver.Errorf(driver.Unreachable, driver.StageBanner,
			"%s closed the connection without a word; check that it is an SSH server that accepts this client", address).Because(err)
	case protocol != "":
		return driver.Errorf(driver.ProtocolError, driver.StageBanner,
			"%s is not an SSH server, it seems to speak %s; check host and port", address, protocol).Because(err)
	}
	return driver.Errorf(driver.ProtocolError, driver.StageBanner,
		"%s is not an SSH server, or greets in more than 64 KiB; check host and port", address).Because(err)
}

// protocols are what servers of other protocols begin with.
var protocols = []struct {
	name  string
	begin *regexp.Regexp
}{
	{"HTTP", regexp.MustCompile(`^(HTTP/|(?i)<(!doctype|html))`)},
	{"TLS", regexp.MustCompile(`^[\x14-\x17]\x03`)},
	{"SMTP", regexp.MustCompile(`(?i)^220[ -].*(smtp|mail)`)},
	{"FTP", regexp.MustCompile(`^(220|421)[ -]`)},
	{"POP3", regexp.MustCompile(`^\+OK`)},
	{"IMAP", regexp.MustCompile(`^\* OK`)},
	{"Telnet", regexp.MustCompile(`^\xff[\xfb-\xfe]`)},
	{"VNC", regexp.MustCompile(`^RFB `)},
	{"Redis", regexp.MustCompile(`^-(ERR|DENIED|NOAUTH)`)},
	{"MySQL", regexp.MustCompile(`(?s)^.\x00\x00\x00[\x0a\xff ]`)},
}

// protocolOf names the protocol that a server seems to speak, or is empty. The server's
// own words are not repeated: a user who may write targets must not read with them what
// services in the operator's network say.
func protocolOf(said string) string {
	runes := make([]rune, len(said)) // one for each byte
	for i := range len(said) {
		runes[i] = rune(said[i])
	}
	for _, p := range protocols {
		if p.begin.MatchString(string(runes)) {
			return p.name
		}
	}
	return ""
}

// disconnect is how the library words the message with which a server ends a connection.
var disconnect = regexp.MustCompile(`ssh: disconnect, reason \d+: (".*")`)

// disconnectWords returns what a server said when it ended the connection; empty if it
// said nothing, or did not end it.
func disconnectWords(err error) string {
	match := disconnect.FindStringSubmatch(err.Error())
	if match == nil {
		return ""
	}
	words, err := strconv.Unquote(match[1])
	if err != nil {
		return ""
	}
	return driver.Sanitize(words)
}

func libraryText(err error) string {
	text := err.Error()
	for {
		rest, found := strings.CutPrefix(text, "ssh: ")
		if !found {
			rest, found = strings.CutPrefix(text, "handshake failed: ")
		}
		if !found {
			return text
		}
		text = rest
	}
}

// isClosed reports whether the transport ended, and the protocol was not broken. A
// disconnect message of the server counts as an end.
func isClosed(err error) bool {
	_, isNetwork := errors.AsType[*net.OpError](err)
	return isNetwork || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "ssh: disconnect")
}

// throttleSigns are what sshd says instead of its version when it takes no more
// connections, from this client or any, and how long to wait then.
var throttleSigns = map[string]time.Duration{
	"Not allowed at this time": time.Minute,
	"Exceeded MaxStartups":     2 * time.Second,
}

// throttled returns an error if the greeting says that the server refuses connections
// for a while, or nil.
func throttled(greeting, address string) *driver.Error {
	for sign, wait := range throttleSigns {
		if strings.Contains(greeting, sign) {
			return &driver.Error{
				Reason: driver.ThrottledByServer, Stage: driver.StageBanner, RetryAfter: wait,
				Message: fmt.Sprintf("%s takes no connections for now (%q); "+
					"look for failing logins from here, or raise MaxStartups or relax PerSourcePenalties in its sshd_config",
					address, sign),
			}
		}
	}
	return nil
}

// sessionError classifies why the server opened no session channel. It returns nil if
// the error is not the server's answer.
func sessionError(err error) *driver.Error {
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	switch {
	case !ok:
		return nil
	case refused.Reason == ssh.UnknownChannelType:
		return driver.Errorf(driver.ProtocolError, driver.StageSession, "the server offers no sessions").Because(err)
	}
	return driver.Errorf(driver.SessionLimit, driver.StageSession, "%s",
		driver.Sanitize("the server refuses one more session on this connection ("+refused.Message+
			"); lower sessionsPerConnection, or raise MaxSessions in its sshd_config")).Because(err)
}

// forwardError classifies why the server opened no stream. It returns nil if the error
// is not the server's answer.
func forwardError(err error, address string) *driver.Error {
	refused, ok := errors.AsType[*ssh.OpenChannelError](err)
	if !ok {
		return nil
	}
	result := &driver.Error{Reason: driver.Unreachable, Stage: driver.StageSession, Err: err}
	switch refused.Reason {
	case ssh.Prohibited, ssh.UnknownChannelType:
		result.Message = "the server forbids forwarding to " + address +
			"; allow it with AllowTcpForwarding, AllowStreamLocalForwarding or PermitOpen in its sshd_config"
	case ssh.ResourceShortage:
		result.Reason = driver.SessionLimit
		result.Message = "the server has no room for one more stream on this connection"
	default:
		result.PortRefused = strings.EqualFold(refused.Message, syscall.ECONNREFUSED.Error()) // as sshd says it
		result.Message = driver.Sanitize("the server cannot connect to " + address + ": " + refused.Message)
		if path.IsAbs(address) {
			result.Message += "; if the socket is there, the user may lack the right to it: put the user into the socket's group, " +
				"such as docker, and drain the pool, because a connection keeps the groups of its login"
		}
	}
	return result
}
