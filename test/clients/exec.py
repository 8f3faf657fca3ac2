"""Runs commands in a pool with the Python client of Kubernetes, as its users do."""

import sys

from kubernetes import client, config
from kubernetes.stream import stream

kubeconfig, namespace, pool = sys.argv[1:]
api = config.new_client_from_config(kubeconfig)


class Pools:
    """connectionpools/exec, in the way of the client's own generated classes."""

    def __init__(self, api_client):
        self.api_client = api_client

    def exec(self, name, namespace, **options):
        path = "/apis/live.connpool.dev/v1alpha1/namespaces/{namespace}/connectionpools/{name}/exec"
        preload = options.pop("_preload_content", True)
        query = []
        for key, value in options.items():
            query += [(key, v) for v in value] if isinstance(value, list) else [(key, value)]
        return self.api_client.call_api(
            path, "GET", {"namespace": namespace, "name": name}, query, {"Accept": "*/*"},
            response_type="str", auth_settings=["BearerToken"], _return_http_data_only=True, _preload_content=preload)


def check(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")


pools = Pools(api)
check("output", stream(pools.exec, pool, namespace, command=["echo", "it's", "a  b"], stdout=True, stderr=True), "it's a  b\n")

session = stream(pools.exec, pool, namespace, command=["sh", "-c", "cat; echo oops >&2; exit 3"],
                 stdin=True, stdout=True, stderr=True, _preload_content=False)
session.write_stdin("through and back\n")
check("stdin", session.readline_stdout(timeout=20), "through and back")
session.close()

session = stream(pools.exec, pool, namespace, command=["sh", "-c", "echo oops >&2; exit 3"],
                 stdout=True, stderr=True, _preload_content=False)
session.run_forever(timeout=20)
check("stderr", session.read_stderr(), "oops\n")
check("exit code", session.returncode, 3)

session = stream(pools.exec, pool, namespace, command=["sh", "-c", "test -t 0 && echo a terminal"],
                 stdin=True, stdout=True, tty=True, _preload_content=False)
check("tty", session.readline_stdout(timeout=20).strip(), "a terminal")

listed = client.CustomObjectsApi(api).list_namespaced_custom_object(
    "live.connpool.dev", "v1alpha1", namespace, "connections", field_selector=f"pool={pool}")
check("connections", {c["pool"] for c in listed["items"]}, {pool})

made = api.call_api(
    f"/apis/live.connpool.dev/v1alpha1/namespaces/{namespace}/connectionpools/{pool}/exec", "POST", {}, [],
    {"Content-Type": "application/json"}, body={"spec": {"command": ["sh", "-c", "echo hi; exit 4"]}},
    response_type="object", auth_settings=["BearerToken"], _return_http_data_only=True)
check("JSON", (made["status"]["outcome"], made["status"]["stdout"], made["status"]["exitCode"]), ("Completed", "hi\n", 4))
print("ok")
