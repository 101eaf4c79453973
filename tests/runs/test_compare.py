"""compare: settings of runs, their intervals, and what is refused."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from segjax import config as config_lib
from segjax.errors import UserError
from segjax.metrics.intervals import paired_bootstrap
from segjax.runs import measured
from segjax.runs.compare import compare_runs, find_runs
from segjax.runs.comparison_text import comparison_text
from segjax.training.state import about_sha256

ROOT = Path(__file__).resolve().parents[2]
RECORDS = {
    "train": {"count": 4, "sha256": "a"},
    "validation": {"count": 3, "sha256": "b"},
}
NAMES = ("image0", "image1", "image2")


@pytest.fixture
def make_run(smoke, tmp_path):
    """Writes the folder of a finished run, without its arrays."""

    def make(name, iou, images=None, records=RECORDS, split="validation", **changes):
        config = config_lib.from_json(config_lib.to_json(smoke))
        for key, value in changes.items():
            group, _, last = key.rpartition("__")
            with config.unlocked():
                (config[group] if group else config)[last] = value
        folder = tmp_path / name
        kept = folder / "checkpoints" / "2" / "about"
        kept.mkdir(parents=True)
        (folder / "config.json").write_text(config_lib.to_json(config))
        row = {"step": 2, "split": split, "mean_iou": iou, "dice": None}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        about = {"step": 2, "records": records, "parameters_sha256": name}
        about |= {"label_spec": {"names": ["a", "b"]}}
        about["about_sha256"] = about_sha256(about)
        (kept / "metadata").write_text(json.dumps(about))
        if images is not None:
            (folder / "per_image").mkdir()
            rows = [
                {"name": n, "metrics": {"mean_iou": x}}
                for n, x in zip(NAMES, images, strict=True)
            ]
            found = {"step": 2, "metrics": {"mean_iou": iou}}
            found |= measured.hashes_of(config, name)
            path = folder / "per_image" / f"{split}.json"
            path.write_text(json.dumps(found | {"images": rows}))
        return folder

    return make


def test_settings_differ_in_all_but_the_seed(make_run):
    figures = {0.01: (0.5, 0.52, 0.57), 0.02: (0.6, 0.61, 0.65)}
    folders = [
        make_run(f"{rate}_{seed}", iou, seed=seed, schedule__learning_rate=rate)
        for rate, ious in figures.items()
        for seed, iou in enumerate(ious)
    ]
    found = compare_runs(folders)
    assert [x.label for x in found.settings] == [
        "learning_rate=0.01",
        "learning_rate=0.02",
    ]
    assert found.metrics == ("mean_iou",)
    for setting, values in zip(found.settings, figures.values(), strict=True):
        mean, *ends = setting.interval("mean_iou")
        scale = stats.sem(values)
        assert mean == pytest.approx(np.mean(values))
        assert ends == pytest.approx(stats.t.interval(0.95, 2, np.mean(values), scale))
    (difference,) = found.differences
    assert difference.over_runs.estimate == pytest.approx(0.09)
    assert difference.over_images is None
    assert "6 runs have no figures of single images; --images" in comparison_text(found)

    of_seeds = compare_runs(folders, by=["seed"])
    assert [len(x.runs) for x in of_seeds.settings] == [2, 2, 2]
    with pytest.raises(UserError, match=r'--by=sed is not a key\. Did you mean "seed"'):
        compare_runs(folders, by=["sed"])


def test_keys_that_change_no_training_make_no_setting(make_run):
    folders = [make_run("a", 0.5, seed=0), make_run("b", 0.6, seed=1, log_every=2)]
    folders.append(
        make_run(
            "c",
            0.6,
            seed=2,
            checkpoint_every_minutes=5,
            hooks=(("my_package:Hook", {"every": 2}),),
            calibration={"temperature": 1.5},
        )
    )
    (setting,) = compare_runs(folders).settings
    assert len(setting.runs) == 3
    assert "3 runs that differ in the seed alone" in comparison_text(
        compare_runs(folders)
    )


def test_differences_are_paired_over_images(make_run):
    first, second = (0.2, 0.5, 0.9), (0.3, 0.6, math.nan)
    folders = [
        make_run("a", 0.5, first, batch_size=2),
        make_run("b", 0.6, second, batch_size=4),
    ]
    found = compare_runs(folders)
    (difference,) = found.differences
    assert difference.images == 2
    assert difference.over_images == paired_bootstrap(first[:2], second[:2])
    (row,) = found.to_dict()["differences"]
    assert row["over_images"]["estimate"] == pytest.approx(0.1)
    assert row["over_runs"]["low"] is None
    table = comparison_text(found, markdown=True)
    assert "| batch_size=4 | mean_iou | +0.1000 | +0.1000 [+0.1000, +0.1000] |" in table
    assert "| batch_size=2 | 1 | 0.5000 |" in table


def test_many_differences_are_a_table_of_their_own(make_run):
    folders = [
        make_run("a", 0.5, optimizer__name="sgd", schedule__name="poly", batch_size=2),
        make_run(
            "b", 0.6, optimizer__name="adam", schedule__name="cosine", num_steps=3
        ),
    ]
    text = comparison_text(compare_runs(folders))
    assert "optimizer.name  sgd   adam" in text
    assert "\nA        1     0.5000\n" in text


def test_figures_of_an_older_network_do_not_count(make_run):
    folder = make_run("a", 0.5, (0.1, 0.2, 0.3))
    assert measured.read_run(folder).images["image1"] == {"mean_iou": 0.2}
    path = folder / "per_image" / "validation.json"
    path.write_text(path.read_text().replace('"parameters_sha256": "a"', '"x": "a"'))
    with pytest.raises(UserError, match="does not hold figures of images"):
        measured.read_run(folder)
    path.write_text(path.read_text().replace('"x": "a"', '"parameters_sha256": "old"'))
    assert measured.read_run(folder).images == {}


@pytest.mark.parametrize(
    ("group", "value"),
    [("evaluation", {"boundary_f1": True}), ("calibration", {"temperature": 2.0})],
)
def test_figures_that_were_measured_in_another_way_do_not_count(make_run, group, value):
    folder = make_run("a", 0.5, (0.1, 0.2, 0.3))
    assert measured.read_run(folder).images
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config[group] = config.get(group, {}) | value
    path.write_text(json.dumps(config))
    assert measured.read_run(folder).images == {}


@pytest.mark.parametrize("capabilities", [{"per_image"}, set()])
def test_images_are_measured_once_for_each_network(
    make_run, monkeypatch, smoke, capabilities
):
    """With rows of a table, as networks have that label pixels, and of a report."""
    folder = make_run("a", 0.5)
    rows = [{"name": name, "mean_iou": 0.1 * i} for i, name in enumerate(NAMES)]
    rows[0]["mean_iou"] = math.nan
    reported = [
        SimpleNamespace(name=row["name"], metrics={"mean_iou": row["mean_iou"]})
        for row in rows
    ]
    task = SimpleNamespace(
        capabilities=capabilities,
        config=smoke,
        evaluation=SimpleNamespace(split="validation"),
        open_dataset=lambda *_: "data",
        records=lambda *_: NAMES,
        per_image=lambda *_: SimpleNamespace(rows=lambda: rows),
        image_rows=lambda *_, with_panels: SimpleNamespace(rows=reported),
        evaluate=lambda *_, **__: SimpleNamespace(metrics={"mean_iou": 0.75}),
    )
    trained = SimpleNamespace(
        task=task, variables={}, about={}, step=2, parameters_sha256="a"
    )
    trained.single = lambda _: trained
    monkeypatch.setattr(measured, "load_trained", lambda *_, **__: trained)
    monkeypatch.setattr(measured, "about_run", lambda *_: {})
    checked = []
    monkeypatch.setattr(measured, "check_data", lambda *given: checked.append(given))
    measured.measure_images(folder, None)
    assert checked == [({}, {}, ["validation"])]
    run = measured.read_run(folder)
    assert run.metrics == {"mean_iou": 0.75}
    assert run.images["image2"] == {"mean_iou": 0.2}
    assert math.isnan(run.images["image0"]["mean_iou"])
    monkeypatch.setattr(measured, "load_trained", None)  # it is not loaded again
    measured.measure_images(folder, None)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            {"records": {"validation": {"count": 5, "sha256": "b"}}},
            r"measured on other images \(3 and 5 of them\)",
        ),
        (
            {"records": {"validation": {"count": 3, "sha256": "c"}}},
            r"on other images \(3 each, with other names, pixels or labels\)",
        ),
        ({"split": "test"}, 'on other splits, "validation" and "test": name one'),
        ({"images": (0.1, 0.2, 0.3), "iou": 0.2}, None),
    ],
)
def test_runs_of_other_data_are_refused(make_run, other, sentence):
    folders = [make_run("a", 0.5), make_run("b", **({"iou": 0.5} | other), seed=1)]
    if sentence is None:
        assert compare_runs(folders).unmeasured == 1
        return
    with pytest.raises(UserError, match=sentence) as caught:
        compare_runs(folders)
    assert str(caught.value).count(". ") == 0


def test_what_is_not_there_is_named(make_run, tmp_path):
    run = make_run("a", 0.5)
    with pytest.raises(
        UserError, match=r'no metric "mean_iuo"\. Did you mean "mean_iou"'
    ):
        compare_runs([run], metrics=["mean_iuo"])
    with pytest.raises(
        UserError, match=r'not measured on the split "test": add --images'
    ):
        compare_runs([run], split="test")
    with pytest.raises(UserError, match="does not exist"):
        compare_runs([tmp_path / "b"])
    with pytest.raises(UserError, match="Give the folders"):
        compare_runs([run / "config.json"])  # files that a shell's * gives
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(UserError, match="has no checkpoint yet"):
        compare_runs([tmp_path / "c"])


def test_the_code_of_the_page_prints_an_interval_of_each_setting(
    make_run, tmp_path, monkeypatch, capsys
):
    for rate, seed in itertools.product((0.001, 0.003), range(2)):
        make_run(
            f"rates/{rate}{seed}", rate + seed, seed=seed, schedule__learning_rate=rate
        )
    rows = [{"name": f"{x}{seed}"} for x in (0.001, 0.003) for seed in range(2)]
    manifest = {"over": ["seed"], "config": {}, "runs": rows}
    (tmp_path / "rates" / "sweep.json").write_text(json.dumps(manifest))
    page = (ROOT / "docs" / "sweeps_and_comparison.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(tmp_path)
    exec(compile(code, "sweeps_and_comparison.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    low, high = stats.t.interval(0.95, 1, 0.501, stats.sem([0.001, 1.001]))
    assert first == f"learning_rate=0.001: 0.501 [{low:.3f}, {high:.3f}] of 2 runs"
    assert second.startswith("learning_rate=0.003: 0.503 [")


def test_the_command_takes_many_folders(make_run, main):
    folders = [str(make_run(f"run{seed}", 0.5 + seed, seed=seed)) for seed in range(3)]
    ended = main("compare", *folders, "--format=json", "--metrics=mean_iou")
    assert ended.code == 0, ended.stderr
    (setting,) = json.loads(ended.stdout)["settings"]
    assert setting["runs"] == folders
    assert setting["metrics"]["mean_iou"]["values"] == [0.5, 1.5, 2.5]
    assert "Give the folders of runs" in main("compare").sentence


def test_a_run_counts_once(make_run, tmp_path):
    run = make_run("a", 0.5)
    assert find_runs([run, f"{run}/"]) == [run]
    copied = make_run("b", 0.5, seed=1)
    kept = copied / "checkpoints" / "2" / "about" / "metadata"
    kept.write_text((run / "checkpoints/2/about/metadata").read_text())
    with pytest.raises(UserError, match="hold the same network, which counts once"):
        compare_runs([run, copied])


def test_a_sweep_stands_for_its_runs(make_run, tmp_path):
    make_run("seed=0", 0.5), make_run("seed=1", 0.6, seed=1)
    names = ("seed=0", "seed=1", "seed=2")
    rows = [{"name": name, "status": "finished"} for name in names]
    manifest = {"over": ["seed"], "config": {}, "runs": rows}
    (tmp_path / "sweep.json").write_text(json.dumps(manifest))
    assert [x.name for x in find_runs([tmp_path])] == ["seed=0", "seed=1"]
