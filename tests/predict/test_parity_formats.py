"""Results as the models of OME-TIFF and OME-Zarr that others keep read them."""

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from segjax.data.label_spec import LabelSpec
from segjax.geometry.input_sizes import Geometry
from segjax.predict.tiled import Predictor
from segjax.tasks.semantic.files import predict_files

pytestmark = pytest.mark.parity

VALUES = np.random.default_rng(0).integers(0, 4000, (2, 3, 4, 20, 30), np.uint16)
SPEC = LabelSpec(("dark", "light"), ((200, 10, 0), (0, 30, 250)))


def predict(path, output, **options):
    def brightness(image):
        grey = image[..., :1] - 2000 / 65535
        return jnp.concatenate([-grey, grey], -1)

    predict_files(
        Predictor(brightness, Geometry(stride=1), tile=32),
        path,
        output,
        label_spec=SPEC,
        channels=(0,),
        normalization="range",
        **options,
    )


def test_ome_tiffs_are_valid(tmp_path):
    ome_types = pytest.importorskip("ome_types")
    metadata = {"axes": "TZCYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    metadata |= {"PhysicalSizeZ": 2.0, "TimeIncrement": 30.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", VALUES, ome=True, metadata=metadata)
    predict(tmp_path / "a.ome.tif", tmp_path / "out", probabilities=True)
    for name, channels in (("a", 1), ("a_probabilities", 2)):
        found = ome_types.from_tiff(tmp_path / "out" / f"{name}.ome.tif", validate=True)
        pixels = found.images[0].pixels
        sizes = (pixels.size_t, pixels.size_z, pixels.size_c)
        assert sizes == (2, 3, channels)
        assert (pixels.size_y, pixels.size_x) == (20, 30)
        assert (pixels.physical_size_y, pixels.physical_size_x) == (0.5, 0.25)
        assert (pixels.physical_size_z, pixels.time_increment) == (2.0, 30.0)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_of_ome_zarr_are_valid(write_zarr, tmp_path, version):
    models = pytest.importorskip("ome_zarr_models")
    import zarr

    module = models.v04 if version == "0.4" else models.v05
    path = write_zarr(tmp_path / "a.zarr", VALUES, version=version)
    predict(path, tmp_path / "out")
    labels = zarr.open_group(tmp_path / "out" / "a.zarr", mode="r")["labels"]
    module.labels.Labels.from_zarr(labels)
    module.image_label.ImageLabel.from_zarr(labels["classes"])
    found = labels["classes"]["0"][...]
    np.testing.assert_array_equal(found, VALUES[:, 0] > 2000)
