"""Images on the scale on which networks compute: one method for each family of weights.

Weights belong to the colour order, the range and the mean that they were trained with.
Every method is, channel by channel, `(x / unit - mean) / std`, so it can be applied
to any part of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from segjax.data import per_channel
from segjax.errors import UserError

BIT_DEPTHS = (8, 10, 12, 14, 16)
"""Of the values in files of 16 bits."""

_RGB = "RGB"
_BGR = "BGR"


@dataclass(frozen=True)
class Scale:
    """`(x / unit - mean) / std`, of channels in RGB or in BGR order.

    Attributes:
      unit: stored intensity that becomes 1.
      mean: subtracted afterwards, one value or one per channel in `order`; empty for
        none.
      std: divided by afterwards, likewise.
      order: "RGB" or "BGR" of the result; empty where channels stay as they are, grey
        or not.
    """

    unit: float
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    order: str = ""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Maps intensities `[H, W, C]` of any type to float32 `[H, W, C]`."""
        if self.order == _BGR:
            image = image[..., ::-1]
        scaled = image.astype(np.float32)
        if self.unit != 1:
            scaled /= np.float32(self.unit)
        if self.mean:
            per_channel.change(scaled, np.subtract, np.array(self.mean, np.float32))
        if self.std:
            per_channel.change(scaled, np.divide, np.array(self.std, np.float32))
        return scaled


_GREY_LEVELS = 1.0
_COLOURS: dict[str, Scale] = {
    # torchvision: RGB in [0, 1], mean and standard deviation of ImageNet.
    "imagenet": Scale(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), _RGB),
    # Caffe models of Berkeley, UCLA, POSTECH: FCN, DeepLab v1 and v2, DeconvNet.
    "caffe_vgg": Scale(_GREY_LEVELS, (104.00699, 116.66877, 122.67892), (), _BGR),
    # SegNet: BGR as OpenCV reads it, nothing subtracted.
    "caffe_bgr": Scale(_GREY_LEVELS, (), (), _BGR),
    # PSPNet's release: the RGB mean is subtracted, then BGR is fed.
    "caffe_pspnet": Scale(_GREY_LEVELS, (103.939, 116.779, 123.68), (), _BGR),
    # TensorFlow's DeepLab: Xception and MobileNet, x * 2 / 255 - 1.
    "tf": Scale(127.5, (1.0, 1.0, 1.0), (), _RGB),
    # TensorFlow Lite's networks of 8 bits: a scale of 1/128 and a zero point of 128.
    "tflite": Scale(128.0, (1.0, 1.0, 1.0), (), _RGB),
    # TensorFlow's DeepLab: ResNet.
    "tf_resnet": Scale(_GREY_LEVELS, (123.15, 115.90, 103.06), (), _RGB),
    # detectron2's model zoo.
    "detectron2": Scale(_GREY_LEVELS, (103.530, 116.280, 123.675), (), _BGR),
    # Dilation nets (Yu and Koltun, arXiv 1511.07122, release): means of the data set.
    "dilation_voc": Scale(_GREY_LEVELS, (102.93, 111.36, 116.52), (), _BGR),
    "dilation_camvid": Scale(_GREY_LEVELS, (110.70, 108.78, 105.41), (), _BGR),
    "dilation_cityscapes": Scale(_GREY_LEVELS, (72.39, 82.91, 73.16), (), _BGR),
    "dilation_kitti": Scale(_GREY_LEVELS, (96.19, 95.55, 91.35), (), _BGR),
}
"""Those of images in colour, for intensities of 0 to 255."""

NORMALIZATIONS = ("range", "per_image", "percentiles", *_COLOURS)
"""Methods of `normalize`."""

_BY_IMAGE = ("per_image", "percentiles")

OVER = ("image", "stack", "dataset")
"""The pixels that `Percentiles` can be taken over."""

SAMPLED_PIXELS = 1 << 18
"""Of a larger image, pixels on a regular grid of about this many give the percentiles."""


PAGE_PIXELS = 1 << 14
"""Of each page of a stack, or image of a data set, at most, for percentiles over all."""


@dataclass(frozen=True)
class Intensities:
    """The intensities of a training split, one value a channel.

    Attributes:
      spread: the least difference between the two percentiles that an image is taken to
        have (`segjax.data.intensities`).
      low: the lower percentile over the pixels of all images.
      high: the upper one.
    """

    spread: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Percentiles:
    """The method "percentiles": the lower one becomes 0, the upper one 1.

    They are those of each channel. A page without objects has hardly more than noise
    between its percentiles; divided by so little, noise looks like objects. So the
    divisor has a floor, learned from the training split.

    Attributes:
      low: the lower percentile, 0 to 100.
      high: the upper one.
      over: "image", each image by its own; "stack", all pages of a file by those of the
        file, where some are empty; "dataset", all images by those of the training split,
        where brightness has a meaning.
      learned: of the training split; None leaves out the floor, and takes an image for
        the data set.
    """

    low: float = 1.0
    high: float = 99.8
    over: str = "image"
    learned: Intensities | None = None

    def __post_init__(self) -> None:
        numbers = (self.low, self.high)
        if not all(isinstance(x, int | float) and 0 <= x <= 100 for x in numbers):
            raise ValueError(f"low and high must be numbers of 0 to 100, got {numbers}")
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.over not in OVER:
            raise ValueError(f"over must be one of {OVER}, got {self.over!r}")

    def bounds(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the two percentiles of each channel of `[N, C]`, `[2, C]` float64."""
        return np.percentile(pixels, (self.low, self.high), axis=0)

    def scale(self, image: np.ndarray) -> Scale:
        """Returns what brings an image `[H, W, C]` to the scale of the network.

        Its percentiles are those of a grid of `SAMPLED_PIXELS`, if it has more.
        """
        return self._scale_by(sampled(image))

    def scale_of_stack(self, pages: Iterable[np.ndarray]) -> Scale:
        """Returns the same for all pages `[H, W, C]` of a stack together.

        Its percentiles are those of grids of `PAGE_PIXELS` of each page.

        Raises:
          ValueError: as `normalize`.
          UserError: likewise.
        """
        grids = []
        for page in pages:
            _require_suitable(page, self)
            grids.append(sampled(page, PAGE_PIXELS))
        return self._scale_by(np.concatenate(grids))

    def _scale_by(self, pixels: np.ndarray) -> Scale:
        """Returns the scale by pixels `[N, C]`."""
        if self.over == "dataset" and self.learned is not None:
            low, high = np.array(self.learned.low), np.array(self.learned.high)
        else:
            low, high = self.bounds(pixels)
        spread = high - low
        if self.learned is not None:
            spread = np.maximum(spread, self.learned.spread)
        spread = np.where(spread > 0, spread, 1.0)
        return Scale(1.0, tuple(low.tolist()), tuple(spread.tolist()))


Normalize: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""From an image as it is stored to float32, `[H, W, C]`."""

ImageNormalization: TypeAlias = str | Percentiles | Normalize
"""A method of `normalize`: its name, percentiles with what they learned, or a function."""


def method_of(
    name: str,
    percentiles: Mapping[str, Any] | None = None,
    learned: Intensities | None = None,
) -> ImageNormalization:
    """Makes the method of a name out of what a config says about it.

    Args:
      name: one of `NORMALIZATIONS`.
      percentiles: `low`, `high` and `over` of "percentiles"; None for the defaults.
      learned: by "percentiles" of the training split.

    Returns:
      The method for `normalize`.

    Raises:
      TypeError: for an argument that `Percentiles` does not have.
      ValueError: for a value that it does not take.
    """
    if name != "percentiles":
        return name
    return Percentiles(**(percentiles or {}), learned=learned)


def sampled(image: Any, pixels: int = SAMPLED_PIXELS) -> Any:
    """Takes every n-th pixel of every n-th row of an image, with the smallest n that fits.

    Args:
      image: `[H, W, C]`.
      pixels: about how many are wanted, at most.

    Returns:
      Pixels, `[N, C]`; all of them where there are no more than that.

    Example:
      >>> sampled(np.arange(16).reshape(4, 4, 1), 4).ravel().tolist()
      [0, 2, 8, 10]
    """
    height, width, channels = image.shape
    step = max(1, math.ceil(math.sqrt(height * width / pixels)))
    return image[::step, ::step].reshape(-1, channels)


def normalize(image: np.ndarray, method: ImageNormalization) -> np.ndarray:
    """Brings stored intensities to the scale on which networks compute.

    | method | order | result |
    |---|---|---|
    | range | as stored | in [0, 1]: divided by the largest value of the type |
    | per_image | as stored | mean 0, std 1 over all pixels and channels of the image |
    | percentiles | as stored | 0 at the 1st, 1 at the 99.8th percentile of each channel |
    | imagenet | RGB | torchvision: [0, 1] minus .485 .456 .406, over .229 .224 .225 |
    | caffe_vgg | BGR | 0 to 255 minus 104.00699 116.66877 122.67892: FCN, DeepLab v1, v2 |
    | caffe_bgr | BGR | 0 to 255: SegNet |
    | caffe_pspnet | BGR | 0 to 255 minus 103.939 116.779 123.68: PSPNet |
    | tf | RGB | in [-1, 1]: Xception and MobileNet of TensorFlow's DeepLab |
    | tflite | RGB | 0 to 255 minus 128, over 128: 8-bit networks of TensorFlow Lite |
    | tf_resnet | RGB | 0 to 255 minus 123.15 115.90 103.06: its ResNet |
    | detectron2 | BGR | 0 to 255 minus 103.530 116.280 123.675 |
    | dilation_voc, _camvid, _cityscapes, _kitti | BGR | 0 to 255 minus the set's mean |

    Images of 16 bits are brought to 0 to 255 where that is meant. A constant image
    becomes 0 by "per_image" and by "percentiles".

    Args:
      image: `[H, W, C]`, integers or floats; uint8 or uint16 for all methods but
        "per_image" and "percentiles". The methods that name an order want RGB.
      method: one of `NORMALIZATIONS`, or a `Percentiles`.

    Returns:
      float32 `[H, W, C]`.

    Raises:
      ValueError: another type or method, or a grey image where colours are needed.
      UserError: the image has values that are not finite.

    Example:
      >>> normalize(np.array([[[0], [51]]], np.uint8), "range").ravel().tolist()
      [0.0, 0.20000000298023224]
      >>> normalize(np.array([[[0, 51, 255]]], np.uint8), "tf").ravel().tolist()
      [-1.0, -0.6000000238418579, 1.0]
    """
    return scale_of(image, method)(image)


def scale_of(image: np.ndarray, method: ImageNormalization) -> Normalize:
    """Returns what `normalize` does to every pixel of an image; see there.

    Raises:
      ValueError: as `normalize`.
      UserError: likewise.
    """
    if callable(method):
        return method
    _require_suitable(image, method)
    if method == "per_image":
        mean = image.mean(dtype=np.float64)
        std = image.std(dtype=np.float64)
        return Scale(1.0, (float(mean),), (float(std or 1.0),))
    if method == "percentiles":
        method = Percentiles()
    if isinstance(method, Percentiles):
        return method.scale(image)
    largest = np.iinfo(image.dtype).max
    if method == "range":
        return Scale(largest)
    scale = _COLOURS[method]
    return replace(scale, unit=scale.unit * largest / 255)


def _require_suitable(image: np.ndarray, method: ImageNormalization) -> None:
    """Checks that a method suits an image, and that its values are finite."""
    require_normalization(method, image.shape[-1], image.dtype)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise UserError(
            "An image has values that are not finite (NaN or infinite): replace them by "
            "numbers, or leave it out."
        )


def stored_scale(method: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns what undoes `normalize`, to intensities on a scale of 0 to 255.

    Args:
      method: one of `NORMALIZATIONS` but "per_image" and "percentiles".

    Returns:
      Scale and offset, each one number or one for each channel in the order that the
      method gives them: `normalized * scale + offset`.

    Raises:
      ValueError: for those two, which forget how bright an image was, or a method that
        does not exist.

    Example:
      >>> stored_scale("range"), stored_scale("tf")
      (((255.0,), (0.0,)), ((127.5,), (127.5, 127.5, 127.5)))
    """
    require_normalization(method)
    if method in _BY_IMAGE:
        raise ValueError(
            f"normalization is {method!r}, which cannot be undone; this network compares "
            "colours as they were stored, so take 'range' or that of its weights"
        )
    if method == "range":
        return (255.0,), (0.0,)
    scale = _COLOURS[method]
    return (
        tuple(d * scale.unit for d in scale.std or (1.0,)),
        tuple(m * scale.unit for m in scale.mean or (0.0,)),
    )


def require_normalization(
    method: ImageNormalization,
    channels: int | None = None,
    dtype: np.dtype | None = None,
) -> None:
    """Checks a method, and whether it suits images of that number of channels and type.

    Raises:
      ValueError: it does not exist, is for colours and the images have none, or needs the
        range of a type that states none.
    """
    if not isinstance(method, Percentiles) and method not in NORMALIZATIONS:
        raise ValueError(
            f"normalization must be one of {NORMALIZATIONS}, got {method!r}"
        )
    if method in _COLOURS and channels not in (None, 3):
        raise ValueError(
            f"normalization {method!r} is for RGB images (3 channels), these have "
            f"{channels}; use 'range' or 'per_image'"
        )
    if dtype is None or dtype in (np.uint8, np.uint16):
        return
    if dtype.kind not in "uif":
        raise ValueError(f"image must hold integers or floats, got {dtype}")
    if not isinstance(method, Percentiles) and method not in _BY_IMAGE:
        raise ValueError(
            f"normalization {method!r} needs to know the largest intensity, which images "
            f"of {dtype} do not state; use 'percentiles' or 'per_image'"
        )


def max_intensity_of(image: np.ndarray) -> int:
    """Returns the largest value that a camera of the image's bit depth can give.

    Args:
      image: uint8 or uint16.

    Returns:
      The smallest of 255, 1023, 4095, 16383 and 65535 that no pixel is above.

    Example:
      >>> max_intensity_of(np.array([7, 3000], np.uint16))
      4095
    """
    largest = int(image.max())
    return next(2**bits - 1 for bits in BIT_DEPTHS if largest < 2**bits)
