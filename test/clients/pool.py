"""Runs commands in a pool with connpool.py, as its users do: through kube-apiserver with a kubeconfig, and straight to the
operator with the files of a ServiceAccount."""

import sys

import connpool

kubeconfig, account, server, authority, other_authority, name = sys.argv[1:]


def check(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")


def raised(kind, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except kind as e:
        return e
    sys.exit(f"{options}: no {kind.__name__}")


def commands(how, pool, target):
    check(how, pool.exec(["printf", "%s", "it's\na  b"]).text, "it's\na  b")
    result = pool.exec(shell="cat; printf '\\377' >&2", stdin=b"\x00\xff", target=target)
    check(how + " bytes", (result.stdout, result.stderr), (b"\x00\xff", b"\xff"))
    check(how + " result", (result.ok, result.target, result.acquired in ("Warm", "Dialed")), (True, target, True))

    failed = raised(connpool.ExitError, pool.exec, ["sh", "-c", "echo oops >&2; exit 3"])
    check(how + " exit code", (failed.code, failed.result.stderr_text), (3, "oops\n"))
    check(how + " unchecked", pool.exec(["sh", "-c", "exit 4"], check=False).exit_code, 4)

    check(how + " timeout", raised(connpool.Unknown, pool.exec, ["sleep", "60"], timeout=1).outcome, "Unknown")
    check(how + " deadline", raised(connpool.Unknown, pool.exec, ["sleep", "60"], deadline=1).repeatable, False)
    missing = raised(connpool.NotStarted, pool.exec, ["true"], target="nowhere", retry=connpool.Retry())
    check(how + " no such target", missing.status, 404)
    missing = raised(connpool.NotStarted, pool.client.pool("nothing").exec, ["true"])
    check(how + " no such pool", missing.status in (403, 404), True)

    with pool.run(["sh", "-c", "echo hi; exit 5"], targets=[target, "nowhere"], output_bytes=1) as run:
        results = {r.target: r for r in run}
        check(how + " planned", sorted(run.targets), sorted(results))
    check(how + " many", (results[target].exit_code, results[target].text, results[target].truncated), (5, "h", True))
    check(how + " many, no such target", (results["nowhere"].outcome, results["nowhere"].reason), ("NotStarted", "NotFound"))
    check(how + " all", [(r.target, r.ok) for r in pool.run(["true"], all=True)], [(target, True)])
    refused = raised(connpool.NotStarted, pool.run, ["true"], selector={"app": "-"})
    check(how + " many, refused", refused.status, 400)
    cut = list(pool.run(["sleep", "60"], all=True, deadline=1))
    check(how + " many, cut short", [(r.target, r.outcome) for r in cut], [(target, "Unknown")])

    once = ["sh", "-c", "head -c 9 /dev/urandom | od -An -tx1"]
    first = pool.exec(once, request_id=how, retry=connpool.Retry())
    check(how + " the same ID", pool.exec(once, request_id=how).stdout, first.stdout)
    other = raised(connpool.NotStarted, pool.exec, ["true"], request_id=how)
    check(how + " the same ID for another command", (other.status, other.reason), (409, "Conflict"))


with connpool.Client.from_kubectl(kubeconfig=kubeconfig) as client:
    listed = client.pool(name).exec(["true"])
    commands("through kube-apiserver", client.pool(name), listed.target)
with connpool.Client.in_cluster(server=server, ca_file=authority, directory=account) as client:
    commands("directly", client.pool(name), listed.target)
with connpool.Client.in_cluster(server=server, ca_file=other_authority, directory=account) as client:
    untrusted = raised(connpool.NotStarted, client.pool(name).exec, ["true"], retry=connpool.Retry())
    check("another authority", ("CERTIFICATE_VERIFY_FAILED" in str(untrusted), untrusted.repeatable), (True, False))
with connpool.Client(server, ca_file=authority, token="wrong") as client:
    check("a wrong token", raised(connpool.NotStarted, client.pool(name).exec, ["true"]).status, 401)
print("ok")
