"""What a step of each system needs on TPUs and GPUs, compiled without having them.

    python benchmarks/plan_systems.py --output=benchmarks/results                  # all, an hour
    python benchmarks/plan_systems.py --configs unet_em:paper --topologies v5e h100

In bfloat16, with `--per_device` images on each device. It needs the extras plan-tpu and plan-gpu.
Each program is compiled in a process of its own. What has been compiled already is kept in the file
`--rows`, a row of JSON each, so that the command can be given again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from results import environment, save

TOPOLOGIES = ("v5e", "v5e:2x4", "h100", "h100x8")
MORE = {"unet_em:paper": ("v5p", "v6e", "h200", "v5e:8x8")}
"""Topologies of some systems besides."""
SYSTEMS = (
    *("unet_em:paper", "fcn_voc", "segnet_camvid", "deconvnet_voc", "deeplab_v1_voc"),
    *("deeplab_v2_voc", "deeplab_v3_voc", "deeplab_v3plus_voc", "pspnet_voc"),
    *("dilated_voc", "lraspp_camvid", "crf_rnn_shapes", "mask_rcnn_coco"),
)


def in_bfloat16(group: Any) -> None:
    """Sets every dtype of a network and its parts."""
    for key, value in group.items():
        if hasattr(value, "items"):
            in_bfloat16(value)
        elif key == "dtype":
            group[key] = "bfloat16"


def measure(name: str, topology: str, per_device: int) -> dict[str, Any]:
    """Compiles one program; of one that cannot be compiled the reason is kept."""
    from segjax import config as config_lib
    from segjax.errors import UserError
    from segjax.inspect.machines import read_topology
    from segjax.runs.plan import plan

    config = config_lib.load(name)
    in_bfloat16(config.model)
    batch_size = per_device * read_topology(topology).count
    row = {"experiment": name, "topology": topology, "per_device": per_device}
    try:
        return {**row, **plan(config, topology, batch_size)}
    except UserError as error:
        return {**row, "error": str(error)}


def run_one(name: str, topology: str, per_device: int, limit: int) -> dict[str, Any]:
    """`measure` in another process, which ends after a number of seconds."""
    command = [sys.executable, __file__, "--one", name, topology]
    command.append(f"--per_device={per_device}")
    row = {"experiment": name, "topology": topology, "per_device": per_device}
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            timeout=limit,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
    except subprocess.TimeoutExpired:
        return {**row, "error": f"no program within {limit} s"}
    if done.returncode:
        return {**row, "error": f"the compiler ended with code {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="*", default=SYSTEMS)
    parser.add_argument("--topologies", nargs="*", default=())
    parser.add_argument("--per_device", type=int, default=8)
    parser.add_argument("--limit", type=int, default=1800, help="seconds a program")
    parser.add_argument("--rows", default="runs/plan_systems.jsonl")
    parser.add_argument("--output", help="a folder for the result, as JSON")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.per_device)))
        return
    found, kept = environment("cpu"), Path(args.rows)
    kept.parent.mkdir(parents=True, exist_ok=True)
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    rows = {key_of(row): row for row in map(json.loads, lines)}
    for name in args.configs:
        for topology in args.topologies or (*TOPOLOGIES, *MORE.get(name, ())):
            key = name, topology, args.per_device
            if key not in rows:
                rows[key] = run_one(*key, args.limit)
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[key]) + "\n")
            print(json.dumps(rows[key]), flush=True)
    save("plan", {**found, "rows": list(rows.values())}, args.output)


def key_of(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["experiment"], row["topology"], row["per_device"]


if __name__ == "__main__":
    main()
