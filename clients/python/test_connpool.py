"""Tests of connpool.py against answers that a real operator and a real network give rarely."""

import base64
import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

import connpool


class Server(http.server.ThreadingHTTPServer):
    """Answers requests from a list, and notes them."""

    daemon_threads = True

    def __init__(self, answers):
        self.answers, self.requests, self.connections = list(answers), [], 0
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # some clients leave before the end
            super().handle_error(request, client_address)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
        answer = self.server.answers.pop(0)
        if callable(answer):
            answer(self)
            return
        code, content, headers = answer
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(payload)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


def answer(code, content, **headers):
    return code, content, headers


def status(**fields):
    return answer(200, {"kind": "Exec", "status": fields})


def completed(**fields):
    return status(**{"outcome": "Completed", "exitCode": 0, **fields})


def refusal(code, message, **causes):
    return answer(code, {
        "kind": "Status", "status": "Failure", "message": message, "reason": "Because",
        "details": {"causes": [{"reason": name, "message": value} for name, value in causes.items()]}})


def hang_up(handler):
    """Reads the request, and closes the connection without an answer."""
    handler.close_connection = True


def cut_short(handler):
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"status": ')


def lines(*objects, summary=True, cut=b""):
    """The answer to a command on many targets."""
    def write(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/x-ndjson")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        every = list(objects) + ([{"kind": "ExecSummary"}] if summary else [])
        for piece in [json.dumps(o).encode() + b"\n" for o in every] + ([cut] if cut else []):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if summary:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = not summary
    return write


def plan(*targets):
    return {"kind": "ExecPlan", "targets": list(targets), "parallelism": 128, "requestID": "r-1"}


def line(target, **fields):
    return {"kind": "ExecResult", "target": target, "status": {"outcome": "Completed", "exitCode": 0, **fields}}


class WithServer(unittest.TestCase):
    def serve(self, *answers):
        server = Server(answers)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = connpool.Client(server.url)
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        self.addCleanup(client.close)
        return server, client.pool("web")


class Exec(WithServer):
    def test_the_whole_command_is_sent(self):
        server, pool = self.serve(completed())
        pool.exec(["echo", "it's"], target="web-1", env={"A": "b"}, stdin="hello", timeout=1.2, request_id="r-1")
        path, headers, body = server.requests[0]
        self.assertEqual(path, "/apis/live.connpool.dev/v1alpha1/namespaces/default/connectionpools/web/exec")
        self.assertEqual(body, {"apiVersion": "live.connpool.dev/v1alpha1", "kind": "Exec", "spec": {
            "command": ["echo", "it's"], "target": "web-1", "env": {"A": "b"}, "timeoutSeconds": 2,
            "stdin": base64.b64encode(b"hello").decode(), "requestID": "r-1"}})
        self.assertNotIn("Authorization", headers)

    def test_the_result_has_what_the_operator_says(self):
        _, pool = self.serve(completed(stdout="hi\n", stderrBytes=base64.b64encode(b"\xff").decode(), target="web-1",
                                       acquired="Warm", acquireMicroseconds=1500, durationMicroseconds=2_000_000,
                                       requestID="r-2", truncated=True))
        self.assertEqual(pool.exec(["x"]), connpool.Result(
            outcome="Completed", exit_code=0, stdout=b"hi\n", stderr=b"\xff", target="web-1", acquired="Warm",
            wait=0.0015, duration=2.0, request_id="r-2", truncated=True))

    def test_another_exit_code_is_an_ExitError_unless_it_is_not_checked(self):
        ended = completed(exitCode=143, signal="TERM", stderr="bye\n", target="web-1")
        _, pool = self.serve(ended, ended)
        with self.assertRaises(connpool.ExitError) as caught:
            pool.exec(["x"])
        self.assertEqual((caught.exception.code, str(caught.exception)), (143, "ended by signal TERM on target web-1"))
        self.assertEqual(caught.exception.result.stderr_text, "bye\n")
        self.assertEqual(pool.exec(["x"], check=False).exit_code, 143)

    def test_requests_share_a_connection_and_one_that_was_closed_is_not_used(self):
        server, pool = self.serve(*[completed()] * 3)
        pool.exec(["x"])
        pool.exec(["x"])
        self.assertEqual(server.connections, 1)
        pool.client._idle[0][1].sock.shutdown(socket.SHUT_RDWR)
        pool.exec(["x"])
        self.assertEqual(server.connections, 2)

    def test_a_command_that_cannot_be_sent_as_it_is_raises_and_sends_nothing(self):
        server, pool = self.serve()
        for wrong in ({"argv": "ls -l"}, {"argv": b"ls"}, {}, {"argv": ["a"], "shell": "b"}, {"argv": ["\udcff"]},
                      {"argv": ["a"], "timeout": 0}, {"argv": ["a"], "stdin": b"x" * (1 << 20) + b"x"}):
            with self.subTest(wrong), self.assertRaises((ValueError, TypeError)):
                pool.exec(**wrong)
        for name in ("", "a/b", "..", "a%2fb"):
            with self.subTest(name), self.assertRaises(ValueError):
                pool.client.pool(name)
        self.assertEqual(server.requests, [])

    def test_what_an_answer_proves(self):
        unknown, not_started = connpool.Unknown, connpool.NotStarted
        for name, given, want, reason in (
                ("not started", status(outcome="NotStarted", reason="Unreachable"), not_started, "Unreachable"),
                ("unknown", status(outcome="Unknown", reason="Timeout", message="m"), unknown, "Timeout"),
                ("no outcome", status(stdout="x"), unknown, ""),
                ("completed without an exit code", status(outcome="Completed"), unknown, ""),
                ("no status", answer(200, {"kind": "Exec"}), unknown, ""),
                ("no JSON", answer(200, b"<html>"), unknown, ""),
                ("JSON of another form", answer(200, [1]), unknown, ""),
                ("a redirect", answer(302, b"", Location="http://127.0.0.1:1/"), not_started, ""),
                ("forbidden", refusal(403, "no"), not_started, "Because"),
                ("too many", refusal(429, "later", Outcome="NotStarted", Reason="QueueFull"), not_started, "QueueFull"),
                ("a 503 of an API server", refusal(503, "no endpoint"), not_started, "Because"),
                ("a 503 that says unknown", refusal(503, "gone", Outcome="Unknown"), unknown, "Because"),
                ("a 503 of a proxy", answer(503, b"upstream reset"), unknown, ""),
                ("kube-apiserver found no endpoint", answer(503, b"service unavailable\n"), not_started, ""),
                ("kube-apiserver could not dial", answer(503, b"error dialing backend: x"), not_started, ""),
                ("a bad gateway", answer(502, b""), unknown, ""),
                ("an internal error", refusal(500, "boom"), unknown, "Because"),
                ("no answer", hang_up, unknown, ""),
                ("half an answer", cut_short, unknown, ""),
                ("an endless answer", answer(200, b" " * ((16 << 20) + 1)), unknown, "")):
            with self.subTest(name):
                server, pool = self.serve(given)
                with self.assertRaises(want) as caught:
                    pool.exec(["x"], check=False)
                self.assertEqual(caught.exception.reason, reason)
                self.assertEqual(caught.exception.result.outcome, caught.exception.outcome)
                self.assertEqual(len(server.requests), 1)

    def test_an_error_says_each_thing_once(self):
        for message, request_id, want in (
                ("", "", "the command may have run"),
                ("it broke", "r-1", "the command may have run: it broke (request r-1)"),
                ("that of r-1 may have run, says the operator", "r-1", "that of r-1 may have run, says the operator")):
            self.assertEqual(str(connpool.Unknown(message, request_id=request_id)), want)

    def test_a_server_that_is_not_there_was_sent_nothing(self):
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
            port = listener.getsockname()[1]
        with self.assertRaises(connpool.NotStarted) as caught:
            connpool.Client(f"http://127.0.0.1:{port}").pool("web").exec(["x"])
        self.assertTrue(caught.exception.repeatable)

    def test_the_deadline_ends_a_call_that_waits(self):
        silent = threading.Event()
        self.addCleanup(silent.set)
        _, pool = self.serve(lambda handler: (silent.wait(), hang_up(handler)))
        began = time.monotonic()
        with self.assertRaisesRegex(connpool.Unknown, "deadline"):
            pool.exec(["x"], deadline=0.2, retry=connpool.Retry(), request_id="r")
        self.assertLess(time.monotonic() - began, 10)
        with self.assertRaisesRegex(connpool.NotStarted, "deadline"):
            pool.exec(["x"], deadline=-1)


class Retries(WithServer):
    def setUp(self):
        self.now = 1000.0
        clock = mock.patch.object(connpool, "time", mock.Mock(monotonic=lambda: self.now, sleep=self.sleep))
        clock.start()
        self.addCleanup(clock.stop)
        self.pauses = []

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def test_what_was_not_started_is_tried_again_with_growing_pauses(self):
        busy = refusal(429, "busy", Outcome="NotStarted")
        server, pool = self.serve(busy, busy, status(outcome="NotStarted", message="down"), completed(stdout="at last"))
        self.assertEqual(pool.exec(["x"], retry=connpool.Retry()).text, "at last")
        for pause, longest in zip(self.pauses, (0.5, 1, 2)):
            self.assertTrue(longest / 2 <= pause <= longest, self.pauses)
        self.assertEqual(len(server.requests), 4)

    def test_without_retry_nothing_is_tried_again(self):
        server, pool = self.serve(refusal(503, "down"))
        with self.assertRaises(connpool.NotStarted):
            pool.exec(["x"], request_id="r")
        self.assertEqual(len(server.requests), 1)

    def test_the_attempts_are_bounded(self):
        server, pool = self.serve(*[refusal(503, "down")] * 5)
        with self.assertRaises(connpool.NotStarted):
            pool.exec(["x"], retry=connpool.Retry(attempts=3))
        self.assertEqual(len(server.requests), 3)

    def test_a_refusal_that_stays_is_not_tried_again(self):
        for code in (400, 401, 403, 404, 409):
            with self.subTest(code):
                server, pool = self.serve(refusal(code, "no"), completed())
                with self.assertRaises(connpool.NotStarted):
                    pool.exec(["x"], retry=connpool.Retry())
                self.assertEqual(len(server.requests), 1)

    def test_a_lost_answer_is_asked_for_again_only_with_a_request_id(self):
        server, pool = self.serve(hang_up, answer(502, b""), completed(stdout="first result"))
        self.assertEqual(pool.exec(["x"], retry=connpool.Retry(), request_id="r").text, "first result")
        self.assertEqual({r[2]["spec"]["requestID"] for r in server.requests}, {"r"})
        server, pool = self.serve(hang_up, completed())
        with self.assertRaises(connpool.Unknown):
            pool.exec(["x"], retry=connpool.Retry())
        self.assertEqual(len(server.requests), 1)

    def test_an_outcome_that_the_operator_does_not_know_is_not_asked_for_again(self):
        server, pool = self.serve(status(outcome="Unknown", message="connection died"), completed())
        with self.assertRaises(connpool.Unknown):
            pool.exec(["x"], retry=connpool.Retry(), request_id="r")
        self.assertEqual(len(server.requests), 1)

    def test_after_a_lost_answer_a_refusal_does_not_prove_that_nothing_ran(self):
        for name, rest in (("for now", [refusal(503, "down")] * 2), ("for good", [refusal(403, "no")])):
            with self.subTest(name):
                _, pool = self.serve(hang_up, *rest)
                with self.assertRaisesRegex(connpool.Unknown, "earlier attempt"):
                    pool.exec(["x"], retry=connpool.Retry(attempts=3), request_id="r")

    def test_an_id_that_may_be_forgotten_is_not_sent_again(self):
        def late(handler):
            self.now += 539.9
            hang_up(handler)
        server, pool = self.serve(late, completed())
        with self.assertRaises(connpool.Unknown):
            pool.exec(["x"], retry=connpool.Retry(), request_id="r")
        self.assertEqual(len(server.requests), 1)

    def test_the_deadline_ends_the_attempts(self):
        server, pool = self.serve(*[refusal(503, "down")] * 9)
        with self.assertRaises(connpool.NotStarted):
            pool.exec(["x"], retry=connpool.Retry(attempts=9), deadline=3)
        self.assertLess(len(server.requests), 9)
        self.assertLessEqual(self.now, 1003)


class Fanout(WithServer):
    def test_every_target_has_one_result(self):
        server, pool = self.serve(lines(plan("web-1", "web-2"), line("web-2", exitCode=3), line("web-1", stdout="hi")),
                                  completed())
        with pool.run(["x"], selector={"tier": "front"}, parallelism=4, fail_fast=True) as run:
            self.assertEqual(run.targets, ["web-1", "web-2"])
            self.assertEqual([(r.target, r.exit_code, r.text) for r in run], [("web-2", 3, ""), ("web-1", 0, "hi")])
        self.assertEqual(server.requests[0][2]["spec"]["targets"], {
            "selector": {"matchLabels": {"tier": "front"}}, "parallelism": 4, "failFast": True})
        pool.exec(["x"])
        self.assertEqual(server.connections, 1)

    def test_a_broken_answer_leaves_what_has_no_line_unknown(self):
        for name, given in (("between lines", lines(plan("a", "b"), line("a"), summary=False)),
                            ("in a line", lines(plan("a", "b"), line("a"), summary=False, cut=b'{"kind": "Ex'))):
            with self.subTest(name):
                _, pool = self.serve(given)
                results = list(pool.run(["x"], targets=["a", "b"]))
                self.assertEqual([(r.target, r.outcome) for r in results], [("a", "Completed"), ("b", "Unknown")])
                with self.assertRaises(connpool.Unknown):
                    results[1].check()

    def test_an_answer_without_a_plan_is_unknown_as_a_whole(self):
        for given in (hang_up, lines({"kind": "Exec"}), answer(200, b"[]\n"), answer(200, b"")):
            _, pool = self.serve(given)
            with self.assertRaises(connpool.Unknown):
                pool.run(["x"], all=True)

    def test_the_targets_are_chosen_in_one_way(self):
        _, pool = self.serve()
        for wrong in ({}, {"all": True, "targets": ["a"]}, {"targets": "web-1"}):
            with self.assertRaises(ValueError):
                pool.run(["x"], **wrong)

    def test_leaving_early_closes_the_connection(self):
        closed = threading.Event()

        def wait_for_the_end(handler):
            lines(plan("a", "b"), line("a"), summary=False)(handler)
            handler.connection.settimeout(20)
            if handler.connection.recv(1) == b"":
                closed.set()
        _, pool = self.serve(wait_for_the_end)
        with pool.run(["x"], all=True) as run:
            next(run)
        self.assertTrue(closed.wait(20))


class Default(WithServer):
    def test_the_default_client_leaves_no_connection_at_exit(self):
        server, _ = self.serve(completed())
        program = (f"import connpool; connpool.Client.from_kubectl = lambda: connpool.Client({server.url!r})\n"
                   "connpool.Pool(None, 'web').exec(['x'])")
        done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class Configuration(unittest.TestCase):
    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def test_a_pod_uses_its_service_account_and_reads_the_token_again(self):
        folder = self.folder()
        for name in ("token", "namespace", "ca.crt"):
            with open(f"{folder}/{name}", "w", encoding="ascii") as file:
                file.write(f"{name}-1\n")
        with mock.patch.dict(os.environ, KUBERNETES_SERVICE_HOST="fd00::1", KUBERNETES_SERVICE_PORT="6443"):
            client = connpool.Client.in_cluster(directory=folder)
        self.assertEqual((client._host, client._port, client.namespace), ("fd00::1", 6443, "namespace-1"))
        self.assertEqual(client._authorization(), {"Authorization": "Bearer token-1"})
        with open(f"{folder}/token", "w", encoding="ascii") as file:
            file.write("token-2")
        self.assertEqual(client._authorization(), {"Authorization": "Bearer token-2"})

    def test_straight_to_the_service_needs_its_own_authority(self):
        with self.assertRaisesRegex(connpool.ConfigError, "ca_file"):
            connpool.Client.in_cluster(server=connpool.SERVICE)

    def test_elsewhere_it_says_that_this_is_no_pod(self):
        with mock.patch.dict(os.environ, clear=True), self.assertRaisesRegex(connpool.ConfigError, "not a pod"):
            connpool.Client.in_cluster()

    def test_kubectl_reads_the_kubeconfig(self):
        done = mock.Mock(stdout=json.dumps(config(namespace="prod")).encode())
        with mock.patch("subprocess.run", return_value=done) as run:
            client = connpool.Client.from_kubectl(context="a", kubeconfig="/k")
        self.assertEqual(run.call_args.args[0], ["kubectl", "config", "view", "--raw", "--minify", "--flatten",
                                                 "--output=json", "--context=a", "--kubeconfig=/k"])
        self.assertEqual((client._host, client.namespace, client._token), ("example.test", "prod", "secret"))

    def test_a_kubectl_that_fails_or_is_missing_is_said(self):
        for error, want in ((FileNotFoundError("no kubectl"), "without kubectl"),
                            (subprocess.CalledProcessError(1, "kubectl", stderr=b"no context\n"), "no context")):
            with mock.patch("subprocess.run", side_effect=error), self.assertRaisesRegex(connpool.ConfigError, want):
                connpool.Client.from_kubectl()

    def test_what_it_does_not_do_is_refused(self):
        for given, want in (
                (config(user={"exec": {"command": "aws"}}), "starts none"),
                (config(user={"username": "me", "password": "x"}), "password"),
                (config(user={"token": "x", "as": "admin"}), "has as"),
                (config(cluster={"server": "https://x", "insecure-skip-tls-verify": True}), "insecure-skip-tls-verify"),
                (config(cluster={"server": "https://x", "proxy-url": "http://p"}), "proxy-url"),
                (config(cluster={"server": "http://x"}), "https://"),
                (config(user={"client-certificate-data": "AAAA"}), "together"),
                (config(user={"client-certificate-data": "?", "client-key-data": "AAAA"}), "base64"),
                ({"current-context": "gone"}, "no context 'gone'")):
            with self.subTest(want), self.assertRaisesRegex(connpool.ConfigError, want):
                connpool.Client.from_config(given)

    def test_a_missing_token_file_starts_nothing_and_is_not_tried_again(self):
        client = connpool.Client("https://127.0.0.1:1", token_file="/nonexistent/token")
        with self.assertRaisesRegex(connpool.NotStarted, "/nonexistent/token") as caught:
            client.pool("web").exec(["x"], retry=connpool.Retry())
        self.assertFalse(caught.exception.repeatable)


def config(user=None, cluster=None, namespace=None):
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        "clusters": [{"name": "c", "cluster": cluster or {"server": "https://example.test"}}],
        "users": [{"name": "u", "user": user or {"token": "secret"}}],
    }


if __name__ == "__main__":
    sys.exit(unittest.main())
