"""What is known of the networks of sources: parameters, and what their authors measured.

Figures of torchvision are those of torchvision 0.28, in percent. Those of TensorFlow Lite are of
the authors' release, tensorflow/models (research/deeplab/g3doc/quantize.md and model_zoo.md), and
of TensorFlow's page of hosted models. That of VGG-16 is of its paper, arXiv 1409.1556, table 4,
those of SegFormer and its encoders, at one scale, of theirs, arXiv 2105.15203, tables 1 and 6.
"""

from __future__ import annotations

from typing import NamedTuple


class Figures(NamedTuple):
    """Of the network of a source.

    Attributes:
      parameters: how many, as published; of TensorFlow Lite with the norms that are folded
        into its kernels.
      published: what its authors measured; empty where nothing is known.
    """

    parameters: int
    published: str = ""

    def __str__(self) -> str:
        parts = (f"{self.parameters:,} parameters", self.published)
        return "; ".join(part for part in parts if part)


def _imagenet(parameters: int, top1: float) -> Figures:
    return Figures(parameters, f"ImageNet, validation: top-1 accuracy {top1:.1f} %")


def _voc(parameters: int, iou: float, accuracy: float) -> Figures:
    text = (
        f"COCO val2017 with VOC's classes: mean IoU {iou} %, pixels right {accuracy} %"
    )
    return Figures(parameters, text)


def _coco(parameters: int, **average_precision: float) -> Figures:
    named = (f"{kind} AP {ap}" for kind, ap in average_precision.items())
    return Figures(parameters, f"COCO val2017: {', '.join(named)}")


def _segformer(
    size: str,
    ade: tuple[int, float],
    cityscapes: tuple[int, float],
    imagenet: tuple[int, float],
) -> dict[str, Figures]:
    """Parameters and figures of a size of SegFormer, and of its encoder as a classifier."""
    text = "{}, validation: mean IoU {} %"
    return {
        f"hf/mit-{size}": _imagenet(*imagenet),
        f"hf/segformer-{size}-ade": Figures(ade[0], text.format("ADE20K", ade[1])),
        f"hf/segformer-{size}-cityscapes": Figures(
            cityscapes[0], text.format("Cityscapes", cityscapes[1])
        ),
    }


FIGURES: dict[str, Figures] = {
    "caffe/vgg16": Figures(
        138_357_544, "ImageNet, validation, several scales: top-5 error 7.5 %"
    ),
    **_segformer("b0", (3_752_694, 37.4), (3_719_027, 76.2), (3_576_392, 70.5)),
    **_segformer("b1", (13_715_798, 42.2), (13_682_131, 78.5), (13_664_424, 78.7)),
    **_segformer("b2", (27_461_974, 46.5), (27_361_235, 81.0), (24_709_288, 81.6)),
    **_segformer("b3", (47_337_814, 49.4), (47_237_075, 81.7), (44_585_128, 83.1)),
    **_segformer("b4", (64_108_374, 50.3), (64_007_635, 82.3), (61_355_688, 83.6)),
    **_segformer("b5", (84_708_694, 51.0), (84_607_955, 82.4), (81_956_008, 83.8)),
    "tflite/deeplab_mobilenet_edgetpu_cityscapes": Figures(
        2_070_827,
        "Cityscapes, validation: mean IoU 73.2 % (before quantisation)",
    ),
    "tflite/deeplabv3_mnv2_dm05_pascal": Figures(
        697_013, "VOC 2012, validation: mean IoU 69.65 %"
    ),
    "tflite/deeplabv3_mnv2_pascal": Figures(
        2_113_557, "VOC 2012, validation: mean IoU 74.26 %"
    ),
    "tflite/mobilenet_v2": _imagenet(3_506_153, 70.8),
    "torchvision/alexnet": _imagenet(61_100_840, 56.522),
    "torchvision/googlenet": _imagenet(6_624_904, 69.778),
    "torchvision/mobilenet_v2": _imagenet(3_504_872, 71.878),
    "torchvision/mobilenet_v3_large": _imagenet(5_483_032, 74.042),
    "torchvision/resnet18": _imagenet(11_689_512, 69.758),
    "torchvision/resnet34": _imagenet(21_797_672, 73.314),
    "torchvision/resnet50": _imagenet(25_557_032, 76.130),
    "torchvision/resnet101": _imagenet(44_549_160, 77.374),
    "torchvision/resnet152": _imagenet(60_192_808, 78.312),
    "torchvision/vgg16": _imagenet(138_357_544, 71.592),
    "torchvision/vgg16_bn": _imagenet(138_365_992, 73.360),
    "torchvision/deeplabv3_mobilenet_v3_large": _voc(11_029_328, 60.3, 91.2),
    "torchvision/deeplabv3_resnet50": _voc(42_004_074, 66.4, 92.4),
    "torchvision/deeplabv3_resnet101": _voc(60_996_202, 67.4, 92.4),
    "torchvision/fcn_resnet50": _voc(35_322_218, 60.5, 91.4),
    "torchvision/fcn_resnet101": _voc(54_314_346, 63.7, 91.9),
    "torchvision/lraspp_mobilenet_v3_large": _voc(3_221_538, 57.9, 91.2),
    "torchvision/fasterrcnn_resnet50_fpn": _coco(41_755_286, box=37.0),
    "torchvision/fasterrcnn_resnet50_fpn_v2": _coco(43_712_278, box=46.7),
    "torchvision/keypointrcnn_resnet50_fpn": _coco(59_137_258, box=54.6, keypoint=65.0),
    "torchvision/maskrcnn_resnet50_fpn": _coco(44_401_393, box=37.9, mask=34.6),
    "torchvision/maskrcnn_resnet50_fpn_v2": _coco(46_359_409, box=47.4, mask=41.8),
}
"""By source; one that is missing has weights of its users."""
