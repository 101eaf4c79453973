"""Where weights are published: addresses, digests, sizes, licences.

Addresses and sizes of torchvision are those of torchvision 0.28 (github.com/pytorch/vision), the first
version of each file (`IMAGENET1K_V1` of a classifier), which its own segmentations and
detectors begin with. torchvision publishes the first eight digits of each digest, in the
name of the file. The other digits are those that two projects or more give, independently.
"""

from __future__ import annotations

import dataclasses

from segjax.errors import UserError
from segjax.pretrained import hugging_face

FOLDER = "https://download.pytorch.org/models/"
CORAL = (
    "https://raw.githubusercontent.com/google-coral/test_data/"
    "104342d2d3480b3e66203073dac24f4e2dbb4c41/"
)
"""The repository in which files of TensorFlow Lite lie, at one commit of it."""
MEBIBYTE = 1 << 20
LARGER = 0.001
"""Of a size, in mebibytes, that is rounded to three places."""

IMAGENET = (
    "BSD-3-Clause, as torchvision; trained on ImageNet, whose terms (research, not for "
    "profit) may bind you"
)
COCO = (
    "BSD-3-Clause, as torchvision; trained on COCO from weights of ImageNet, whose terms "
    "(research, not for profit) may bind you"
)


APACHE = "Apache-2.0, as google-coral/test_data; trained on "
IMAGENET_TERMS = "ImageNet, whose terms (research, not for profit) may bind you"
VOC = f"{APACHE}COCO and PASCAL VOC 2012 from weights of {IMAGENET_TERMS}"
CITYSCAPES = f"{APACHE}Cityscapes, which is for non-commercial use"


@dataclasses.dataclass(frozen=True)
class Published:
    """A file of weights that its authors publish.

    Attributes:
      url: its address.
      sha256: its digest, hexadecimal; the first eight digits where no more is known.
      mebibytes: its size, rounded to three places.
      licence: what its users are bound to.
    """

    url: str
    sha256: str
    mebibytes: float
    licence: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]

    @property
    def largest(self) -> int:
        """The most bytes that it can have."""
        return int((self.mebibytes + LARGER) * MEBIBYTE)

    def __str__(self) -> str:
        size = f"{self.mebibytes * MEBIBYTE / 1e6:.0f} MB"
        return f"{self.url}, {size}; sha256 {self.sha256}; {self.licence}"


def lookup(source: str) -> Published:
    """Finds the file of a source.

    Args:
      source: a name of `segjax.pretrained.SOURCES`.

    Returns:
      The file.

    Raises:
      UserError: if no address is known.
    """
    if source not in PUBLISHED:
        raise UserError(
            f"The weights of {source} have no address that segjax knows: download them "
            "yourself, and name the file."
        )
    return PUBLISHED[source]


def licence_of(source: str) -> str:
    """Says what users of a source's weights are bound to.

    Args:
      source: a name of `segjax.pretrained.SOURCES`.

    Returns:
      The licence and other terms; empty where the file is the user's own.

    Example:
      >>> licence_of("tflite/deeplab_mobilenet_edgetpu_cityscapes")
      'Apache-2.0, as google-coral/test_data; trained on Cityscapes, which is for non-commercial use'
    """
    if source in hugging_face.REPOSITORIES:
        return hugging_face.LICENCE
    return PUBLISHED[source].licence if source in PUBLISHED else ""


def _torchvision(name: str, digest: str, mebibytes: float, licence: str) -> Published:
    url = f"{FOLDER}{name}-{digest[:8]}.pth"
    return Published(url, digest, mebibytes, licence)


def _tflite(name: str, digest: str, mebibytes: float, licence: str) -> Published:
    return Published(f"{CORAL}{name}.tflite", digest, mebibytes, licence)


_FILES: dict[str, tuple[str, str, float, str]] = {
    "alexnet": (
        "alexnet-owt",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        233.087,
        IMAGENET,
    ),
    "googlenet": (
        "googlenet",
        "1378be20a8e875cf1568b8a71654e704449655e34711a959a38b04fb34905cef",
        49.731,
        IMAGENET,
    ),
    "mobilenet_v2": (
        "mobilenet_v2",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        13.555,
        IMAGENET,
    ),
    "mobilenet_v3_large": (
        "mobilenet_v3_large",
        "8738ca797c879b547d18bbd15da5736ff2557b2036a9af72225393ca61759a04",
        21.114,
        IMAGENET,
    ),
    "resnet18": (
        "resnet18",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        44.661,
        IMAGENET,
    ),
    "resnet34": (
        "resnet34",
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
        83.275,
        IMAGENET,
    ),
    "resnet50": (
        "resnet50",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        97.781,
        IMAGENET,
    ),
    "resnet101": (
        "resnet101",
        "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
        170.511,
        IMAGENET,
    ),
    "resnet152": (
        "resnet152",
        "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
        230.434,
        IMAGENET,
    ),
    "vgg16": (
        "vgg16",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        527.796,
        IMAGENET,
    ),
    "vgg16_bn": ("vgg16_bn", "6c64b313", 527.866, IMAGENET),
    "deeplabv3_mobilenet_v3_large": (
        "deeplabv3_mobilenet_v3_large",
        "fc3c493d68e89cc31ef488c803d5d7dd2f3190fb570598faa49fef69be8e5e70",
        42.301,
        COCO,
    ),
    "deeplabv3_resnet50": (
        "deeplabv3_resnet50_coco",
        "cd0a25694c4a0f7106b38f4938bf90a874f2f241cc410b8f63c7024399538f06",
        160.515,
        COCO,
    ),
    "deeplabv3_resnet101": (
        "deeplabv3_resnet101_coco",
        "586e9e4e203fcbf17e1ad45533d8d33ab133fc762bf03101c5dd743995c08c0d",
        233.217,
        COCO,
    ),
    "fcn_resnet50": (
        "fcn_resnet50_coco",
        "1167a1affa42e1e62858f8d3fac12d109e0108327ffc91c5855a324b11683c36",
        135.009,
        COCO,
    ),
    "fcn_resnet101": (
        "fcn_resnet101_coco",
        "7ecb50ca17844860a70d5ed0c748d997cf8adb62932abaa0233430c68594d749",
        207.711,
        COCO,
    ),
    "lraspp_mobilenet_v3_large": (
        "lraspp_mobilenet_v3_large",
        "d234d4eae9d55d5f76de18b77cf0dc62c66fe5c5482758209d00f950c92bb280",
        12.49,
        COCO,
    ),
    "fasterrcnn_resnet50_fpn": (
        "fasterrcnn_resnet50_fpn_coco",
        "258fb6c638b15964ddcdd1ae0748c5eef1be9e732750120cc857feed3faac384",
        159.743,
        COCO,
    ),
    "fasterrcnn_resnet50_fpn_v2": (
        "fasterrcnn_resnet50_fpn_v2_coco",
        "dd69338a24b8d7381807e247652bdc356325bcbaf1cd3e092e00e0a1a58706bf",
        167.104,
        COCO,
    ),
    "keypointrcnn_resnet50_fpn": (
        "keypointrcnn_resnet50_fpn_coco",
        "fc266e953d2b302cdcbb9ae66f71f6b0d4649928bf02dc573961e361e4918926",
        226.054,
        COCO,
    ),
    "maskrcnn_resnet50_fpn": (
        "maskrcnn_resnet50_fpn_coco",
        "bf2d0c1efbc936eeee2bc95a48e80ebc86b891f61b0106485937fc29f9315fc0",
        169.84,
        COCO,
    ),
    "maskrcnn_resnet50_fpn_v2": (
        "maskrcnn_resnet50_fpn_v2_coco",
        "73cbd0190fcbe3ba339921fbce2c3a0b6bb9126c9a133c85e43a2a8e060a109e",
        177.219,
        COCO,
    ),
}

_TFLITE: dict[str, tuple[str, str, float, str]] = {
    "deeplab_mobilenet_edgetpu_cityscapes": (
        "deeplab_mobilenet_edgetpu_slim_cityscapes_quant",
        "322fe29945cb1693f426952f2a330ab67ea5678545ddee6f2548e0cfd0ca03e5",
        2.057,
        CITYSCAPES,
    ),
    "deeplabv3_mnv2_dm05_pascal": (
        "deeplabv3_mnv2_dm05_pascal_quant",
        "0470d2a782aa54eeeb99d32e7b6b3fb7722905c7c4f5d26bd957ec861366d48b",
        0.726,
        VOC,
    ),
    "deeplabv3_mnv2_pascal": (
        "deeplabv3_mnv2_pascal_quant",
        "350af47fd346ea6d74b58833a351f583ba860e9806ec5bd292ff8d8f1f249398",
        2.092,
        VOC,
    ),
    "mobilenet_v2": (
        "mobilenet_v2_1.0_224_quant",
        "7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776",
        3.444,
        f"{APACHE}{IMAGENET_TERMS}",
    ),
}

PUBLISHED = {
    f"torchvision/{name}": _torchvision(*row) for name, row in _FILES.items()
} | {f"tflite/{name}": _tflite(*row) for name, row in _TFLITE.items()}
"""The published files, by source."""
