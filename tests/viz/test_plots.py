"""Files are written, and what is in the figures is what was logged."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from segjax.viz import plot_confusion, plot_curves
from segjax.viz.series import smooth


@pytest.fixture
def figures(monkeypatch):
    """Keeps the figures that are saved."""
    kept, save = [], Figure.savefig

    def savefig(figure, *args, **kwargs):
        kept.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return kept


def log(steps=40):
    rows = []
    for step in range(1, steps + 1):
        rows.append(
            {"step": step, "split": "train", "loss": 1 / step, "learning_rate": 1e-3}
        )
        if step % 10 == 0:
            iou = {"iou/membrane": 0.6, "iou/cell": 0.8, "mean_iou": 0.7}
            rows.append(
                {"step": step, "split": "validation", "loss": 2 / step, **iou}
                | {"pixel_error": 0.1, "pixel_accuracy": 0.9, "rand_error": None}
            )
    return rows


def panels(figure):
    return {ax.get_title("left"): ax for ax in figure.axes if ax.get_title("left")}


def labels(ax):
    return [line.get_label() for line in ax.lines]


def test_curves_are_written_as_a_picture(tmp_path):
    plot_curves(log(), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > image.height > 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_training_and_evaluation_have_a_line_each(tmp_path, figures):
    plot_curves(log(), tmp_path / "curves.png")
    plotted = panels(figures[0])
    assert list(plotted) == ["loss", "mean IoU", "pixel error", "learning rate"]
    loss = plotted["loss"]
    assert {"train, smoothed", "validation"} <= set(labels(loss))
    raw = max(loss.lines, key=lambda line: len(line.get_xdata()))
    np.testing.assert_allclose(raw.get_ydata(), 1 / np.arange(1, 41))
    assert {"membrane", "cell", "validation"} == set(labels(plotted["mean IoU"]))


@pytest.mark.parametrize(("steps", "marker"), [(10, "o"), (20, "None")])
def test_classes_that_were_measured_once_are_dots(tmp_path, figures, steps, marker):
    plot_curves(log(steps), tmp_path / "curves.png")
    lines = panels(figures[0])["mean IoU"].lines
    markers = {line.get_label(): line.get_marker() for line in lines}
    assert markers["membrane"] == markers["cell"] == marker


def test_gaps_in_the_log_are_gaps_in_the_curves(tmp_path, figures):
    rows = [
        {"step": i, "loss": v} for i, v in enumerate((1.0, None, float("nan"), 2.0))
    ]
    plot_curves(rows, tmp_path / "curves.png")
    (ax,) = panels(figures[0]).values()
    assert ax.lines[0].get_xdata().tolist() == [0, 3]


def test_no_more_than_six_quantities_are_plotted(tmp_path, figures):
    rows = [{"step": s, **{f"metric_{i}": s * i for i in range(12)}} for s in (1, 2)]
    plot_curves(rows, tmp_path / "curves.png")
    assert len(panels(figures[0])) == 6


def test_a_log_of_one_step_can_be_plotted(tmp_path):
    plot_curves([{"step": 1, "loss": 0.5}], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_log_without_numbers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no numbers to plot"):
        plot_curves([{"step": 1, "split": "train", "loss": None}], tmp_path / "a.png")


def test_smoothing_neither_lags_at_the_start_nor_moves_a_constant():
    np.testing.assert_allclose(smooth(np.full(100, 3.0)), 3)
    assert smooth(np.array([5.0, 1.0]))[0] == 5


def test_the_confusion_of_two_classes_shows_fractions_and_counts(tmp_path, figures):
    counts = np.array([[300_000, 100_000], [0, 1_000_000]])
    plot_confusion(counts, ("membrane", "cell"), tmp_path / "confusion.png")
    texts = {text.get_text() for text in figures[0].axes[0].texts}
    assert texts == {"75.0%\n300,000", "25.0%\n100,000", "0.0%\n0", "100.0%\n1,000,000"}


def test_the_confusion_of_21_classes_shows_percent_and_pixels_of_rows(
    tmp_path, figures
):
    counts = np.diag(np.arange(21) * 1000)
    counts[5, 6] = 5000
    names = [f"class {i}" for i in range(21)]
    plot_confusion(counts, names, tmp_path / "confusion.png")
    (ax,) = figures[0].axes
    assert [t.get_text() for t in ax.texts].count("50") == 2
    # The row of class 0, which is not in the truth, is empty.
    assert min(t.get_position()[1] for t in ax.texts) == 1
    rows = [tick.get_text() for tick in ax.get_yticklabels()]
    assert rows[0] == "class 0  0"
    assert rows[5] == "class 5  10 k"
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.width > 1000


def test_names_that_do_not_fit_the_counts_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\[2, 2\] like names, got \(3, 3\)"):
        plot_confusion(np.eye(3), ("a", "b"), tmp_path / "a.png")
