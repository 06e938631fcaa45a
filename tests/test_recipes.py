"""The scripts in recipes/, with the programs that they call played by others: what they run, and
what they do when a program is stopped or a machine goes away."""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import time

import pytest
from conftest import ROOT

from rnn_jax import commands

RECIPES = ROOT / "recipes"
SCRIPTS = sorted(path.name for path in RECIPES.glob("*.sh"))
PLAYED = r"""#!/usr/bin/env bash
echo "$(basename "$0") $(printf '%q ' "$@")" >>"$LOG"
"""


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


class Stage:
    """A folder of programs that note how they are called."""

    def __init__(self, path):
        self.path, self.log = path, path / "log"
        (path / "bin").mkdir()
        self.log.touch()
        self.environment = {
            "PATH": f"{path / 'bin'}:/usr/bin:/bin", "LOG": str(self.log), "HOME": str(path),
            "STAGE": str(path), "SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_PER_TASK": "4",
        }  # fmt: skip

    def play(self, name, does=""):
        file = self.path / "bin" / name
        file.write_text(PLAYED + does)
        file.chmod(0o755)

    def start(self, script, *arguments, **variables):
        return subprocess.Popen(
            ["bash", str(RECIPES / script), *arguments], env=self.environment | variables,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.path,
        )  # fmt: skip

    def run(self, script, *arguments, **variables):
        """(exit code, calls)."""
        process = self.start(script, *arguments, **variables)
        out, _ = process.communicate(timeout=60)
        self.said = out
        return process.returncode, self.calls()

    def calls(self):
        found = [shlex.split(line) for line in self.log.read_text().splitlines()]
        self.log.write_text("")
        for script, *words in found:
            if script == "python":
                commands.parse(words, ROOT)  # raises what the program would say
        return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_command_at_the_head_is_one(name):
    text = (RECIPES / name).read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(RECIPES / name)]).returncode == 0
    assert os.access(RECIPES / name, os.X_OK)
    head = text.partition("set -")[0].replace("\\\n# ", "").replace('"', "")
    found = re.findall(r"--experiment=.*", head)
    assert found or name == "vm.sh"
    for line in found:
        words = [word for word in line.split() if word.startswith("--")]
        commands.parse(["launch.py", *words], ROOT)


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (2, False), (143, True)])
def test_a_slurm_job_that_was_stopped_waits_for_its_turn_again(stage, code, requeued):
    stage.play("srun", 'exec "$@"')
    stage.play("scontrol")
    stage.play("python", f"exit {code}")
    found, calls = stage.run("slurm.sh", "--experiment=gru", "--workdir=/a b")
    assert found == code
    assert calls[1] == ["python", "launch.py", "--experiment=gru", "--workdir=/a b"]
    assert calls[2:] == ([["scontrol", "requeue", "7"]] if requeued else [])
    found, calls = stage.run("slurm_array.sh", "/seeds", "--experiment=gru")
    assert found == code
    flags = ["--config.train.seed=3", "--workdir=/seeds/3"]
    assert calls[1] == ["python", "launch.py", "--experiment=gru", *flags]
    assert calls[2:] == ([["scontrol", "requeue", "7"]] if requeued else [])


def test_a_slurm_job_with_ray_starts_it_everywhere_and_hands_on_the_signal(stage):
    stage.play("srun")
    stage.play("scontrol", 'if [ "$1" = show ]; then printf "n1\\nn2\\nn3\\n"; fi')
    stage.play(
        "python",
        "trap 'sleep 0.3; exit 143' TERM; touch $STAGE/on; while true; do sleep 0.05; done",
    )
    process = stage.start(
        "slurm_ray.sh", "--experiment=gru", "--sweep=train.seed=0..9", RAY_WAIT="0.2"
    )
    deadline = time.monotonic() + 30
    while not (stage.path / "on").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 143, out
    calls = stage.calls()
    start = "ray start --head --port=6379 --num-cpus=4 --include-dashboard=false --block"
    nodes = ["--nodes=1", "--ntasks=1", "--nodelist=n1", "--overlap"]
    assert ["srun", *nodes, *start.split()] in calls
    nodes = ["--nodes=2", "--ntasks=2", "--exclude=n1", "--overlap"]
    start = "ray start --address=n1:6379 --num-cpus=4 --block"
    assert ["srun", *nodes, *start.split()] in calls
    flags = ["--experiment=gru", "--sweep=train.seed=0..9", "--engine=ray", "--ray_address=n1:6379"]
    assert ["python", "launch.py", *flags] in calls
    assert calls[-1] == ["scontrol", "requeue", "7"]


def test_a_ray_job_is_the_same_command_on_the_cluster(stage):
    stage.play("ray")
    sweep = "--sweep=model.cell=[gru, lstm]"
    code, calls = stage.run("ray_job.sh", "--experiment=gru", sweep, RAY_API="http://h:8265")
    assert code == 0, stage.said
    (words,) = calls
    assert words[:5] == ["ray", "job", "submit", "--no-wait", "--address=http://h:8265"]
    place = words.index("--") + 1
    flags = ["--experiment=gru", sweep, "--engine=ray", "--ray_address=auto"]
    assert words[place:] == ["python", "launch.py", *flags]


ARGUMENTS = "--experiment=gru --workdir=/w --mirror=gs://b/x --sweep='model.cell=[gru, lstm]'"
WORDS = ["--experiment=gru", "--workdir=/w", "--mirror=gs://b/x", "--sweep=model.cell=[gru, lstm]"]
VENV = r"""
if [ "$2" = venv ]; then
  mkdir -p "$3/bin"
  cp "$STAGE/bin/pip" "$STAGE/bin/python" "$3/bin"
fi
"""


def fresh_machine(stage):
    stage.play("git", 'if [ "$1" = clone ]; then mkdir -p "$4"; fi')
    stage.play("pip")
    stage.play("python")
    stage.play("python3", VENV)


def test_a_machine_installs_once_and_trains_each_time(stage):
    fresh_machine(stage)
    place = stage.path / "place"
    given = {"REPOSITORY": "https://x/y", "ARGUMENTS": ARGUMENTS, "PLACE": str(place)}
    code, calls = stage.run("vm.sh", **given)
    assert code == 0, stage.said
    assert ["git", "clone", "--quiet", "https://x/y", f"{place}/source"] in calls
    assert ["pip", "install", "--quiet", "jax[cuda12]", "-e", f"{place}/source[mirror]"] in calls
    assert calls[-1] == ["python", "launch.py", *WORDS]
    assert stage.run("vm.sh", **given)[1] == [["python", "launch.py", *WORDS]]  # taken away, back
    code, calls = stage.run("vm.sh", REPOSITORY="https://x/y")
    assert (code != 0, calls) == (True, [])
    assert "arguments of launch.py" in stage.said


KEPT = r"""
for word in "$@"; do
  case $word in *startup-script=*) cp "${word##*=}" $STAGE/script ;; esac
done
"""


def test_a_group_of_one_gpu_has_a_script_that_starts_it(stage):
    stage.play("gcloud", KEPT)
    given = {"REPOSITORY": "https://x/y", "ARGUMENTS": ARGUMENTS}
    image = {"IMAGE_PROJECT": "p", "IMAGE_FAMILY": "f"}
    code, calls = stage.run("gpu_vm.sh", "create", "mine", **given, **image)
    assert code == 0, stage.said
    assert calls[0][:5] == ["gcloud", "compute", "instance-templates", "create", "mine"]
    assert {"--provisioning-model=SPOT", "--image-family=f"} < set(calls[0])
    assert calls[1][:6] == ["gcloud", "compute", "instance-groups", "managed", "create", "mine"]
    fresh_machine(stage)  # on the machine there are no settings but those in the script
    process = subprocess.run(
        ["bash", str(stage.path / "script")],
        env=stage.environment | {"PLACE": str(stage.path / "p")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert stage.calls()[-1] == ["python", "launch.py", *WORDS]
    assert [call[:5] for call in stage.run("gpu_vm.sh", "delete", "mine")[1]] == [
        ["gcloud", "compute", "instance-groups", "managed", "delete"],
        ["gcloud", "compute", "instance-templates", "delete", "mine"],
    ]
    assert stage.run("gpu_vm.sh", "create", "mine", **given)[0] != 0
    assert stage.run("gpu_vm.sh", "crate", "mine")[0] == 2


GCLOUD = r"""
case $4 in
  describe) if [ -e "$STAGE/state" ]; then cat "$STAGE/state"; else exit 1; fi ;;
  create) echo READY >"$STAGE/state" ;;
  delete) rm "$STAGE/state" ;;
  ssh)
    for word in "$@"; do
      case $word in --command=*) echo "${word#--command=}" >"$STAGE/command" ;; esac
    done
    if [ ! -e "$STAGE/gone" ]; then touch "$STAGE/gone"; echo PREEMPTED >"$STAGE/state"; exit 1; fi
    exit "${CODE:-0}" ;;
esac
"""


@pytest.mark.parametrize("code", [0, 2])
def test_a_tpu_that_is_taken_away_is_made_anew(stage, code):
    stage.play("gcloud", GCLOUD)
    given = {"REPOSITORY": "https://x/y", "ARGUMENTS": ARGUMENTS, "PAUSE": "0", "CODE": str(code)}
    found, calls = stage.run("tpu_vm.sh", "mine", **given)
    assert found == code, stage.said
    done = [call[4] for call in calls if call[4] != "describe"]
    assert done == ["create", "scp", "ssh", "delete", "create", "scp", "ssh", "delete"]
    assert all("--zone=us-central1-a" in call for call in calls)
    # What the machine is told to do is what vm.sh understands.
    fresh_machine(stage)
    told = (stage.path / "command").read_text().replace("bash vm.sh", f"bash {RECIPES / 'vm.sh'}")
    process = subprocess.run(
        ["bash", "-c", told], env=stage.environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    calls = stage.calls()
    assert any(call[:4] == ["pip", "install", "--quiet", "jax[tpu]"] for call in calls)
    assert calls[-1] == ["python", "launch.py", *WORDS]
    assert pathlib.Path(stage.path / "rnn_jax" / "ready").exists()


def test_the_image_copies_what_there_is_and_installs_what_there_is():
    text = (RECIPES / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.*)$", text, flags=re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
    assert re.search(r"^mirror = \[", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert "'.[mirror]'" in text
    assert re.search(r'^ENTRYPOINT \["python", ".*/launch\.py"\]$', text, flags=re.MULTILINE)
