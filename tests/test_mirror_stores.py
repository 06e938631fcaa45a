"""The program and object stores on 127.0.0.1: killed in the middle of an upload, on machines that
are gone afterwards.

Slow, and run by hand: needs `pip install -e '.[mirror]' 'moto[s3,server]' gcp-storage-emulator`.
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
from rnn_jax.runs import checkpoints
from rnn_jax.system.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(400)]


class Server:
    """Moto's S3 on 127.0.0.1; `before(method, path)` is called before each request is answered."""

    def __init__(self):
        pytest.importorskip("s3fs")
        pytest.importorskip("moto")
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


@pytest.fixture(scope="module")
def alone(variables, flags, tmp_path_factory):
    """The folder of a run that nothing disturbs."""
    path = tmp_path_factory.mktemp("alone") / "run"
    ended(start([*flags, f"--workdir={path}"], variables))
    return path


def assert_same(run, alone, without_times):
    assert without_times(run) == without_times(alone)
    found = (jax.tree.leaves(rnn_jax.load(path).run.params) for path in (run, alone))
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("moment", [3, 20, 35, 50])
def test_a_process_that_is_killed_in_an_upload_goes_on_on_a_fresh_machine(
    server, variables, flags, alone, tmp_path, without_times, moment
):
    run = tmp_path / "run"
    command = [*flags, f"--workdir={run}", f"--mirror=s3://bucket/killed{moment}"]
    process = start(command, variables)
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
    out, _ = ended(start(command, variables))
    assert ("restored from" in out) == (moment > 30)  # the first checkpoint was whole by then
    assert_same(run, alone, without_times)
    shutil.rmtree(run)
    out, _ = ended(start(command, variables))
    assert "is finished" in out


def test_a_notice_of_preemption_saves_to_the_store(
    server, variables, flags, alone, tmp_path, without_times
):
    run = tmp_path / "run"
    command = [*flags, f"--workdir={run}", "--mirror=s3://bucket/preempted"]
    process = start(command, variables)
    began = threading.Event()
    server.before = lambda method, path: began.set() if "checkpoints" in path else None
    assert began.wait(100)
    process.send_signal(signal.SIGTERM)
    _, err = ended(process, 143)
    assert "stopped by SIGTERM; everything is saved in" in err
    newest = checkpoints.newest(run / "checkpoints").progress
    shutil.rmtree(run)
    out, _ = ended(start(command, variables))
    where = f"{newest.epoch} epochs and {newest.batch} batches"
    assert f"restored from s3://bucket/preempted: {where}" in out
    assert_same(run, alone, without_times)


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


def test_google_s_store_takes_and_gives_as_well(monkeypatch, tmp_path):
    pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    try:
        store = open_store("gs://bucket/run")
        assert store.sizes() == {}
        (tmp_path / "file").write_bytes(b"content")
        store.put({"a/b": tmp_path / "file", "c": tmp_path / "file"})
        store.write("a/b", b"other")
        assert store.sizes() == {"a/b": 5, "c": 7}
        assert store.read("a/b", 5) == b"other"
        assert store.read("nothing", 5) is None
        store.get({"c": tmp_path / "x" / "y"}, 7)
        assert (tmp_path / "x" / "y").read_bytes() == b"content"
        store.remove(["a/b", "nothing"])
        assert store.sizes() == {"c": 7}
    finally:
        server.stop()
