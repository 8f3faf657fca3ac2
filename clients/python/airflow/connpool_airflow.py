"""An Airflow hook and operator that run commands through connpool's pools. An example: take it, and change it.

Put it and connpool.py where Airflow finds modules, such as the folder plugins. Then, in a DAG:

    from connpool_airflow import ConnpoolOperator

    deploy = ConnpoolOperator(
        task_id="deploy", namespace="prod", connection_pool="web", target="web-1", argv=["./deploy", "{{ ds }}"])

The worker needs no key of any host. In a cluster it acts as the ServiceAccount of its pod; elsewhere, as an Airflow
connection says. How a task ends:

- exit code 0: success. The task returns what the command wrote to stdout.
- another exit code, or not started: AirflowException. Airflow tries again if the task has retries.
- unknown: AirflowFailException. Airflow does not try again, since the command may have run.
"""

import hashlib

try:  # Airflow 3
    from airflow.sdk import BaseHook, BaseOperator
except ImportError:  # Airflow 2
    from airflow.hooks.base import BaseHook
    from airflow.models import BaseOperator
from airflow.exceptions import AirflowException, AirflowFailException

import connpool


class ConnpoolHook(BaseHook):
    """A client of the live API.

    Without the ID of an Airflow connection it is that of connpool.Client.default(). With one, the connection's fields
    mean: host, the server's address, beginning with https://; password, a token; schema, the namespace of the pools;
    and in extra, as JSON, token_file and ca_file.
    """

    conn_name_attr, default_conn_name = "connpool_conn_id", "connpool_default"
    conn_type, hook_name = "connpool", "connpool"

    def __init__(self, connpool_conn_id=None):
        super().__init__()
        self.connpool_conn_id = connpool_conn_id

    def get_conn(self):
        """The client. The caller closes it, unless it is the default one."""
        if self.connpool_conn_id is None:
            return connpool.Client.default()
        connection = self.get_connection(self.connpool_conn_id)
        extra = connection.extra_dejson
        server = f"{connection.host}:{connection.port}" if connection.port else connection.host
        return connpool.Client(server, token=connection.password, token_file=extra.get("token_file"),
                               ca_file=extra.get("ca_file"), namespace=connection.schema or "default")

    def get_pool(self, pool, namespace=None):
        """A pool, in the client's namespace by default."""
        return self.get_conn().pool(pool, namespace)


class ConnpoolOperator(BaseOperator):
    """Runs one command on one target of a pool, and returns its stdout.

    connection_pool names the pool, because pool is Airflow's own word for the slots of workers. The other arguments are
    those of connpool.Pool.exec. An answer that is lost on the way is asked for again, with a request
    ID of this try of the task, so that the command does not run twice. Another try of the task runs it again: leave
    retries at 0 if it must not, because Airflow also tries again when a worker was lost.
    """

    template_fields = ("connection_pool", "namespace", "target", "container", "pod", "argv", "shell", "env", "stdin")

    def __init__(self, *, connection_pool, argv=None, shell=None, namespace=None, target=None, container=None, pod=None,
                 pod_namespace=None, env=None, stdin="", timeout=None, deadline=None, retry=connpool.Retry(),
                 connpool_conn_id=None, **kwargs):
        super().__init__(**kwargs)
        self.connection_pool, self.namespace = connection_pool, namespace
        self.target, self.container, self.pod, self.pod_namespace = target, container, pod, pod_namespace
        self.argv, self.shell, self.env, self.stdin = argv, shell, env, stdin
        self.timeout, self.deadline, self.retry = timeout, deadline, retry
        self.connpool_conn_id = connpool_conn_id

    def execute(self, context):
        """Runs the command. If Airflow ends the task meanwhile, the connection closes and the command is signaled."""
        pool = ConnpoolHook(self.connpool_conn_id).get_pool(self.connection_pool, self.namespace)
        try:
            result = pool.exec(
                self.argv, shell=self.shell, target=self.target, container=self.container, pod=self.pod,
                pod_namespace=self.pod_namespace, env=self.env, stdin=self.stdin, timeout=self.timeout,
                deadline=self.deadline, retry=self.retry, request_id=request_id(context["ti"]))
        except connpool.Unknown as e:
            raise AirflowFailException(str(e)) from e
        except connpool.ExitError as e:
            self.log.error("stderr: %s", e.result.stderr_text)
            raise AirflowException(str(e)) from e
        except connpool.NotStarted as e:
            raise AirflowException(str(e)) from e
        self.log.info("ran on %s in %.3f s, request %s", result.target, result.duration, result.request_id)
        return result.text


def request_id(task_instance):
    """The same for the same try of a task, and for no other: a hash, because an ID has at most 128 characters."""
    parts = [str(getattr(task_instance, name)) for name in ("dag_id", "run_id", "task_id", "map_index", "try_number")]
    return "airflow-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
