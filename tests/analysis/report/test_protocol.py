"""All commands say what they did under the same names."""

from repq_fx.analysis.report import ImageFormat, Protocol, Session, Timing


def test_every_command_has_the_same_keys():
    protocol = Protocol(image=ImageFormat.of((3, 8, 9), (0.5,), (0.25,)), latency=Timing(1, 2))
    quantized = Session("quantize", "m", protocol, scheme="w8a8").context()
    fused = Session("fuse", "m", protocol, regions=[{"name": "a"}]).context()
    assert list(quantized) == list(fused) == [
        "schema_version", "command", "model", "protocol", "weights", "output", "scheme",
        "reconstruction", "backend", "stage_seconds", "warnings", "regions", "objects",
    ]  # fmt: skip
    assert quantized["schema_version"] == 1
    assert quantized["protocol"]["image"] == {
        "channels": 3, "height_pixels": 8, "width_pixels": 9, "mean": (0.5,), "std": (0.25,),
    }  # fmt: skip
    assert quantized["protocol"]["latency"] == {"batch_size": 1, "threads": 2, "rounds": 30}


def test_an_input_that_is_no_image_has_no_height():
    assert ImageFormat.of((40,)) == ImageFormat(channels=40)
