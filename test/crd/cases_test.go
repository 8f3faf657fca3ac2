package crd

import "strings"

// refusal is an object that must be refused.
type refusal struct {
	of     string
	change change
	// field is the path that the error names, and says a part of its message.
	field string
	says  string
}

// items makes a list as JSON has it.
func items(values ...any) []any { return append([]any{}, values...) }

var refusals = map[string]map[string]refusal{
	"target": {
		"a target of no kind": {
			sshTarget, change{"spec.ssh": nil}, "spec", "exactly one of ssh, docker and kubernetes",
		},
		"a target of two kinds": {
			sshTarget,
			change{"spec.docker": map[string]any{"endpoint": "unix:///run/docker.sock"}},
			"spec", "exactly one of ssh, docker and kubernetes",
		},
		"a field that does not exist": {
			sshTarget, change{"spec.ssh.hots": "x"}, "spec.ssh.hots", "unknown field",
		},
	},
	"ssh.host": {
		"no host":                         {sshTarget, change{"spec.ssh.host": nil}, "spec.ssh.host", "Required"},
		"an empty host":                   {sshTarget, change{"spec.ssh.host": ""}, "spec.ssh.host", "at least 1 char"},
		"a host over 253 bytes":           {sshTarget, change{"spec.ssh.host": strings.Repeat("a.", 126) + "ab"}, "spec.ssh.host", "253"},
		"a label over 63 bytes":           {sshTarget, change{"spec.ssh.host": strings.Repeat("a", 64) + ".example.com"}, "spec.ssh.host", "DNS name or an IP address"},
		"a host with a space":             {sshTarget, change{"spec.ssh.host": "web 1"}, "spec.ssh.host", "must not contain spaces"},
		"a host with a line break":        {sshTarget, change{"spec.ssh.host": "web-1\n"}, "spec.ssh.host", "must not contain spaces, line breaks"},
		"a host with a NUL":               {sshTarget, change{"spec.ssh.host": "web\x00"}, "spec.ssh.host", "control characters"},
		"a host that looks like a flag":   {sshTarget, change{"spec.ssh.host": "-oProxyCommand=x"}, "spec.ssh.host", "must not start with -"},
		"a user in the host":              {sshTarget, change{"spec.ssh.host": "deploy@web-1"}, "spec.ssh.host", "move the part before @ to user"},
		"a port in the host":              {sshTarget, change{"spec.ssh.host": "web-1:22"}, "spec.ssh.host", "move the number after the colon to port"},
		"a port after an IPv6 address":    {sshTarget, change{"spec.ssh.host": "[2001:db8::1]:22"}, "spec.ssh.host", "move the number after the colon to port"},
		"an IPv6 address in brackets":     {sshTarget, change{"spec.ssh.host": "[2001:db8::1]"}, "spec.ssh.host", "must not contain brackets"},
		"an IPv6 address with a zone":     {sshTarget, change{"spec.ssh.host": "fe80::1%eth0"}, "spec.ssh.host", "no zone"},
		"an IPv4 address inside IPv6":     {sshTarget, change{"spec.ssh.host": "::ffff:127.0.0.1"}, "spec.ssh.host", "not IPv4 inside IPv6"},
		"an IPv4 address as one number":   {sshTarget, change{"spec.ssh.host": "2130706433"}, "spec.ssh.host", "in its usual form"},
		"an IPv4 address in hexadecimal":  {sshTarget, change{"spec.ssh.host": "0x7f000001"}, "spec.ssh.host", "in its usual form"},
		"an IPv4 address with few parts":  {sshTarget, change{"spec.ssh.host": "127.1"}, "spec.ssh.host", "in its usual form"},
		"an IPv4 address out of range":    {sshTarget, change{"spec.ssh.host": "10.0.0.256"}, "spec.ssh.host", "in its usual form"},
		"a URL as the host":               {sshTarget, change{"spec.ssh.host": "ssh://web-1/"}, "spec.ssh.host", "must not be a URL"},
		"a path in the host":              {sshTarget, change{"spec.ssh.host": "web-1/x"}, "spec.ssh.host", "DNS name or an IP address"},
		"letters beyond ASCII in a host":  {sshTarget, change{"spec.ssh.host": "bücher.example"}, "spec.ssh.host", "DNS name or an IP address"},
		"two dots in a row in a host":     {sshTarget, change{"spec.ssh.host": "web..example"}, "spec.ssh.host", "DNS name or an IP address"},
		"a number instead of a host name": {sshTarget, change{"spec.ssh.host": 10}, "spec.ssh.host", "must be of type string"},
	},
	"ssh.port": {
		"port 0":          {sshTarget, change{"spec.ssh.port": 0}, "spec.ssh.port", "greater than or equal to 1"},
		"port 65536":      {sshTarget, change{"spec.ssh.port": 65536}, "spec.ssh.port", "less than or equal to 65535"},
		"a negative port": {sshTarget, change{"spec.ssh.port": -1}, "spec.ssh.port", "greater than or equal to 1"},
		"a port as text":  {sshTarget, change{"spec.ssh.port": "22"}, "spec.ssh.port", "must be of type integer"},
	},
	"ssh.user": {
		"no user":                       {sshTarget, change{"spec.ssh.user": nil}, "spec.ssh.user", "Required"},
		"an empty user":                 {sshTarget, change{"spec.ssh.user": ""}, "spec.ssh.user", "at least 1 char"},
		"a user with a leading space":   {sshTarget, change{"spec.ssh.user": " admin"}, "spec.ssh.user", "begin or end with a space"},
		"a user with a space behind":    {sshTarget, change{"spec.ssh.user": "admin "}, "spec.ssh.user", "begin or end with a space"},
		"a user with a tab":             {sshTarget, change{"spec.ssh.user": "the\tadmin"}, "spec.ssh.user", "control characters"},
		"a user with a line break":      {sshTarget, change{"spec.ssh.user": "root\nwheel"}, "spec.ssh.user", "line breaks"},
		"a user that looks like a flag": {sshTarget, change{"spec.ssh.user": "-lroot"}, "spec.ssh.user", "must not start with -"},
		"a user over 256 bytes":         {sshTarget, change{"spec.ssh.user": strings.Repeat("a", 257)}, "spec.ssh.user", "256"},
	},
	"ssh.loginTimeoutSeconds": {
		"no time for the login":   {sshTarget, change{"spec.ssh.loginTimeoutSeconds": 0}, "spec.ssh.loginTimeoutSeconds", "greater than or equal to 1"},
		"121 s for the login":     {sshTarget, change{"spec.ssh.loginTimeoutSeconds": 121}, "spec.ssh.loginTimeoutSeconds", "less than or equal to 120"},
		"a timeout with its unit": {sshTarget, change{"spec.ssh.loginTimeoutSeconds": "30s"}, "spec.ssh.loginTimeoutSeconds", "must be of type integer"},
	},
	"ssh.credentialsRef": {
		"no Secret":                        {sshTarget, change{"spec.ssh.credentialsRef": nil}, "spec.ssh.credentialsRef", "Required"},
		"a Secret without a name":          {sshTarget, change{"spec.ssh.credentialsRef": map[string]any{}}, "spec.ssh.credentialsRef.name", "Required"},
		"a Secret of another namespace":    {sshTarget, change{"spec.ssh.credentialsRef.namespace": "kube-system"}, "spec.ssh.credentialsRef.namespace", "unknown field"},
		"a Secret's name with a namespace": {sshTarget, change{"spec.ssh.credentialsRef.name": "kube-system/x"}, "spec.ssh.credentialsRef.name", "Secret in this namespace"},
	},
	"ssh.hostKeys": {
		"no host keys":          {sshTarget, change{"spec.ssh.hostKeys": nil}, "spec.ssh.hostKeys", "run kubectl connpool hostkeys"},
		"host keys of no kind":  {sshTarget, change{"spec.ssh.hostKeys": map[string]any{}}, "spec.ssh.hostKeys", "kubectl connpool hostkeys"},
		"an empty list of keys": {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items()}, "spec.ssh.hostKeys.knownHosts", "at least 1 items"},
		"an empty key":          {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("")}, "spec.ssh.hostKeys.knownHosts[0]", "at least 1 char"},
		"host keys in two places": {
			sshTarget,
			change{"spec.ssh.hostKeys.secretRef": map[string]any{"name": "x", "key": "y"}},
			"spec.ssh.hostKeys", "exactly one of knownHosts, configMapRef and secretRef",
		},
		"a ConfigMap without a key": {
			sshTarget,
			change{"spec.ssh.hostKeys": map[string]any{"configMapRef": map[string]any{"name": "x"}}},
			"spec.ssh.hostKeys.configMapRef.key", "Required",
		},
		"a key of a ConfigMap with a path": {
			sshTarget,
			change{"spec.ssh.hostKeys": map[string]any{"configMapRef": map[string]any{"name": "x", "key": "../x"}}},
			"spec.ssh.hostKeys.configMapRef.key", "copy it from the object's data",
		},
		"a private key": {
			sshTarget,
			change{"spec.ssh.hostKeys.knownHosts": items(privateKey)},
			"spec.ssh.hostKeys.knownHosts", "must not contain a private key",
		},
		"a private key without its frame": {
			sshTarget,
			change{"spec.ssh.hostKeys.knownHosts": items("b3BlbnNzaC1rZXktdjEAAAAABG5vbmU" + canary)},
			"spec.ssh.hostKeys.knownHosts", "must not contain a private key",
		},
		"a DSA key":                  {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items(dsaKey())}, "spec.ssh.hostKeys.knownHosts[0]", "DSA"},
		"a DSA key for a host":       {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("web-1 " + dsaKey())}, "spec.ssh.hostKeys.knownHosts[0]", "DSA"},
		"an RSA key of 1024 bits":    {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items(rsaKey(1024, 65537))}, "spec.ssh.hostKeys.knownHosts[0]", "under 2048 bits"},
		"an old RSA key of 1024":     {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items(rsaKey(1024, 35))}, "spec.ssh.hostKeys.knownHosts[0]", "under 2048 bits"},
		"an RSA key of 2040 bits":    {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items(rsaKey(2040, 65537))}, "spec.ssh.hostKeys.knownHosts[0]", "under 2048 bits"},
		"a word":                     {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("any")}, "spec.ssh.hostKeys.knownHosts[0]", "copy one that kubectl connpool hostkeys prints"},
		"a comment":                  {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("# web-1:22 SSH-2.0-OpenSSH_10.0")}, "spec.ssh.hostKeys.knownHosts[0]", "without its # comments"},
		"a fingerprint":              {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("SHA256:uNiVztksCsDhcc0u9e8BrcJYYd8MVG3Pu4eoVpn6S6s")}, "spec.ssh.hostKeys.knownHosts[0]", "one public key"},
		"two keys in one item":       {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items(ed25519Key + "\n" + ed25519Key)}, "spec.ssh.hostKeys.knownHosts[0]", "each"},
		"the second of two is a URL": {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items(ed25519Key, "https://x")}, "spec.ssh.hostKeys.knownHosts[1]", "one public key"},
	},
	"ssh.jumpTargetRef": {
		"a jump through itself": {
			sshTarget,
			change{"spec.ssh.jumpTargetRef": map[string]any{"name": "web-1"}},
			"spec.ssh.jumpTargetRef.name", "must not be the target itself",
		},
		"a jump without a name": {
			sshTarget, change{"spec.ssh.jumpTargetRef": map[string]any{}}, "spec.ssh.jumpTargetRef.name", "Required",
		},
	},
	"docker": {
		"tcp without TLS": {
			dockerTarget, change{"spec.docker.tlsRef": nil}, "spec.docker.tlsRef", "required with a tcp endpoint",
		},
		"TLS on a socket": {
			dockerTarget, change{"spec.docker.endpoint": "unix:///run/docker.sock"}, "spec.docker.tlsRef", "remove it",
		},
		"tcp through an ssh target": {
			dockerTarget,
			change{"spec.docker.sshTargetRef": map[string]any{"name": "web-1"}},
			"spec.docker.sshTargetRef", "needs a unix endpoint",
		},
		"itself as the ssh target": {
			dockerTarget,
			change{
				"spec.docker.endpoint": "unix:///run/docker.sock", "spec.docker.tlsRef": nil,
				"spec.docker.sshTargetRef": map[string]any{"name": "build-1"},
			},
			"spec.docker.sshTargetRef.name", "must not be the target itself",
		},
		"no endpoint":                  {dockerTarget, change{"spec.docker.endpoint": nil}, "spec.docker.endpoint", "Required"},
		"a path in the endpoint":       {dockerTarget, change{"spec.docker.endpoint": "tcp://build-1:2376/v1"}, "spec.docker.endpoint", "must not have a path"},
		"a slash after the port":       {dockerTarget, change{"spec.docker.endpoint": "tcp://build-1:2376/"}, "spec.docker.endpoint", "must not have a path"},
		"no port in the endpoint":      {dockerTarget, change{"spec.docker.endpoint": "tcp://build-1"}, "spec.docker.endpoint", "needs a port"},
		"port 0 in the endpoint":       {dockerTarget, change{"spec.docker.endpoint": "tcp://build-1:0"}, "spec.docker.endpoint", "needs a port"},
		"port 65536 in the endpoint":   {dockerTarget, change{"spec.docker.endpoint": "tcp://build-1:65536"}, "spec.docker.endpoint", "1 to 65535"},
		"a user in the endpoint":       {dockerTarget, change{"spec.docker.endpoint": "tcp://me@build-1:2376"}, "spec.docker.endpoint", "must not contain a user"},
		"an ssh endpoint":              {dockerTarget, change{"spec.docker.endpoint": "ssh://me@build-1"}, "spec.docker.endpoint", "set sshTargetRef"},
		"an https endpoint":            {dockerTarget, change{"spec.docker.endpoint": "https://build-1:2376"}, "spec.docker.endpoint", "write tcp://HOST:PORT"},
		"an endpoint without a scheme": {dockerTarget, change{"spec.docker.endpoint": "build-1:2376"}, "spec.docker.endpoint", "must be tcp://HOST:PORT"},
		"a relative socket": {
			dockerTarget,
			change{"spec.docker.endpoint": "unix://docker.sock", "spec.docker.tlsRef": nil},
			"spec.docker.endpoint", "absolute path",
		},
		"a socket with ..": {
			dockerTarget,
			change{"spec.docker.endpoint": "unix:///run/../etc/x", "spec.docker.tlsRef": nil},
			"spec.docker.endpoint", "without ..",
		},
		"a socket with a line break": {
			dockerTarget,
			change{"spec.docker.endpoint": "unix:///run/x\n", "spec.docker.tlsRef": nil},
			"spec.docker.endpoint", "absolute path",
		},
	},
	"kubernetes": {
		"no kubeconfig":                  {kubernetesTarget, change{"spec.kubernetes.kubeconfigRef": nil}, "spec.kubernetes.kubeconfigRef", "Required"},
		"a kubeconfig without a key":     {kubernetesTarget, change{"spec.kubernetes.kubeconfigRef.key": nil}, "spec.kubernetes.kubeconfigRef.key", "Required"},
		"an empty context":               {kubernetesTarget, change{"spec.kubernetes.context": ""}, "spec.kubernetes.context", "at least 1 char"},
		"a context with a line break":    {kubernetesTarget, change{"spec.kubernetes.context": "prod\n"}, "spec.kubernetes.context", "kubectl config get-contexts"},
		"a namespace in capital letters": {kubernetesTarget, change{"spec.kubernetes.defaultNamespace": "Web"}, "spec.kubernetes.defaultNamespace", "lower-case"},
	},
	"pool.targets": {
		"no targets": {pool, change{"spec.targetRef": nil}, "spec", "exactly one of targetRef and targetSelector"},
		"two kinds of targets": {
			pool, change{"spec.targetSelector.matchLabels.app": "web"}, "spec", "exactly one of targetRef and targetSelector",
		},
		"an empty selector":         {scheduledPool, change{"spec.targetSelector": map[string]any{}}, "spec.targetSelector", "must not be empty"},
		"a selector with no labels": {scheduledPool, change{"spec.targetSelector.matchLabels": map[string]any{}}, "spec.targetSelector", "must not be empty"},
		"a selector of 17 labels":   {scheduledPool, change{"spec.targetSelector.matchLabels": manyLabels(17)}, "spec.targetSelector", "more than 16"},
		"an unknown operator":       {scheduledPool, change{"spec.targetSelector.matchExpressions": expressions("Is", "x")}, "spec.targetSelector.matchExpressions", "correct the operator"},
		"In without values":         {scheduledPool, change{"spec.targetSelector.matchExpressions": expressions("In")}, "spec.targetSelector.matchExpressions", "1 to 64 values"},
		"Exists with values":        {scheduledPool, change{"spec.targetSelector.matchExpressions": expressions("Exists", "x")}, "spec.targetSelector.matchExpressions", "with none"},
		"an unknown routing":        {pool, change{"spec.routing": "Random"}, "spec.routing", "ByName"},
		"an unknown state":          {pool, change{"spec.state": "Stopped"}, "spec.state", "Paused"},
	},
	"pool.size": {
		"more warm than there may be": {pool, change{"spec.size": map[string]any{"minWarm": 5, "max": 4}}, "spec.size.minWarm", "must not be greater than max"},
		"more warm than the default":  {pool, change{"spec.size.minWarm": 5}, "spec.size.minWarm", "4 by default"},
		"at most no connection":       {pool, change{"spec.size": map[string]any{"minWarm": 0, "max": 0}}, "spec.size.max", "greater than or equal to 1"},
		"fewer than no connection":    {pool, change{"spec.size.minWarm": -1}, "spec.size.minWarm", "greater than or equal to 0"},
		"too many connections":        {pool, change{"spec.size.max": 101}, "spec.size.max", "less than or equal to 100"},
		"no use of a connection":      {pool, change{"spec.sessionsPerConnection": 0}, "spec.sessionsPerConnection", "greater than or equal to 1"},
	},
	"pool.times": {
		"a probe as long as its period":         {pool, change{"spec.health": map[string]any{"timeoutSeconds": 30, "periodSeconds": 30}}, "spec.health.timeoutSeconds", "must be less than periodSeconds"},
		"a probe longer than its period":        {pool, change{"spec.health.timeoutSeconds": 61}, "spec.health.timeoutSeconds", "must be less than periodSeconds"},
		"a probe without time":                  {pool, change{"spec.health.timeoutSeconds": 0}, "spec.health.timeoutSeconds", "greater than or equal to 1"},
		"no failure before failing":             {pool, change{"spec.health.failureThreshold": 0}, "spec.health.failureThreshold", "greater than or equal to 1"},
		"a probe of no command":                 {pool, change{"spec.health.command": items()}, "spec.health.command", "at least 1 items"},
		"a probe of an empty command":           {pool, change{"spec.health.command": items("", "x")}, "spec.health.command", "must begin with the name of a program"},
		"a NUL in a probe":                      {pool, change{"spec.health.command": items("true", "a\x00b")}, "spec.health.command", "NUL"},
		"no time to wait":                       {pool, change{"spec.acquire.timeoutSeconds": 0}, "spec.acquire.timeoutSeconds", "greater than or equal to 1"},
		"a negative number of waiting requests": {pool, change{"spec.acquire.maxPending": -1}, "spec.acquire.maxPending", "greater than or equal to 0"},
		"a negative age":                        {pool, change{"spec.lifecycle.maxAgeSeconds": -1}, "spec.lifecycle.maxAgeSeconds", "greater than or equal to 0"},
		"no time to drain":                      {pool, change{"spec.lifecycle.drainTimeoutSeconds": 0}, "spec.lifecycle.drainTimeoutSeconds", "greater than or equal to 1"},
		"a time with a unit":                    {pool, change{"spec.lifecycle.maxAgeSeconds": "1h"}, "spec.lifecycle.maxAgeSeconds", "must be of type integer"},
		"an unknown mode of prediction":         {pool, change{"spec.warming.prediction.mode": "On"}, "spec.warming.prediction.mode", "Shadow"},
		"a mode of prediction not built yet":    {pool, change{"spec.warming.prediction.mode": "Shadow"}, "spec.warming.prediction.mode", "use warming.schedules"},
		"a prediction that may add no warmth":   {pool, change{"spec.warming.prediction.maxWarm": 0}, "spec.warming.prediction.maxWarm", "greater than or equal to 1"},
		"a prediction of more than can be kept": {pool, change{"spec.warming.prediction.maxWarm": 10001}, "spec.warming.prediction.maxWarm", "less than or equal to 10000"},
	},
	"pool.schedules": {
		"a cron of four fields":    schedule("start", "0 8 * *", "five cron fields"),
		"a cron of six fields":     schedule("end", "0 0 18 * * 1", "five cron fields"),
		"a cron with a time zone":  schedule("start", "TZ=Europe/Zurich 0 8 * * 1-5", "move it to timeZone"),
		"a cron with another one":  schedule("end", "CRON_TZ=UTC 0 8 * * 1-5", "move it to timeZone"),
		"a cron with a shorthand":  schedule("start", "@daily", "shorthand"),
		"a cron with an interval":  schedule("start", "@every 5m", "shorthand"),
		"an empty cron":            schedule("start", "", "at least 1 char"),
		"minute 60":                schedule("start", "60 8 * * *", "minute (field 1)"),
		"hour 24":                  schedule("start", "0 24 * * *", "hour (field 2)"),
		"day 0":                    schedule("start", "0 8 0 * *", "day of month (field 3)"),
		"day 32":                   schedule("start", "0 8 32 * *", "day of month (field 3)"),
		"month 13":                 schedule("start", "0 8 * 13 *", "month (field 4)"),
		"weekday 7":                schedule("start", "0 8 * * 7", "day of week (field 5)"),
		"a weekday that is none":   schedule("end", "0 8 * * mo", "day of week (field 5)"),
		"a step of 0":              schedule("start", "*/0 8 * * *", "minute (field 1)"),
		"words":                    schedule("start", "every day at eight o'clock", "field"),
		"a zone that is an offset": schedule("timeZone", "+01:00", "IANA name"),
		"the zone of the server":   schedule("timeZone", "Local", "IANA name"),
		"an unknown zone":          schedule("timeZone", "Mars/Phobos", "unknown time zone Mars/Phobos"),
		"a zone in lower case":     schedule("timeZone", "europe/zurich", "unknown time zone"),
		"a zone with ..":           schedule("timeZone", "../../etc/passwd", "IANA name"),
		"no warm connection":       schedule("minWarm", 0, "greater than or equal to 1"),
		"an end like the start":    schedule("end", "0 8 * * 1-5", "must differ from start"),
		"a name with a space":      schedule("name", "in office", "lower-case"),
		"two schedules of one name": {
			scheduledPool,
			change{"spec.warming.schedules": items(
				map[string]any{"name": "office", "start": "0 8 * * *", "end": "0 12 * * *", "minWarm": 2},
				map[string]any{"name": "office", "start": "0 10 * * *", "end": "0 18 * * *", "minWarm": 3},
			)},
			"spec.warming.schedules[1]", "Duplicate",
		},
		"more warm than there may be": {
			scheduledPool, change{"spec.warming.schedules.0.minWarm": 5}, "spec.warming.schedules", "greater than size.max",
		},
	},
}

func schedule(field string, value any, says string) refusal {
	return refusal{
		scheduledPool, change{"spec.warming.schedules.0." + field: value}, "spec.warming.schedules[0]." + field, says,
	}
}

func expressions(operator string, values ...any) []any {
	expression := map[string]any{"key": "app", "operator": operator}
	if len(values) > 0 {
		expression["values"] = values
	}
	return items(expression)
}

func manyLabels(count int) map[string]any {
	labels := map[string]any{}
	for i := range count {
		labels[strings.Repeat("x", i+1)] = "y"
	}
	return labels
}

// accepted are objects that must not be refused.
var accepted = map[string]struct {
	of     string
	change change
}{
	"an ssh target":                            {sshTarget, nil},
	"a docker target over TLS":                 {dockerTarget, nil},
	"a kubernetes target":                      {kubernetesTarget, nil},
	"a pool with one target":                   {pool, nil},
	"a pool with a selector and a schedule":    {scheduledPool, nil},
	"an IPv4 address":                          {sshTarget, change{"spec.ssh.host": "10.0.0.1"}},
	"a loopback address, which policy decides": {sshTarget, change{"spec.ssh.host": "127.0.0.1"}},
	"an IPv6 address":                          {sshTarget, change{"spec.ssh.host": "2001:db8::1"}},
	"a host with an underscore":                {sshTarget, change{"spec.ssh.host": "build_1"}},
	"a host name from the root":                {sshTarget, change{"spec.ssh.host": "web-1.example.com."}},
	"a host name that begins with digits":      {sshTarget, change{"spec.ssh.host": "1a.2b"}},
	"the highest port":                         {sshTarget, change{"spec.ssh.port": 65535}},
	"a user of a Windows domain":               {sshTarget, change{"spec.ssh.user": `CORP\deploy`}},
	"a user with a space inside":               {sshTarget, change{"spec.ssh.user": `CORP\John Doe`}},
	"two minutes for the login":                {sshTarget, change{"spec.ssh.loginTimeoutSeconds": 120}},
	"a user with a realm":                      {sshTarget, change{"spec.ssh.user": "deploy@corp.example"}},
	"a jump through another target":            {sshTarget, change{"spec.ssh.jumpTargetRef": map[string]any{"name": "bastion"}}},
	"a known_hosts line":                       {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("web-1,10.0.0.1 " + ed25519Key + " comment")}},
	"a known_hosts line with a port":           {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("[web-1]:2222 " + ed25519Key)}},
	"a hashed known_hosts line":                {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= " + ed25519Key)}},
	"a key with a line break behind it":        {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items(ed25519Key + "\n")}},
	"a certificate authority":                  {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("@cert-authority *.example.com " + ed25519Key)}},
	"a revoked key beside a good one":          {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("@revoked * "+rsaKey(2048, 65537), ed25519Key)}},
	"weak keys that are revoked":               {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items("@revoked * "+dsaKey(), "@revoked "+rsaKey(1024, 65537), ed25519Key)}},
	"RSA keys of 2048 and 4096 bits":           {sshTarget, change{"spec.ssh.hostKeys.knownHosts": items(rsaKey(2048, 65537), rsaKey(4096, 65537), rsaKey(2048, 35))}},
	"host keys in a ConfigMap":                 {sshTarget, change{"spec.ssh.hostKeys": map[string]any{"configMapRef": map[string]any{"name": "known", "key": "known_hosts"}}}},
	"host keys in a Secret":                    {sshTarget, change{"spec.ssh.hostKeys": map[string]any{"secretRef": map[string]any{"name": "known", "key": "known_hosts"}}}},
	"a docker target on an IPv6 address":       {dockerTarget, change{"spec.docker.endpoint": "tcp://[2001:db8::1]:2376"}},
	"a docker target on the operator's host":   {dockerTarget, change{"spec.docker.endpoint": "unix:///var/run/docker.sock", "spec.docker.tlsRef": nil}},
	"a docker target over ssh":                 {dockerTarget, change{"spec.docker.endpoint": "unix:///var/run/docker.sock", "spec.docker.tlsRef": nil, "spec.docker.sshTargetRef": map[string]any{"name": "build-host"}}},
	"a kubernetes target with everything":      {kubernetesTarget, change{"spec.kubernetes.context": "arn:aws:eks:eu-central-1:1:cluster/prod", "spec.kubernetes.defaultNamespace": "web"}},
	"a pool that dials on demand":              {pool, change{"spec.size.minWarm": 0}},
	"a pool as large as may be":                {pool, change{"spec.size": map[string]any{"minWarm": 100, "max": 100}}},
	"a pool without limits of life":            {pool, change{"spec.lifecycle": map[string]any{"maxAgeSeconds": 0, "maxIdleSeconds": 0, "maxUses": 0}}},
	"a pool with a command as its probe":       {pool, change{"spec.health.command": items("test", "-e", "")}},
	"a keepalive as long as its timeout":       {pool, change{"spec.health": map[string]any{"keepaliveSeconds": 5, "timeoutSeconds": 5}}},
	"a paused pool with routing":               {pool, change{"spec.state": "Paused", "spec.routing": "LeastLoaded"}},
	"a pool without predictions":               {pool, change{"spec.warming.prediction": map[string]any{"mode": "Off"}}},
	"a selector with expressions":              {scheduledPool, change{"spec.targetSelector": map[string]any{"matchExpressions": expressions("In", "a", "b")}}},
	"a schedule with lists, steps and names":   {scheduledPool, change{"spec.warming.schedules.0.start": "*/15,7 8-18/2 1,15 JAN-mar Mon-FRI"}},
	"a schedule without a time zone":           {scheduledPool, change{"spec.warming.schedules.0.timeZone": nil}},
	"a schedule in a zone of three parts":      {scheduledPool, change{"spec.warming.schedules.0.timeZone": "America/Argentina/Buenos_Aires"}},
	"a schedule in a zone with a sign":         {scheduledPool, change{"spec.warming.schedules.0.timeZone": "Etc/GMT+3"}},
}
