import importlib.util
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

# The address of the repository, as for `git clone`; only needed where segjax is not yet.
REPOSITORY = ""

here = Path.cwd()
places = [here, *here.parents[:2], here / "segjax_clone"]
installed = importlib.util.find_spec("segjax")
if installed is not None and installed.origin is not None:
    places.append(Path(installed.origin).parent.parent)
clones = [p for p in places if (p / "configs/unet_em.py").is_file()]
if clones:
    ROOT = clones[0]
else:
    if not REPOSITORY:
        raise SystemExit(
            "There is no clone of segjax here: set REPOSITORY in this cell to the "
            "address that `git clone` takes, and run the cell again."
        )
    ROOT = here / "segjax_clone"
    if not ROOT.exists():
        command = ["git", "clone", "--depth=1", REPOSITORY, str(ROOT)]
        subprocess.run(command, check=True)

if installed is None:
    has_gpu = shutil.which("nvidia-smi") is not None
    has_tpu = "TPU_NAME" in os.environ or Path("/dev/accel0").exists()
    extra = "[cuda12]" if has_gpu else "[tpu]" if has_tpu else ""
    command = [sys.executable, "-m", "pip", "install", "-q", "-e", f"{ROOT}{extra}"]
    subprocess.run(command, check=True)
    sys.path.insert(0, str(ROOT))
    importlib.invalidate_caches()
    newer = [
        name
        for name in ("numpy", "jax", "jaxlib", "scipy", "matplotlib")
        if name in sys.modules
        and sys.modules[name].__version__ != metadata.version(name)
    ]
    if newer:
        raise SystemExit(
            f"segjax is installed, with a newer {', '.join(newer)} than this session has "
            "loaded: restart the session (Runtime > Restart session) and run all cells."
        )
