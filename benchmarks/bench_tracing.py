"""CPU seconds to trace and to lower a step of training: what every start pays before the cache.

    python benchmarks/bench_tracing.py --output=benchmarks/results            # every config
    python benchmarks/bench_tracing.py --configs deeplab_v3plus_voc --platform=tpu

Nothing is compiled, no data is read, and no device is wanted. Each config has a process of its
own, as JAX keeps what it has traced. Seconds are the processor's, which a busy machine changes
little.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from typing import Any

from results import environment, save


def measure(name: str, platform: str) -> dict[str, Any]:
    """Traces and lowers the step of a config for one device of a platform."""
    import jax

    from segjax import config as config_lib
    from segjax.data import channels_of
    from segjax.ops.base.forms import lowering_for
    from segjax.runs.plan import without_counting
    from segjax.tasks.table import make_task

    task = make_task(without_counting(config_lib.load(name)))
    channels = channels_of(task.config.data)
    at = [time.process_time()]
    with lowering_for(platform):
        state = jax.eval_shape(lambda: task.init_state(channels))
        at.append(time.process_time())
        batch = task.abstract_batch(channels, task.config.batch_size)
        traced = jax.jit(task.train_step, donate_argnums=0).trace(state, batch)
        at.append(time.process_time())
    traced.lower(lowering_platforms=(platform,))
    at.append(time.process_time())
    state_seconds, trace_seconds, lower_seconds = (
        round(after - before, 2) for before, after in itertools.pairwise(at)
    )
    return {
        "config": name,
        "platform": platform,
        "state_seconds": state_seconds,
        "trace_seconds": trace_seconds,
        "lower_seconds": lower_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="*", help="names; all of them by default")
    parser.add_argument("--platform", choices=("cpu", "cuda", "tpu"), default="cpu")
    parser.add_argument("--output", help="a folder for the result, as JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.platform)))
        return
    from segjax.shipped_configs import shipped_configs

    found = environment("cpu")
    rows = []
    for name in args.configs or shipped_configs():
        command = [sys.executable, __file__, f"--one={name}"]
        command.append(f"--platform={args.platform}")
        alone = os.environ | {"JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=alone
        )
        rows.append(json.loads(done.stdout))
        print(rows[-1], flush=True)
    what = "tracing" if args.platform == "cpu" else f"tracing_{args.platform}"
    save(what, {**found, "rows": rows}, args.output)


if __name__ == "__main__":
    main()
