"""The program and an object store, in processes of their own: killed in the middle of an upload, on
machines that are gone afterwards.

Needs `pip install -e '.[mirror]' 'moto[s3,server]'`, and is slow: run by hand.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from conftest import ROOT

import rnn_jax

pytest.importorskip("moto")
pytest.importorskip("s3fs")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(400)]


class Server:
    """Moto's S3 on 127.0.0.1; `before(method, path)` is called before each request is answered."""

    def __init__(self):
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        app = DomainDispatcherApplication(create_backend_app)
        self.before = lambda method, path: None

        def answer(environment, start):
            self.before(environment["REQUEST_METHOD"], environment["PATH_INFO"])
            return app(environment, start)

        self._server = make_server("127.0.0.1", 0, answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()


@pytest.fixture(scope="module")
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="module")
def variables(server, tmp_path_factory):
    """The environment of a process that may use the store."""
    import boto3

    found = os.environ | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
    }
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=server.url, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="bucket")
    return found


@pytest.fixture(scope="module")
def flags(csv_folder):
    return [
        "--experiment=masked_rnn",
        "--config.data.source=csv",
        f"--config.data.data_dir={csv_folder}",
        "--config.data.vocab_size=100",
        "--config.data.max_length=16",
        "--config.train.batch_size=4",
        "--config.train.epochs=12",
        "--config.train.patience=0",
        "--config.train.checkpoint_steps=16",
    ]


def start(arguments, variables):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), *arguments],
        cwd=ROOT, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def ended(process, code=0):
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, out + err
    return out, err


@pytest.mark.parametrize("moment", [3, 20, 35, 50])
def test_a_process_that_is_killed_in_an_upload_goes_on_on_a_fresh_machine(
    server, variables, flags, tmp_path, without_times, moment
):
    alone, run, address = tmp_path / "alone", tmp_path / "run", f"s3://bucket/killed{moment}"
    ended(start([*flags, f"--workdir={alone}"], variables))
    process = start([*flags, f"--workdir={run}", f"--mirror={address}"], variables)
    puts = []

    def kill(method, path):
        if method == "PUT":
            puts.append(path)
            if len(puts) == moment:
                process.send_signal(signal.SIGKILL)

    server.before = kill
    process.communicate(timeout=200)
    server.before = lambda method, path: None
    assert process.returncode == -signal.SIGKILL
    shutil.rmtree(run)
    process = start([*flags, f"--workdir={run}", f"--mirror={address}"], variables)
    out, _ = ended(process)
    assert ("restored from" in out) == (moment > 30)  # the first checkpoint was whole by then
    assert without_times(run) == without_times(alone)
    for one, other in zip(
        *(jax.tree.leaves(rnn_jax.load(path).run.params) for path in (run, alone)), strict=True
    ):
        assert np.array_equal(one, other)
    # SIGTERM, as a machine that is taken away gets it, costs nothing at all.
    shutil.rmtree(run)
    assert (
        "is finished"
        in ended(start([*flags, f"--workdir={run}", f"--mirror={address}"], variables))[0]
    )


def test_a_notice_of_preemption_saves_to_the_store(server, variables, flags, tmp_path):
    run, address = tmp_path / "run", "s3://bucket/preempted"
    process = start([*flags, f"--workdir={run}", f"--mirror={address}"], variables)
    began = threading.Event()
    server.before = lambda method, path: began.set() if "checkpoints" in path else None
    assert began.wait(100)
    process.send_signal(signal.SIGTERM)
    _, err = ended(process, 143)
    assert "stopped by SIGTERM; everything is saved in" in err
    newest = max((run / "checkpoints").iterdir()) / "digests.json"
    kept = newest.read_bytes()
    shutil.rmtree(run)
    out, _ = ended(start([*flags, f"--workdir={run}", f"--mirror={address}"], variables))
    assert "restored from" in out
    assert kept


def test_what_cannot_be_used_is_one_line_within_a_minute(variables, flags, tmp_path):
    with socket.socket() as silent:  # takes calls, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mute = f"http://127.0.0.1:{silent.getsockname()[1]}"
        without = {k: v for k, v in variables.items() if not k.startswith("AWS_ACCESS")}
        without |= {"HOME": str(tmp_path), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
        cases = (
            (without, "s3://bucket/x", "redentials"),
            (variables, "s3://no-such-bucket/x", "cannot be used ("),
            (variables | {"AWS_ENDPOINT_URL": mute}, "s3://bucket/x", "no answer within 30 s"),
            (variables | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://bucket/x", "onnect"),
        )
        processes = [
            start([*flags, f"--workdir={tmp_path / 'run'}{n}", f"--mirror={address}"], case)
            for n, (case, address, _) in enumerate(cases)
        ]
        for process, (_, _, message) in zip(processes, cases, strict=True):
            _, err = process.communicate(timeout=100)
            assert process.returncode == 2, err
            assert err.count("\n") == 1, err
            assert message in err
    assert not list(pathlib.Path(tmp_path).glob("run*"))
