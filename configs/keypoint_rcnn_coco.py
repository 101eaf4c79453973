r"""Keypoint R-CNN on the persons of COCO: Mask R-CNN with a head of 17 keypoints.

He, Gkioxari, Dollar, Girshick, ICCV 2017, arXiv 1703.06870, section 5. The recipe is that
of the authors' release (Detectron, "1x"): 16 images a step, 90,000 steps, a rate of 0.02
that drops at 60,000 and 80,000. They leave out images without a keypoint, and draw the
size of each image; here all images train, at one size.

    python -m segjax.main --config=configs/keypoint_rcnn_coco.py \
        --config.initialization.input=resnet50.safetensors \
        --workdir=runs/keypoint_rcnn_coco --data_root=FOLDER

FOLDER holds `annotations/`, `train2017/` and `val2017/`. The paper, ResNet-50 on test-dev:
keypoint AP 62.7 (table 4); torchvision on val2017: 65.0, boxes 54.6. Ours: not measured
yet.

Presets, as `--config=configs/keypoint_rcnn_coco.py:PRESET`; the first wants GPUs:

    (none)    ResNet-50
    smoke     seconds: a tiny network, two steps, synthetic stick figures
"""

from segjax.config import presets

BACKBONE = {
    "name": "resnet",
    "depth": 50,
    "stride_on": "3x3",
    "norm": {"frozen": True},
}
BUCKETS = ((800, 1088), (800, 1333), (1088, 800), (1333, 800), (800, 800))
"""Of a shorter side of 800 pixels and a longer one of at most 1,333."""


def paper() -> dict:
    return {
        "task": "instance",
        "seed": 0,
        "num_steps": 90_000,
        "batch_size": 16,
        "log_every": 50,
        "eval_every": 10_000,
        "checkpoint_every": 1000,
        "data": {
            "name": "coco",
            "train": "annotations/person_keypoints_train2017.json",
            "validation": "annotations/person_keypoints_val2017.json",
            "keypoints": True,
            "skip_invalid": True,
            "allow_unlisted": True,
        },
        "pipeline": {
            "buckets": BUCKETS,
            "resize": "fit",
            "max_objects": 50,
            "mask_size": 112,
            "augment": (("flip", {}),),
        },
        "model": {
            "name": "mask_rcnn",
            "num_classes": 2,
            "backbone": BACKBONE,
            "roi_heads": {"masks": False, "keypoints": 17},
        },
        "loss": {"name": "mask_rcnn"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": {
            "name": "multistep",
            "learning_rate": 0.02,
            "milestones": (60_000, 80_000),
            "warmup_steps": 500,
        },
        "evaluation": {
            "split": "validation",
            "best_metric": "keypoint_AP",
            "batch_size": 8,
        },
        "initialization": {
            "source": "torchvision/resnet50",
            "input": "",
            "download": False,
            "skip": (),
        },
    }


def smoke() -> dict:
    config = paper()
    tiny = {
        "backbone": BACKBONE | {"depth": 18, "features": 4},
        "fpn_features": 4,
        "rpn": {
            "anchor_sizes": (8, 12, 16, 24, 32),
            "pre_nms_top_n": (32, 32),
            "post_nms_top_n": (8, 8),
            "batch_size_per_image": 16,
        },
        "roi_heads": {
            "batch_size_per_image": 8,
            "box_features": (8,),
            "masks": False,
            "keypoints": 11,
            "keypoint_features": (8,),
        },
        "post_processing": {"detections_per_image": 4},
    }
    settings = {key: value for key, value in config.items() if key != "initialization"}
    return settings | {
        "num_steps": 2,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 2,
        "checkpoint_every": 1,
        "data": {"name": "stick_figures", "train": 4, "validation": 2, "test": 1},
        "pipeline": config["pipeline"]
        | {"buckets": ((64, 64),), "max_objects": 3, "mask_size": 14},
        "model": config["model"] | tiny,
        "schedule": {"name": "multistep", "learning_rate": 0.001, "milestones": (1,)},
        "evaluation": config["evaluation"] | {"batch_size": 4},
    }


get_config = presets(paper, smoke)
