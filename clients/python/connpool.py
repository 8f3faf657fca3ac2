"""Runs commands through connpool's pools of warm connections, from Python.

    import connpool

    pool = connpool.Pool("default", "web")
    print(pool.exec(["uname", "-s"], target="web-1").text)

This file is the whole client. It needs Python 3.9 or later and nothing else: copy it beside your program.

Every command ends in one of three ways, and the exception says which:

- exec returns a Result, or raises ExitError if the exit code is not 0: the command has ended.
- NotStarted: the command has certainly not run, and may be tried again.
- Unknown: the command may have run. Find out before you run it again.

exec sends a request once. With retry=Retry() it tries again what was not started, and with a request_id also what had
no answer. run is for many targets of a pool at the same time.

TLS certificates are always verified, redirects are never followed, and HTTPS_PROXY and its like are not looked at.
"""

from __future__ import annotations

import atexit
import base64
import binascii
import contextlib
import http.client
import ipaddress
import json
import math
import os
import random
import select
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Generator, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

__all__ = [
    "COMPLETED", "NOT_STARTED", "SERVICE", "UNKNOWN",
    "Client", "CommandError", "ConfigError", "Error", "ExitError", "NotStarted", "Pool", "Result", "Retry", "Run",
    "Unknown",
]

#: The outcomes of a command.
NOT_STARTED, COMPLETED, UNKNOWN = "NotStarted", "Completed", "Unknown"

#: The operator's Service where the manifests install it, for Client.in_cluster(server=SERVICE, ca_file=...).
SERVICE = "https://connpool-live.connpool-system.svc"

_API = "live.connpool.dev/v1alpha1"
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

_CONNECT_SECONDS = 10.0
# The server closes a connection that is idle for longer than this.
_IDLE_SECONDS = 30.0
_MAX_IDLE = 16
_MAX_STDIN = 1 << 20
# The largest answer has 1 MiB each of stdout and stderr, and JSON writes one byte as up to six.
_MAX_ANSWER = 16 << 20
_MAX_REFUSAL = 64 << 10
# The operator remembers a request ID for 10 minutes after the command ended. Some are left for the way there.
_REMEMBERED_SECONDS = 540.0


class Error(Exception):
    """The base of all errors of this module."""


class ConfigError(Error):
    """The configuration cannot be used. Nothing was sent."""


class CommandError(Error):
    """A command that did not end with exit code 0. result has what is known of it."""

    def __init__(self, text: str, result: Result) -> None:
        super().__init__(text)
        self.result = result


class ExitError(CommandError):
    """A command that has ended with an exit code other than 0."""

    def __init__(self, result: Result) -> None:
        text = f"ended by signal {result.signal}" if result.signal else f"exit status {result.exit_code}"
        super().__init__(f"{text} on target {result.target}" if result.target else text, result)

    @property
    def code(self) -> int:
        """The exit code, or 128 plus the number of the signal that ended the command."""
        return -1 if self.result.exit_code is None else self.result.exit_code


class _Undone(CommandError):
    """A command that is not known to have ended."""

    outcome, text, said = UNKNOWN, "", ""

    def __init__(self, message: str, *, reason: str = "", request_id: str = "", status: int = 0,
                 repeatable: bool = False, result: Optional[Result] = None) -> None:
        result = result or Result(outcome=self.outcome, reason=reason, message=message, request_id=request_id)
        words = f"{self.text}: {message}" if message else self.text
        if self.said in message:  # the server says the same
            words = message
        if result.request_id not in words:
            words += f" (request {result.request_id})"
        super().__init__(words, result)
        self.message = message
        #: One word: a reason that conditions have too, or that of a refusal; empty if no server gave one.
        self.reason = reason
        #: The ID in the operator's audit lines, if it is known.
        self.request_id = result.request_id
        #: The HTTP status of the answer, 0 if there was none.
        self.status = status
        #: Whether another attempt may end better. An Unknown also needs a request ID for that.
        self.repeatable = repeatable


class NotStarted(_Undone):
    """The command has certainly not run. It is safe to try again."""

    outcome, text, said = NOT_STARTED, "the command was not started", "not started"


class Unknown(_Undone):
    """The command may have run, and may still run."""

    outcome, text, said = UNKNOWN, "the command may have run", "may have run"


@dataclass(frozen=True)
class Result:
    """What is known of a command."""

    #: COMPLETED, NOT_STARTED or UNKNOWN.
    outcome: str
    #: The exit code, or 128 plus the number of the signal that ended the command; None if neither is known.
    exit_code: Optional[int] = None
    #: The signal that ended the command, without SIG; empty if none did.
    signal: str = ""
    #: What the command wrote, at most 1 MiB each.
    stdout: bytes = field(default=b"", repr=False)
    stderr: bytes = field(default=b"", repr=False)
    #: Whether stdout or stderr was longer than that.
    truncated: bool = False
    #: The target on which it ran, and the container if the operator chose it.
    target: str = ""
    container: str = ""
    #: The connection over which it ran, by its name in the live API, and how it was had: Warm, Queued or Dialed.
    connection: str = ""
    acquired: str = ""
    #: Seconds until it had that connection, and from then until it ended.
    wait: float = 0.0
    duration: float = 0.0
    #: Why the outcome is not COMPLETED: one word, and a sentence.
    reason: str = ""
    message: str = ""
    #: The ID in the operator's audit lines.
    request_id: str = ""

    @property
    def ok(self) -> bool:
        """Whether the command ended with exit code 0."""
        return self.outcome == COMPLETED and self.exit_code == 0

    @property
    def text(self) -> str:
        """stdout as text. Bytes that are not UTF-8 are replaced."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def stderr_text(self) -> str:
        """stderr as text. Bytes that are not UTF-8 are replaced."""
        return self.stderr.decode("utf-8", "replace")

    def check(self) -> Result:
        """Returns the result of a command that ended with exit code 0, and raises the error of any other."""
        if self.ok:
            return self
        if self.outcome == COMPLETED:
            raise ExitError(self)
        kind = NotStarted if self.outcome == NOT_STARTED else Unknown
        # What the operator says of an Unknown is its answer, so asking again brings the same.
        raise kind(self.message, reason=self.reason, status=200, repeatable=kind is NotStarted, result=self)


@dataclass(frozen=True)
class Retry:
    """How often exec tries, and how many seconds it pauses between attempts.

    The pause doubles from first_pause to longest_pause. Half of each is random, so that many callers do not come back
    together. The deadline of exec ends the attempts as well.
    """

    attempts: int = 5
    first_pause: float = 0.5
    longest_pause: float = 15.0

    def pause(self, attempt: int) -> float:
        """Seconds to wait after this attempt; the first one is 1."""
        longest = min(self.longest_pause, self.first_pause * 2.0 ** min(attempt - 1, 30))
        return longest * random.uniform(0.5, 1.0)


class Pool:
    """One ConnectionPool. It may be used by several threads.

    Without a client it uses Client.default(), and without a namespace that of the client. Making one sends nothing: if
    the pool does not exist, using it raises NotStarted.
    """

    def __init__(self, namespace: Optional[str], name: str, client: Optional[Client] = None) -> None:
        self.client = client or Client.default()
        self.namespace, self.name = namespace or self.client.namespace, name
        for word in (self.namespace, self.name):
            if not word or word in (".", "..") or "/" in word or "%" in word:
                raise ValueError(f"{word!r} is not a valid name of a Kubernetes object")

    def exec(self, argv: Optional[Sequence[str]] = None, *, shell: Optional[str] = None, target: Optional[str] = None,
             container: Optional[str] = None, pod: Optional[str] = None, pod_namespace: Optional[str] = None,
             env: Optional[Mapping[str, str]] = None, stdin: Union[bytes, str] = b"", timeout: Optional[float] = None,
             request_id: Optional[str] = None, deadline: Optional[float] = None, retry: Optional[Retry] = None,
             check: bool = True) -> Result:
        """Runs a command and returns its result.

        argv is a program and its arguments, which arrive unchanged. shell is a line that the remote user's shell
        interprets. Exactly one of both is given.

        target may be left out if the pool has one target or chooses among them. container, pod and pod_namespace say
        where in a Docker engine or a cluster the command runs. env is set for it; a server that refuses a variable, as
        sshd does without AcceptEnv, does not start the command. stdin has at most 1 MiB.

        timeout is the number of seconds, rounded up, after which the operator signals the command to end; its outcome
        is then Unknown. deadline is the number of seconds after which this call gives up, with all its attempts; a
        command that it was waiting for is signaled too.

        request_id makes a repetition safe: while the operator remembers it, for at least 10 minutes after the command
        ended, the same command of the same user does not run again but has its first result. The memory is that of one
        replica, and ends with it. retry repeats what was not started and, with a request_id and within 9 minutes of
        the first attempt, what there was no answer for.

        Raises ExitError, NotStarted or Unknown; with check=False no ExitError, and the result has the exit code.
        """
        spec = _spec(argv, shell, stdin, timeout)
        spec.update(_present(target=target, container=container, pod=pod, namespace=pod_namespace,
                             env=dict(env or {}), requestID=request_id))
        ends = None if deadline is None else time.monotonic() + deadline
        result = _attempts(lambda: self._once(spec, ends), retry or Retry(attempts=1), request_id, ends)
        return result.check() if check else result

    def _once(self, spec: Mapping[str, Any], ends: Optional[float]) -> Result:
        """One attempt. It raises NotStarted or Unknown, also of a result that is one."""
        sent = str(spec.get("requestID", ""))
        reader = self._post(spec, sent, ends)
        try:
            body = reader.whole()
        finally:
            reader.close()
        with _unreadable(sent):
            result = _result(json.loads(body)["status"])
        return result if result.outcome == COMPLETED else result.check()

    def run(self, argv: Optional[Sequence[str]] = None, *, shell: Optional[str] = None, targets: Sequence[str] = (),
            selector: Optional[Mapping[str, str]] = None, all: bool = False, parallelism: Optional[int] = None,
            fail_fast: bool = False, output_bytes: Optional[int] = None, env: Optional[Mapping[str, str]] = None,
            stdin: Union[bytes, str] = b"", timeout: Optional[float] = None, request_id: Optional[str] = None,
            deadline: Optional[float] = None) -> Run:
        """Runs a command on many targets, on each at most once, and returns their results as they come.

            for result in pool.run(["uptime"], all=True):
                print(result.target, result.outcome, result.exit_code, result.text)

        Exactly one of targets (their names), selector (labels and their values) and all is given. Each target has one
        Result, also one that was not started or is not in the pool; none of them raises, so look at ok, or call check.

        parallelism is on how many targets the command runs at the same time; absent means 128. fail_fast starts it on
        no more targets after a failure. output_bytes is how much is kept of each of stdout and stderr of a target;
        absent means 64 KiB. timeout bounds the command of each target, deadline the whole.

        Raises NotStarted or Unknown if it is that as a whole. If the answer breaks off later, the targets that had no
        result by then have one that is UNKNOWN. Leaving the loop early closes the connection, and the operator signals
        the commands that run.
        """
        if sum(map(bool, (targets, selector, all))) != 1 or isinstance(targets, (str, bytes)):
            raise ValueError("give one of targets (a list of names), selector and all")
        chosen = _present(all=all, names=list(targets), selector={"matchLabels": dict(selector)} if selector else None,
                          parallelism=parallelism, failFast=fail_fast, outputBytes=output_bytes)
        spec = _spec(argv, shell, stdin, timeout)
        spec.update(_present(targets=chosen, env=dict(env or {}), requestID=request_id))
        return Run(self._post(spec, request_id or "", None if deadline is None else time.monotonic() + deadline))

    def _post(self, spec: Mapping[str, Any], request_id: str, ends: Optional[float]) -> _Reader:
        quoted = [urllib.parse.quote(word, safe="") for word in (self.namespace, self.name)]
        path = f"/apis/{_API}/namespaces/{quoted[0]}/connectionpools/{quoted[1]}/exec"
        return self.client._post(path, {"apiVersion": _API, "kind": "Exec", "spec": spec}, request_id, ends)


class Run:
    """A command on many targets: an iterator over their results, in the order in which they end.

    targets are the names of all of them, in the order in which they start. request_id is that of the operator's audit
    lines. It is for one thread. Use it in a with statement, or call close, if the results may not all be read.
    """

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        try:
            plan = self._line()
            if plan is None or plan.get("kind") != "ExecPlan":
                raise Unknown("the answer does not begin with a plan", request_id=reader.request_id)
            self.targets: List[str] = list(plan["targets"])
            self.request_id = str(plan.get("requestID", reader.request_id))
        except BaseException:
            reader.close()
            raise
        self._results = self._read()

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        return next(self._results)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it: the operator signals the commands that still run."""
        self._results.close()
        self._reader.close()

    def _read(self) -> Generator[Result, None, None]:
        missing = dict.fromkeys(self.targets)
        why = "the answer broke off before the result of this target"
        try:
            line = self._line()
            while line is not None and line.get("kind") == "ExecResult":
                with _unreadable(self.request_id):
                    result = _result(line["status"], str(line["target"]))
                missing.pop(result.target, None)
                yield result
                line = self._line()
            if line is not None:  # the summary
                self._reader.whole()
        except Unknown as e:
            why = f"{why}: {e.message}"
        finally:
            self._reader.close()
        for target in missing:
            yield Result(outcome=UNKNOWN, target=target, message=why, request_id=self.request_id)

    def _line(self) -> Optional[Dict[str, Any]]:
        line = self._reader.line()
        while line == b"\n":  # keeps the connection alive
            line = self._reader.line()
        with _unreadable(self._reader.request_id):
            return dict(json.loads(line)) if line else None


def _spec(argv: Optional[Sequence[str]], shell: Optional[str], stdin: Union[bytes, str],
          timeout: Optional[float]) -> Dict[str, Any]:
    if isinstance(argv, (str, bytes)):
        raise TypeError("argv is a list of words; give a line for the remote shell as shell=...")
    if bool(argv) == bool(shell):
        raise ValueError("give either argv or shell")
    if timeout is not None and timeout <= 0:
        raise ValueError("timeout is a number of seconds above 0")
    data = stdin.encode() if isinstance(stdin, str) else bytes(stdin)
    if len(data) > _MAX_STDIN:
        raise ValueError(f"stdin is longer than {_MAX_STDIN} bytes")
    return _present(command=list(argv or []), shell=shell, stdin=base64.b64encode(data).decode(),
                    timeoutSeconds=math.ceil(timeout) if timeout else None)


@contextlib.contextmanager
def _unreadable(request_id: str) -> Iterator[None]:
    """Turns the errors of an answer that is not what it should be into Unknown."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise Unknown(f"the answer cannot be read: {e!r}", request_id=request_id) from e


def _present(**fields: Any) -> Dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _attempts(once: Callable[[], Result], retry: Retry, request_id: Optional[str], ends: Optional[float]) -> Result:
    lost: Optional[float] = None  # when the first attempt was sent that had no answer
    error: _Undone
    attempt = 0
    while True:
        attempt, began = attempt + 1, time.monotonic()
        try:
            return once()
        except Unknown as e:
            if not (e.repeatable and request_id):
                raise
            lost, error = began if lost is None else lost, e
        except NotStarted as e:
            error = e
            if lost is not None:  # This proves nothing about the attempt before it.
                error = Unknown(f"an earlier attempt had no answer, and this one was not started: {e.message}",
                                reason=e.reason, request_id=e.request_id, status=e.status)
            if not e.repeatable:
                raise error from e
        again = time.monotonic() + retry.pause(attempt)
        forgotten = lost is not None and again > lost + _REMEMBERED_SECONDS
        if attempt >= retry.attempts or forgotten or (ends is not None and again > ends):
            raise error
        time.sleep(max(0.0, again - time.monotonic()))


def _result(status: Mapping[str, Any], target: str = "") -> Result:
    """The status of an Exec as a Result. An outcome without an exit code counts as Unknown, as does no outcome."""
    code, outcome = status.get("exitCode"), status.get("outcome")
    known = outcome == NOT_STARTED or (outcome == COMPLETED and isinstance(code, int))
    return Result(
        outcome=str(outcome) if known else UNKNOWN, exit_code=code, signal=status.get("signal", ""),
        stdout=_output(status, "stdout"), stderr=_output(status, "stderr"), truncated=bool(status.get("truncated")),
        target=target or status.get("target", ""), container=status.get("container", ""),
        connection=status.get("connection", ""), acquired=status.get("acquired", ""),
        wait=status.get("acquireMicroseconds", 0) / 1e6,
        duration=status.get("durationMicroseconds", 0) / 1e6, reason=status.get("reason", ""),
        message=status.get("message", ""), request_id=status.get("requestID", ""))


def _output(status: Mapping[str, Any], name: str) -> bytes:
    if name + "Bytes" in status:
        return base64.b64decode(status[name + "Bytes"])
    return str(status.get(name, "")).encode()


class Client:
    """Speaks to the live API as one user. It may be used by several threads, and keeps idle connections for the next
    request. Use it in a with statement, or call close, to end them.

    server is the address of kube-apiserver or of the operator's Service. It begins with https://; http:// is accepted
    for kubectl proxy on this machine, and then no credentials are sent. Files are read again when they are needed, so
    they may change: the token for each request, the certificates for each connection.
    """

    _default: Optional[Client] = None

    def __init__(self, server: str, *, token: Optional[str] = None, token_file: Optional[str] = None,
                 ca_file: Optional[str] = None, ca_data: Optional[str] = None, cert_file: Optional[str] = None,
                 key_file: Optional[str] = None, cert_data: Optional[bytes] = None, key_data: Optional[bytes] = None,
                 server_name: Optional[str] = None, namespace: str = "default") -> None:
        url = urllib.parse.urlsplit(server)
        self._secure = url.scheme == "https"
        if not url.hostname or not (self._secure or url.scheme == "http" and _is_loopback(url.hostname)):
            raise ConfigError(f"the server {server!r} cannot be used: its address begins with https://, "
                              "or with http:// if it is kubectl proxy on this machine")
        if bool(cert_file or cert_data) != bool(key_file or key_data):
            raise ConfigError("a client certificate and its key are given together")
        self.namespace = namespace
        self._host, self._port = url.hostname, url.port or (443 if self._secure else 80)
        self._prefix = url.path.rstrip("/")
        self._token, self._token_file = token, token_file
        self._ca_file, self._ca_data = ca_file, ca_data
        self._cert_file, self._key_file, self._cert_data, self._key_data = cert_file, key_file, cert_data, key_data
        self._server_name = server_name or url.hostname
        self._lock = threading.Lock()
        self._idle: List[Tuple[float, http.client.HTTPConnection]] = []

    @classmethod
    def default(cls) -> Client:
        """The client of this process: that of the pod's ServiceAccount in a pod, else that of kubectl."""
        if Client._default is None:
            in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and os.path.exists(f"{_SERVICE_ACCOUNT}/token")
            Client._default = cls.in_cluster() if in_pod else cls.from_kubectl()
            atexit.register(Client._default.close)
        return Client._default

    @classmethod
    def in_cluster(cls, *, server: Optional[str] = None, ca_file: Optional[str] = None,
                   directory: str = _SERVICE_ACCOUNT) -> Client:
        """A client of the pod's ServiceAccount, through kube-apiserver.

        With server=SERVICE, and the operator's authority as ca_file, it goes straight to the operator.
        """
        if server is None:
            host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
            if not host:
                raise ConfigError("this is not a pod of a cluster: KUBERNETES_SERVICE_HOST is not set")
            port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        elif ca_file is None:
            raise ConfigError("a server of your own needs ca_file: for the operator's Service, its own authority")
        namespace = _read(f"{directory}/namespace").decode().strip()
        return cls(server, token_file=f"{directory}/token", ca_file=ca_file or f"{directory}/ca.crt",
                   namespace=namespace)

    @classmethod
    def from_kubectl(cls, *, context: Optional[str] = None, kubeconfig: Optional[str] = None) -> Client:
        """A client of the user of a context, the current one by default.

        kubectl reads the kubeconfig, which is YAML.
        """
        command = ["kubectl", "config", "view", "--raw", "--minify", "--flatten", "--output=json"]
        command += [f"--context={context}"] if context else []
        command += [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=True)
        except subprocess.CalledProcessError as e:
            words = e.stderr.decode("utf-8", "replace").strip()
            raise ConfigError(f"kubectl cannot read the kubeconfig: {words}") from e
        except (OSError, subprocess.TimeoutExpired) as e:
            raise ConfigError(f"run kubectl, which reads the kubeconfig: {e}; without kubectl, "
                              "use Client(server, token_file=..., ca_file=...)") from e
        return cls.from_config(json.loads(done.stdout))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, context: Optional[str] = None) -> Client:
        """A client of a context of a kubeconfig that is parsed already. Names of files in it are absolute."""
        name = str(context or config.get("current-context", ""))
        chosen = _named(config, "contexts", "context", name)
        cluster = _named(config, "clusters", "cluster", chosen.get("cluster", ""))
        user = _named(config, "users", "user", chosen.get("user", ""))
        _refuse_others(f"the cluster of context {name!r}", cluster, _CLUSTER_FIELDS)
        _refuse_others(f"the user of context {name!r}", user, _USER_FIELDS)
        authority = _decoded(cluster, "certificate-authority-data")
        return cls(
            cluster.get("server", ""), token=user.get("token"), token_file=user.get("tokenFile"),
            ca_file=cluster.get("certificate-authority"), ca_data=authority.decode() if authority else None,
            cert_file=user.get("client-certificate"), key_file=user.get("client-key"),
            cert_data=_decoded(user, "client-certificate-data"), key_data=_decoded(user, "client-key-data"),
            server_name=cluster.get("tls-server-name"), namespace=chosen.get("namespace") or "default")

    def pool(self, name: str, namespace: Optional[str] = None) -> Pool:
        """A pool by its name, in the client's namespace by default."""
        return Pool(namespace, name, self)

    def close(self) -> None:
        """Closes the idle connections. The client can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _post(self, path: str, body: Mapping[str, Any], request_id: str, ends: Optional[float]) -> _Reader:
        """Sends one request once, and returns the answer of a 200. Any other answer is raised."""
        try:  # not by escapes: they would let through what is no text, and the server would replace it
            payload = json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as e:
            raise ValueError("a command is text, and a part of this one cannot be written as UTF-8") from e
        headers = {"Accept": "application/json, application/x-ndjson", "Content-Type": "application/json",
                   "User-Agent": "connpool-python"}
        try:
            headers.update(self._authorization())
            connection = self._connection(ends)
        except (OSError, ConfigError) as e:  # ssl.SSLError is an OSError
            lasting = isinstance(e, (ConfigError, ssl.SSLCertVerificationError, FileNotFoundError))
            raise NotStarted(f"{self._host}:{self._port} cannot be used: {e}", request_id=request_id,
                             repeatable=not lasting) from e
        reader = _Reader(self, connection, request_id, ends)
        try:
            response = reader.send(self._prefix + path, payload, headers)
            if response.status == 200:
                return reader
            raise _refusal(response, reader.whole(_MAX_REFUSAL, cut=True), request_id)
        except BaseException:
            reader.close()
            raise

    def _authorization(self) -> Dict[str, str]:
        token = _read(self._token_file).decode("ascii", "replace").strip() if self._token_file else self._token
        if token and not (token.isascii() and token.isprintable()):
            raise ConfigError("the token has characters that no token has")
        return {"Authorization": f"Bearer {token}"} if token and self._secure else {}

    def _connection(self, ends: Optional[float]) -> http.client.HTTPConnection:
        if ends is not None and time.monotonic() >= ends:
            raise TimeoutError("the caller's deadline has passed")
        while True:
            with self._lock:
                since, connection = self._idle.pop() if self._idle else (0.0, None)
            if connection is None:
                return self._connect(ends)
            if time.monotonic() - since < _IDLE_SECONDS and _is_quiet(connection.sock):
                return connection
            connection.close()

    def _connect(self, ends: Optional[float]) -> http.client.HTTPConnection:
        left = _CONNECT_SECONDS if ends is None else min(_CONNECT_SECONDS, ends - time.monotonic())
        connection = http.client.HTTPConnection(self._host, self._port)
        raw = socket.create_connection((self._host, self._port), timeout=max(left, 0.001))
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A command may be silent for hours. These find a server that is gone.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6)):
                if hasattr(socket, option):
                    raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
            connection.sock = raw
            if self._secure:
                connection.sock = self._context().wrap_socket(raw, server_hostname=self._server_name)
        except BaseException:
            raw.close()
            raise
        return connection

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._ca_file, cadata=self._ca_data)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._cert_data and self._key_data:  # ssl reads certificates from files only
            with tempfile.TemporaryDirectory() as directory:
                for name, data in (("cert", self._cert_data), ("key", self._key_data)):
                    with open(f"{directory}/{name}", "wb") as file:  # in a folder that no other user may enter
                        file.write(data)
                context.load_cert_chain(f"{directory}/cert", f"{directory}/key")
        elif self._cert_file:
            context.load_cert_chain(self._cert_file, self._key_file)
        return context

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()


class _Reader:
    """A request and its answer, on one connection."""

    def __init__(self, client: Client, connection: http.client.HTTPConnection, request_id: str,
                 ends: Optional[float]) -> None:
        self.client, self.connection, self.request_id, self.ends = client, connection, request_id, ends
        self.kept = False
        self.socket: socket.socket = connection.sock  # http.client lets go of it before the answer ends
        self.response: Optional[http.client.HTTPResponse] = None

    def send(self, path: str, payload: bytes, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        with self._losses():
            self._limit()
            self.connection.request("POST", path, payload, headers)
            self._limit()
            self.response = self.connection.getresponse()
            return self.response

    def whole(self, bound: int = _MAX_ANSWER, cut: bool = False) -> bytes:
        """The answer to its end; then the connection serves the next request. A longer one is cut, or is an error."""
        assert self.response is not None
        data = bytearray()
        with self._losses():
            while len(data) <= bound:
                self._limit()
                piece = self.response.read(min(1 << 16, bound + 1 - len(data)))
                if not piece:
                    self._end()
                    return bytes(data)
                data += piece
        if cut:
            return bytes(data[:bound])
        raise Unknown(f"the answer is longer than {bound} bytes", request_id=self.request_id)

    def line(self) -> bytes:
        """The next line of the answer; empty at its end."""
        assert self.response is not None
        with self._losses():
            self._limit()
            line = self.response.readline(_MAX_ANSWER + 1)
        if len(line) > _MAX_ANSWER:
            raise Unknown(f"a line of the answer is longer than {_MAX_ANSWER} bytes", request_id=self.request_id)
        return line

    def close(self) -> None:
        """Closes the connection, unless it was given back. The operator signals a command whose caller is gone."""
        if self.kept:
            return
        if self.response is not None:
            self.response.close()
        self.connection.close()

    def _end(self) -> None:
        assert self.response is not None
        if self.response.length:
            raise http.client.IncompleteRead(b"", self.response.length)
        if not self.response.will_close:
            self.kept = True
            self.client._keep(self.connection)

    def _limit(self) -> None:
        """Lets the next reads or writes take until the deadline."""
        left = None if self.ends is None else self.ends - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        """Turns the errors of a connection, after the request may have been sent, into Unknown."""
        try:
            yield
        except (OSError, http.client.HTTPException) as e:
            if self.ends is not None and time.monotonic() >= self.ends:
                raise Unknown("the caller's deadline has passed", request_id=self.request_id) from e
            raise Unknown(f"the connection broke: {e!r}", request_id=self.request_id, repeatable=True) from e


def _refusal(response: http.client.HTTPResponse, body: bytes, request_id: str) -> _Undone:
    """What an answer other than 200 says of the command. Proxies in between may hide a command that runs."""
    status: Any = None
    try:
        status = json.loads(body)
    except ValueError:
        pass
    structured = isinstance(status, dict) and status.get("kind") == "Status" and status.get("status") == "Failure"
    causes: Dict[str, str] = {}
    if structured:
        for cause in (status.get("details") or {}).get("causes") or []:
            causes[str(cause.get("reason", ""))] = str(cause.get("message", ""))
        message, reason = str(status.get("message", "")), str(status.get("reason", ""))
    else:
        message, reason = body.decode("utf-8", "replace").strip(), ""
    not_started = causes.get("Outcome") == NOT_STARTED or (
        "Outcome" not in causes and _before_start(response.status, structured, message))
    kind, worth_it = (NotStarted, (429, 503)) if not_started else (Unknown, (500, 502, 503, 504))
    return kind(message or f"the server answered {response.status} {response.reason}",
                reason=causes.get("Reason", reason), request_id=causes.get("RequestID", request_id),
                status=response.status, repeatable=response.status in worth_it)


def _before_start(code: int, structured: bool, message: str) -> bool:
    """Whether an answer proves that no command was started."""
    if 300 <= code < 500:
        return True
    if code != 503:
        return False
    # kube-apiserver says in text that it did not reach the operator. Its other words are about a connection that broke.
    return structured or message == "service unavailable" or message.startswith(("dial tcp", "error dialing backend: "))


def _is_quiet(sock: Optional[socket.socket]) -> bool:
    """Whether an idle connection has said nothing. One that has been closed says that."""
    if sock is None:
        return False
    if hasattr(select, "poll"):  # select.select takes no descriptor above 1,023
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)
    return not select.select([sock], [], [], 0)[0]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_CLUSTER_FIELDS = {"server", "certificate-authority", "certificate-authority-data", "tls-server-name",
                   "disable-compression", "extensions"}
_USER_FIELDS = {"token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data",
                "extensions"}


def _named(config: Mapping[str, Any], kinds: str, kind: str, name: str) -> Mapping[str, Any]:
    for entry in config.get(kinds) or []:
        if entry.get("name") == name:
            return entry.get(kind) or {}
    raise ConfigError(f"the kubeconfig has no {kind} {name!r}")


def _refuse_others(what: str, fields: Mapping[str, Any], known: set[str]) -> None:
    """Refuses what this client does not do: to leave it out would trust, or act as, another one than was meant."""
    for name in sorted(fields):
        if name in known or not fields[name]:
            continue
        if name in ("exec", "auth-provider"):
            raise ConfigError(
                f"{what} gets its credentials from a program ({name}), and this client starts none; use the token of a "
                "ServiceAccount (kubectl create token NAME), or kubectl proxy and Client('http://127.0.0.1:8001')")
        raise ConfigError(f"{what} has {name}, which this client does not know")


def _decoded(fields: Mapping[str, Any], name: str) -> Optional[bytes]:
    try:
        return base64.b64decode(fields[name], validate=True) if fields.get(name) else None
    except binascii.Error as e:
        raise ConfigError(f"{name} in the kubeconfig is not base64: {e}") from e


def _read(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read(1 << 20)
    except OSError as e:
        raise ConfigError(f"cannot be read: {e}") from e
