"""What plan prints for people."""

from segjax.commands.plan import GIB, lines

REPORT = {
    "config": "unet",
    "input_size": [572, 572],
    "batch_size": 32,
    "devices": 4,
    "kind": "TPU v5 lite",
    "device_memory": 15.75 * GIB,
    "fits": True,
    "largest_batch_size": 96,
    "seconds_bound": {"flops": 0.0367, "bytes": 0.0409},
    "memory": {
        **{"peak": 5.5 * GIB, "arguments": 0.25 * GIB, "outputs": 0},
        **{"temporaries": 5.2 * GIB, "program": 0.05 * GIB},
    },
    "flops": 7.24e12,
    "bytes_accessed": 33.5e9,
    "seconds_estimated": 0.0645,
    "collectives": {"all-reduce": {"count": 2, "bytes": 124_000_000}},
    "operators": {"convolution": 66, "fusion": 120},
    "unexpected": [],
    "padding": 0.31,
    "seconds_lowering": 3.2,
    "seconds_compiling": 57.0,
}


def test_a_plan_is_a_table_of_what_a_device_needs():
    text = "\n".join(lines(REPORT))
    for words in (
        "unet, images of 572x572, batch 32 (8 a device)",
        "4 x TPU v5 lite",
        "5.50 GiB a device, which fits into 15.75 GiB",
        "temporaries 5.20 GiB",
        "96 over all devices",
        "7.24 TFLOP a device",
        "36.7 ms by flops, 40.9 ms by bytes",
        "64.5 ms",
        "31% of the memory of results",
        "2 all-reduce of 124.0 MB together",
        "66 convolution, 120 fusion",
        "nothing",
        "3 s to trace and lower, 57 s to compile",
    ):
        assert words in text


def test_of_a_program_that_does_not_fit_only_its_memory_is_known():
    lacking = {
        key: REPORT[key]
        for key in (
            *("config", "input_size", "batch_size", "devices", "kind"),
            *("device_memory", "seconds_lowering", "seconds_compiling"),
        )
    }
    lacking |= {"memory": {"peak": 20 * GIB}, "fits": False, "seconds_bound": {}}
    text = "\n".join(lines({**lacking, "largest_batch_size": None}))
    assert "20.00 GiB a device, which does not fit into 15.75 GiB" in text
    assert "operators" not in text
