"""What a step of each system needs on TPUs and GPUs, compiled without having them.

    python benchmarks/plan_systems.py --output=benchmarks/results                  # all, an hour
    python benchmarks/plan_systems.py --configs unet_em:paper --topologies v5e h100
    python benchmarks/plan_systems.py --configs segnet_camvid:paper --topologies v5e --forms=cpu

With the preset `+bf16` of each, and `--per_device` images on each device. It needs the extras plan-tpu
and plan-gpu. Each system has a process of its own. What has been compiled already is kept in the
file `--rows`, a row of JSON each, so that the command can be given again. With `--forms=cpu` ops have the
forms that are fast on CPUs, as they had everywhere once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results import environment, save

TOPOLOGIES = ("v5e", "v5e:2x4", "h100", "h100x8")
MORE = {"unet_em:paper": ("v5p", "v6e", "h200", "v5e:8x8")}
"""Topologies of some systems besides."""
LATTICE = "crf_rnn_shapes, lattice"
SYSTEMS = (
    *("unet_em:paper", "fcn_voc:8s", "segnet_camvid:paper", "deconvnet_voc:paper"),
    *("deeplab_v1_voc", "deeplab_v2_voc", "deeplab_v3_voc", "deeplab_v3plus_voc"),
    *("pspnet_voc", "dilated_voc", "lraspp_camvid:torchvision", "segformer_ade20k"),
    *("crf_rnn_shapes", LATTICE, "mask_rcnn_coco"),
)
CHANGES = {
    LATTICE: {
        "model": {"crf": {"method": "lattice"}},
        "pipeline": {"input_size": (320, 320)},
    }
}
"""Keys of the configs of some systems."""

OVER = 124
"""The exit code of `timeout` where time was over."""


def measure(
    name: str, topology: str, per_device: int, forms: str | None
) -> dict[str, Any]:
    """Compiles one program; of one that cannot be compiled the reason is kept."""
    from segjax import config as config_lib
    from segjax.errors import UserError
    from segjax.inspect.machines import read_topology
    from segjax.ops.base.forms import lowering_for
    from segjax.runs.plan import plan
    from segjax.training.sharding import Devices

    experiment = name.partition(",")[0]
    preset = "+bf16" if ":" in experiment else ":bf16"
    config = config_lib.load(experiment + preset)
    with config.unlocked():
        config.update(CHANGES.get(name, {}))
    if forms is not None:
        patched: Any = Devices
        patched.lowering = lambda self: lowering_for(forms, self.parts)
    batch_size = per_device * read_topology(topology).count
    row = {"experiment": name, "topology": topology, "per_device": per_device}
    row["forms"] = forms
    began = time.process_time()
    try:
        row |= plan(config, topology, batch_size)
    except UserError as error:
        row["error"] = str(error)
    return {**row, "cpu_seconds": time.process_time() - began}


def run_one(
    name: str, topologies: list[str], per_device: int, forms: str | None, limit: int
) -> Iterator[dict[str, Any]]:
    """`measure` in another process, which ends after a number of seconds."""
    command = [sys.executable, __file__, "--one", name, *topologies]
    command.append(f"--per_device={per_device}")
    command += [f"--forms={forms}"] * (forms is not None)
    row = {"experiment": name, "per_device": per_device, "forms": forms}
    process = subprocess.Popen(
        ["timeout", str(limit * len(topologies)), *command],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    left = list(topologies)
    for line in process.stdout or ():
        found = json.loads(line)
        left.remove(found["topology"])
        yield found
    if process.wait():
        reason = f"the compiler ended with code {process.returncode}"
        if process.returncode == OVER:
            reason = f"no program within {limit} s"
        yield {**row, "topology": left[0], "error": reason}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="*", default=SYSTEMS)
    parser.add_argument("--topologies", nargs="*", default=())
    parser.add_argument("--per_device", type=int, default=8)
    parser.add_argument(
        "--forms", choices=["cpu"], help="forms of ops for another platform"
    )
    parser.add_argument("--limit", type=int, default=1800, help="seconds a program")
    parser.add_argument("--rows", default="runs/plan_systems.jsonl")
    parser.add_argument("--output", help="a folder for the result, as JSON")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        name, *topologies = args.one
        for topology in topologies:
            row = measure(name, topology, args.per_device, args.forms)
            print(json.dumps(row), flush=True)
        return
    found, kept = environment("cpu"), Path(args.rows)
    kept.parent.mkdir(parents=True, exist_ok=True)
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    rows = {key_of(row): row for row in map(json.loads, lines)}
    for name in args.configs:
        wanted = args.topologies or (*TOPOLOGIES, *MORE.get(name, ()))
        alike = args.per_device, args.forms
        lacking = [x for x in wanted if (name, x, *alike) not in rows]
        if not lacking:
            continue
        for row in run_one(name, lacking, *alike, args.limit):
            rows[key_of(row)] = row
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    save("plan", {**found, "rows": list(rows.values())}, args.output)


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("experiment", "topology", "per_device", "forms"))


if __name__ == "__main__":
    main()
