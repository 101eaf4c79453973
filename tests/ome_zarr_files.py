"""OME-Zarr images for tests, written with tensorstore and without segjax."""

import json

import tensorstore

AXES = {
    "t": ({"type": "time", "unit": "second"}, 30.0),
    "c": ({"type": "channel"}, 1.0),
    "z": ({"type": "space", "unit": "micrometer"}, 2.5),
    "y": ({"type": "space", "unit": "nanometer"}, 500.0),
    "x": ({"type": "space", "unit": "nanometer"}, 250.0),
}
"""What is stated of each axis, and its scale."""


def write_zarr(path, values, axes="tczyx", version="0.5", **multiscale):
    """Writes an image of one level."""
    is_new = version == "0.5"
    chunks = [*(1,) * (values.ndim - 2), 8, 16]
    grid = {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}}}
    metadata = grid if is_new else {"chunks": chunks, "dimension_separator": "/"}
    tensorstore.open(
        {
            "driver": "zarr3" if is_new else "zarr",
            "kvstore": {"driver": "file", "path": f"{path}/0/"},
            "metadata": metadata,
        },
        create=True,
        dtype=values.dtype,
        shape=values.shape,
    ).result().write(values).result()
    named = [{"name": axis} | AXES[axis][0] for axis in axes]
    scales = [{"type": "scale", "scale": [AXES[axis][1] for axis in axes]}]
    datasets = [{"path": "0", "coordinateTransformations": scales}]
    image = {
        "multiscales": [{"axes": named, "datasets": datasets} | multiscale],
        "omero": {"channels": [{"label": name} for name in ("DAPI", "GFP", "RFP")]},
    }
    if is_new:
        about = {"zarr_format": 3, "node_type": "group"}
        about["attributes"] = {"ome": image | {"version": version}}
        (path / "zarr.json").write_text(json.dumps(about))
    else:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(image))
    return path
