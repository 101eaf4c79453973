"""examples/clusters: each script, as far as it goes without a cluster.

`srun`, `kubectl`'s pods and `gcloud` are stood in for by a program that starts some processes with
the variables that a cluster gives them; JAX's own detection reads those.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from segjax.runs.predict import predict_run

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "clusters"

LAUNCHER = """
import os, pathlib, subprocess, sys

kind, *command = sys.argv[1:]
count, logs = int(os.environ["COUNT"]), pathlib.Path(os.environ["LOGS"])
hosts = ",".join(["localhost"] * count)
variables = {
    "slurm": lambda i: {
        "SLURM_JOB_ID": "4711", "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count), "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i),
    },
    "kubernetes": lambda i: {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": str(i),
        "JAX_COORDINATOR_ADDRESS": "localhost:" + os.environ["JAX_COORDINATOR_PORT"],
    },
    "tpu": lambda i: {
        "JAX_FORCE_TPU_INIT": "1", "TPU_WORKER_HOSTNAMES": hosts, "TPU_WORKER_ID": str(i),
        # What else the server of metadata would be asked for: one slice.
        "MEGASCALE_NUM_SLICES": "1", "MEGASCALE_SLICE_ID": "0",
        "MEGASCALE_COORDINATOR_ADDRESS": "",
    },
}[kind]
processes = [
    subprocess.Popen(
        command, env=os.environ | variables(i), stderr=(logs / f"{i}.log").open("w")
    )
    for i in range(count)
]
(logs / "pids").write_text(" ".join(str(process.pid) for process in processes))
codes = [process.wait() for process in processes]
sys.exit(max(128 - code if code < 0 else code for code in codes))
"""

KUBERNETES = """
import os, types
from jax._src.clusters import K8sCluster

K8sCluster._namespace = classmethod(lambda cls: "default")  # a file of the pod
job = types.SimpleNamespace(spec=types.SimpleNamespace(parallelism=int(os.environ["COUNT"])))
pod = types.SimpleNamespace(metadata=types.SimpleNamespace(labels={"job-name": "segjax"}))
config = types.SimpleNamespace(load_incluster_config=lambda: None)
client = types.SimpleNamespace(
    CoreV1Api=lambda: types.SimpleNamespace(
        list_namespaced_pod=lambda **_: types.SimpleNamespace(items=[pod])
    ),
    BatchV1Api=lambda: types.SimpleNamespace(read_namespaced_job=lambda **_: job),
    exceptions=types.SimpleNamespace(ApiException=type("ApiException", (Exception,), {})),
)
"""
"""What JAX asks of the package, and the answers of the API of a cluster."""


class Cluster:
    """A folder of programs that stand in for those of a cluster."""

    def __init__(self, folder, patience):
        self.folder, self.patience = folder, patience
        self.programs = folder / "bin"
        self.programs.mkdir(parents=True)
        (folder / "packages").mkdir()
        (folder / "packages" / "kubernetes.py").write_text(KUBERNETES)
        (folder / "launcher.py").write_text(LAUNCHER)
        python = shlex.quote(sys.executable)
        launch = f"{python} {shlex.quote(str(folder / 'launcher.py'))}"
        self.program("segjax", f'exec {python} -m segjax.main "$@"')
        self.program(
            "srun",
            f'while [[ "$1" == --* ]]; do shift; done; exec {launch} slurm "$@"',
        )
        self.program("scontrol", f'echo "$@" >> {shlex.quote(str(folder))}/scontrol')
        self.program(
            "gcloud",
            'for last; do :; done; command="${last#--command=}"\n'
            f'eval "exec {launch} tpu $command"',
        )
        self.program("pod", f'exec {launch} kubernetes "$@"')

    def program(self, name, body):
        path = self.programs / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def start(self, count, *command):
        """Starts a command; `count` processes come of it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.logs = self.folder / f"logs_{command[0].rpartition('/')[2]}"
        self.logs.mkdir()
        environment = os.environ | {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{self.folder / 'packages'}",
            "COUNT": str(count),
            "LOGS": str(self.logs),
            "SLURM_JOB_ID": "4711",
            "HOSTNAME": "localhost",
            "JAX_COORDINATOR_PORT": str(port),
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
        }
        self.process = subprocess.Popen([*command], cwd=ROOT, env=environment)

    def log(self, index):
        path = self.logs / f"{index}.log"
        return path.read_text() if path.exists() else ""

    def send(self, number, index, when):
        """Sends a signal to one process once process 0 has written something."""
        deadline = time.monotonic() + self.patience
        while when not in self.log(0):
            assert self.process.poll() is None, self.log(0)
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(int((self.logs / "pids").read_text().split()[index]), number)

    def end(self):
        return self.process.wait(timeout=self.patience)


@pytest.fixture
def cluster(tmp_path, patience):
    made = Cluster(tmp_path / "cluster", patience)
    yield made
    if made.process.poll() is None:
        for pid in (made.logs / "pids").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        made.process.wait()


@pytest.mark.slow
def test_a_run_goes_from_slurm_to_kubernetes_to_a_tpu_pod(cluster, cache_dir, tmp_path):
    """One of four processes is killed, one of two preempted, and two predict what one does."""
    run = tmp_path / "run"
    arguments = (
        "--config=unet_em:smoke",
        "--config.num_steps=100000",
        "--config.eval_every=100000",
        "--config.checkpoint_every=2",
        "--config.log_every=1",
        f"--workdir={run}",
        f"--cache_dir={cache_dir}",
    )
    cluster.start(4, str(EXAMPLES / "slurm.sh"), *arguments)
    cluster.send(signal.SIGKILL, 3, "step 5/")
    assert cluster.end() == 128 + signal.SIGKILL
    for i in range(4):
        first, *_ = cluster.log(i).splitlines()
        assert first == f"Processes  4, found by Slurm; this is number {i}."
        if i < 3:
            sentence = "\nsegjax: Another process of this run has ended"
            assert sentence in cluster.log(i), cluster.log(i)
            assert "Traceback" not in cluster.log(i)
    assert not (cluster.folder / "scontrol").exists()

    documents = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    (job,) = [x for x in documents if x["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, verb, *_, exit_code = container["command"]
    cluster.start(2, "pod", program, verb, *arguments, exit_code)
    cluster.send(signal.SIGTERM, 1, "images/s")
    assert cluster.end() == 1, cluster.log(0)
    assert "Processes  2, found by Kubernetes; this is number 0." in cluster.log(0)
    resumed = re.search(r"^Resuming at step (\d+)\.$", cluster.log(0), re.MULTILINE)
    saved = max(int(x.name) for x in (run / "checkpoints").iterdir())
    assert 2 <= int(resumed[1]) < saved
    assert "Traceback" not in cluster.log(0) + cluster.log(1)

    stack = np.random.default_rng(0).integers(0, 256, (3, 70, 90), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    cluster.start(
        2,
        str(EXAMPLES / "tpu_pod.sh"),
        *("my-pod", "a-zone", "segjax", "predict", str(run), "--probabilities"),
        *(f"--input={tmp_path / 'stack.tif'}", f"--output={tmp_path / 'shared out'}"),
    )
    assert cluster.end() == 0, cluster.log(0)
    assert "Processes  2, found by TPU pod; this is number 1." in cluster.log(1)
    predict_run(run, tmp_path / "stack.tif", tmp_path / "alone", probabilities=True)
    shared, alone = (
        {path.name: path for path in (tmp_path / folder).glob("[!.]*")}
        for folder in ("shared out", "alone")
    )
    assert sorted(shared) == sorted(alone) == ["stack.tif", "stack_probabilities.tif"]
    assert shared["stack.tif"].read_bytes() == alone["stack.tif"].read_bytes()
    # This process has other devices, and so other programs: probabilities are rounded apart.
    probabilities = [
        tifffile.imread(paths["stack_probabilities.tif"]) for paths in (shared, alone)
    ]
    np.testing.assert_allclose(*probabilities, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (75, True)])
def test_a_run_that_slurm_interrupts_is_queued_again(cluster, code, requeued):
    cluster.program("segjax", f'echo "$@" >&2; exit {code}')
    cluster.start(2, str(EXAMPLES / "slurm.sh"), "--workdir=runs/with a space")
    assert cluster.end() == code
    queued = cluster.folder / "scontrol"
    assert queued.exists() == requeued
    if requeued:
        assert queued.read_text() == "requeue 4711\n"
    given = "train --interrupted_exit_code=75 --workdir=runs/with a space\n"
    assert cluster.log(0) == cluster.log(1) == given


def test_the_job_of_kubernetes_is_what_jax_asks_for():
    job, service, role = {}, {}, {}
    for document in yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()):
        {"Job": job, "Service": service, "Role": role}.get(document["kind"], {}).update(
            document
        )
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] > 1
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"]["job-name"] == job["metadata"]["name"]
    allowed = {
        (x, verb)
        for rule in role["rules"]
        for x in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {("pods", "list"), ("jobs", "get"), ("services", "list")} <= allowed
