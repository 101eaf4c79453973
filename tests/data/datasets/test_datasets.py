import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.data import DATASETS

ROOT = Path(__file__).resolve().parents[3]


def test_the_table_has_every_data_set():
    assert list(DATASETS) == [
        "em_sections",
        "isbi_em",
        "folder",
        "shapes",
        "camvid",
        "voc",
        "cityscapes",
        "ade20k",
        "instance_shapes",
        "stick_figures",
        "coco",
        "instance_folder",
    ]
    assert len(DATASETS) == 12
    assert "vox" not in DATASETS
    with pytest.raises(KeyError, match="vox"):
        DATASETS["vox"]


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_a_function_of_its_name_with_the_two_folders(name):
    function = DATASETS[name]
    assert function.__name__ == name
    parameters = inspect.signature(function).parameters
    assert {"cache_dir", "data_root"} <= set(parameters)
    assert {p.kind for p in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


def test_importing_the_package_costs_nothing():
    program = (
        "import sys, segjax.data\n"
        "heavy = {'jax', 'numpy', 'tensorflow_datasets', 'PIL', 'tifffile', 'grain'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == "[]\n", done.stderr
