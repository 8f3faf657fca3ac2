"""Tests of the example for Airflow, with stubs in place of Airflow's classes: it says nothing of a real Airflow."""

import importlib
import logging
import sys
import types
import unittest
from unittest import mock

import connpool


class BaseHook:
    def get_connection(self, conn_id):
        return types.SimpleNamespace(host="https://example.test", port=6443, password="secret", schema="prod",
                                     extra_dejson={"ca_file": "/ca.crt"})


class BaseOperator:
    def __init__(self, *, task_id):
        self.task_id, self.log, self.pool = task_id, logging.getLogger("airflow.task"), "default_pool"


class AirflowException(Exception):
    pass


class AirflowFailException(AirflowException):
    pass


def module(name, **members):
    made = types.ModuleType(name)
    made.__dict__.update(members)
    return made


def load(version):
    """The example, as that version of Airflow would import it."""
    modules = {"airflow": module("airflow"), "connpool_airflow": None,
               "airflow.exceptions": module("airflow.exceptions", AirflowException=AirflowException,
                                            AirflowFailException=AirflowFailException)}
    if version == 3:
        modules["airflow.sdk"] = module("airflow.sdk", BaseHook=BaseHook, BaseOperator=BaseOperator)
    else:
        modules.update({"airflow.hooks": module("airflow.hooks"), "airflow.hooks.base": module("x", BaseHook=BaseHook),
                        "airflow.models": module("airflow.models", BaseOperator=BaseOperator)})
    with mock.patch.dict(sys.modules, modules):
        del sys.modules["connpool_airflow"]
        return importlib.import_module("connpool_airflow")


def context(**fields):
    return {"ti": types.SimpleNamespace(**{
        "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "try_number": 1, **fields})}


class Operator(unittest.TestCase):
    def setUp(self):
        self.example = load(3)
        self.pool = mock.Mock()
        pools = mock.patch.object(self.example.ConnpoolHook, "get_pool", return_value=self.pool)
        self.get_pool = pools.start()
        self.addCleanup(pools.stop)

    def run_task(self, **given):
        given = context(**given)
        task = self.example.ConnpoolOperator(
            task_id="t", connection_pool="web", namespace="prod", target="web-1", argv=["uptime"])
        self.assertEqual(task.pool, "default_pool")  # that of Airflow's slots
        return task.execute(given)

    def test_it_runs_the_command_and_returns_stdout(self):
        self.pool.exec.return_value = connpool.Result(outcome="Completed", exit_code=0, stdout=b"up\n", target="web-1")
        with self.assertLogs("airflow.task", "INFO"):
            self.assertEqual(self.run_task(), "up\n")
        self.get_pool.assert_called_with("web", "prod")
        self.assertEqual(self.pool.exec.call_args.args, (["uptime"],))
        self.assertEqual(self.pool.exec.call_args.kwargs["target"], "web-1")
        self.assertIsInstance(self.pool.exec.call_args.kwargs["retry"], connpool.Retry)

    def test_only_an_unknown_outcome_keeps_airflow_from_another_try(self):
        ended = connpool.ExitError(connpool.Result(outcome="Completed", exit_code=3, stderr=b"oops"))
        for error, want in ((ended, AirflowException), (connpool.NotStarted("down"), AirflowException),
                            (connpool.Unknown("lost"), AirflowFailException)):
            self.pool.exec.side_effect = error
            with self.subTest(error), self.assertRaises(AirflowException) as caught:
                logging.getLogger("airflow.task").disabled = True
                self.run_task()
            self.assertIs(type(caught.exception), want)
            logging.getLogger("airflow.task").disabled = False

    def test_each_try_has_a_request_id_of_its_own(self):
        tries = [context()["ti"], context(try_number=2)["ti"], context(map_index=0)["ti"], context(run_id="s")["ti"]]
        self.assertEqual(len({self.example.request_id(t) for t in tries}), 4)
        self.assertEqual(self.example.request_id(tries[0]), self.example.request_id(context()["ti"]))


class Hook(unittest.TestCase):
    def test_an_airflow_connection_says_the_server_and_the_user(self):
        for version in (2, 3):
            client = load(version).ConnpoolHook("connpool_default").get_conn()
            self.assertEqual((client._host, client._port, client._token, client._ca_file, client.namespace),
                             ("example.test", 6443, "secret", "/ca.crt", "prod"))

    def test_without_one_it_is_the_default_client(self):
        with mock.patch.object(connpool.Client, "default", return_value="the default"):
            self.assertEqual(load(3).ConnpoolHook().get_conn(), "the default")


if __name__ == "__main__":
    unittest.main()
