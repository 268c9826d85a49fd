"""Calibration data from every kind of source: looked at, checked, read in one or more passes."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from repq_fx import CalibrationError
from repq_fx.passes import trace
from repq_fx.quant.data import CalibrationData, model_inputs

IMAGES = torch.arange(70.0).reshape(70, 1, 1, 1).expand(70, 3, 4, 4).contiguous()
BATCH = 16  # The last of five is shorter.


class Stream:
    """Can be iterated anew, but does not know how long it is; counts what was read from it."""

    def __init__(self, batches):
        self.batches, self.passes, self.read = batches, 0, 0

    def __iter__(self):
        self.passes += 1
        for batch in self.batches:
            self.read += 1
            yield batch


class StreamOfImages(IterableDataset):
    def __iter__(self):
        return iter(IMAGES)


def loader(**options):
    return DataLoader(TensorDataset(IMAGES, torch.zeros(len(IMAGES))), BATCH, **options)


def cut():
    return list(IMAGES.split(BATCH))


# Of each: how it is made, how many batches it has, whether it knows, and whether it can be iterated
# anew.
SOURCES = {
    "tensor": (lambda: IMAGES, 3, True, True),
    "list": (cut, 5, True, True),
    "tuple of pairs": (lambda: tuple((b, torch.zeros(len(b))) for b in cut()), 5, True, True),
    "lists of two": (lambda: [[b, "a name"] for b in cut()], 5, True, True),
    "loader": (loader, 5, True, True),
    "loader that shuffles": (lambda: loader(shuffle=True), 5, True, True),
    "loader of a stream": (lambda: DataLoader(StreamOfImages(), BATCH), 5, False, True),
    "stream": (lambda: Stream(cut()), 5, False, True),
    "generator": (lambda: (b for b in cut()), 5, False, False),
    "iterator of a list": (lambda: iter(cut()), 5, False, False),
    "map": (lambda: map(torch.Tensor.double, cut()), 5, False, False),
}
sources = pytest.mark.parametrize(
    ("make", "count", "knows", "again"), SOURCES.values(), ids=SOURCES
)


def images_of(batches):
    return torch.cat([batch if isinstance(batch, torch.Tensor) else batch[0] for batch in batches])


def numbers(images):
    return images[:, 0, 0, 0].tolist()


def graph_for(layers, example):
    return trace(nn.Sequential(*layers).eval(), example)


@pytest.fixture(scope="module")
def graph():
    return graph_for([nn.Conv2d(3, 2, 1)], IMAGES[:2])


@sources
def test_a_pass_gives_every_image_once(make, count, knows, again):
    data = CalibrationData.of(make())
    assert data.batch_count == (count if knows else None)
    inputs = list(data.inputs(1))
    assert len(inputs) == count
    assert all(len(values) == 1 and values[0].dtype == torch.float32 for values in inputs)
    assert sorted(numbers(images_of(inputs))) == list(range(70))


@sources
def test_a_second_pass_begins_anew_where_the_source_can(make, count, knows, again):
    data = CalibrationData.of(make())
    assert len(list(data)) == count
    assert len(list(data)) == (count if again else 0)
    assert len(list(data)) == (count if again else 0)


LOOKS = {
    "the first": lambda data, _: data.first("test"),
    "the first, twice": lambda data, _: (data.first("test"), data.first("test")),
    "first images": lambda data, graph: data.first_images(graph),
    "some": lambda data, _: data.beginning(20),
    "more and less": lambda data, graph: (data.beginning(40), data.first_images(graph)),
    "less and more": lambda data, _: (data.first("test"), data.beginning(40)),
    "all": lambda data, _: data.beginning(1000),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@sources
def test_what_is_looked_at_remains_to_be_read(make, count, knows, again, look, graph):
    torch.manual_seed(0)
    expected = images_of(CalibrationData.of(make()))
    torch.manual_seed(0)
    data = CalibrationData.of(make())
    look(data, graph)
    assert torch.equal(images_of(data), expected)  # Also of a loader that shuffles.
    assert len(list(data)) == (count if again else 0)


@sources
def test_the_beginning_can_be_read_again(make, count, knows, again):
    data = CalibrationData.of(make())
    beginning = data.beginning(40)
    assert len(beginning) == (2 if count == 3 else 3)
    first_pass = images_of(data)
    for _ in range(2):
        images = images_of(CalibrationData.of(beginning))
        assert torch.equal(images, first_pass[: len(images)])


@sources
def test_first_images_are_those_that_a_pass_begins_with(make, count, knows, again, graph):
    data = CalibrationData.of(make())
    (images,) = data.first_images(graph).joined()
    assert torch.equal(images, images_of(data)[:32].float())


def test_a_pass_that_was_begun_is_not_begun_anew(graph):
    stream = Stream(cut())
    data = CalibrationData.of(stream)
    data.first("test")
    assert (stream.passes, stream.read) == (1, 1)
    data.first_images(graph)
    assert (stream.passes, stream.read) == (1, 2)
    list(data)
    assert (stream.passes, stream.read) == (1, 5)


def test_passes_over_a_loader_that_shuffles_differ():
    data = CalibrationData.of(loader(shuffle=True))
    assert numbers(images_of(data)) != numbers(images_of(data))


def test_a_pass_holds_nothing(graph):
    alive = []

    def watched():
        for batch in cut():
            alive.append(weakref.ref(copied := batch.clone()))
            yield copied
            del copied

    data = CalibrationData.of(watched())
    data.first_images(graph)
    assert sum(batch() is not None for batch in alive) == 2
    for index, _ in enumerate(data):
        if index >= 2:
            gc.collect()
            assert sum(batch() is not None for batch in alive) <= 2  # This one and the one before.


def test_of_calibration_data_is_itself():
    data = CalibrationData.of(iter(cut()))
    assert CalibrationData.of(data) is data


class OnlyItems:
    """As datasets are: their items are no batches."""

    def __getitem__(self, index):
        return IMAGES[index]


@pytest.mark.parametrize("data", [3, None, OnlyItems()], ids=lambda data: type(data).__name__)
def test_what_cannot_be_iterated_is_refused(data):
    message = f"must be a tensor or an iterable of batches, got {type(data).__name__}"
    with pytest.raises(CalibrationError, match=message):
        CalibrationData.of(data)


@pytest.mark.parametrize(
    "data",
    [[], IMAGES[:0], torch.tensor(1.0), iter(())],
    ids=["list", "no-rows", "number", "iterator"],
)
def test_no_data(data):
    data = CalibrationData.of(data)
    assert not data.batch_count
    assert data.beginning(8) == []
    with pytest.raises(CalibrationError, match="quantize: the calibration data is empty"):
        data.first("quantize")
    assert list(data) == []


BAD = {
    "dict": ({"image": IMAGES}, 1, "must be a tensor or a sequence .* 1 input.* got dict"),
    "few": ([IMAGES], 2, r"must be a tensor or a sequence .* 2 input\(s\), got list"),
    "text": ("path.jpg", 1, "holds a str, expected a tensor"),
    "names": (["path.jpg"], 1, "holds a str, expected a tensor"),
    "integers": (IMAGES.int(), 1, "has dtype torch.int32, expected a floating-point tensor"),
    "empty": (IMAGES[:0], 1, r"is empty: shape \(0, 3, 4, 4\)"),
    "nan": (IMAGES * torch.nan, 1, "holds NaN or infinite values"),
    "infinite": (IMAGES / 0, 1, "holds NaN or infinite values"),
    "nan beside images": ((IMAGES, torch.tensor(torch.nan)), 2, "holds NaN or infinite values"),
}


@pytest.mark.parametrize(("batch", "count", "message"), BAD.values(), ids=BAD)
def test_a_bad_batch_is_named(batch, count, message):
    good = (IMAGES[:2], IMAGES[:2])
    inputs = CalibrationData.of([good, good, batch]).inputs(count, label="test: batch")
    assert len(next(inputs)) == len(next(inputs)) == count
    with pytest.raises(CalibrationError, match=f"^test: batch 2 {message}"):
        next(inputs)


def test_bad_batches_are_left_to_who_reads_them():
    stream = Stream([IMAGES[:2], {"image": IMAGES}, IMAGES])
    assert len(CalibrationData.of(stream).beginning(50)) == 2
    assert stream.read == 2


def test_a_mask_beside_the_images_may_be_infinite():
    mask = torch.tensor([0.0, -torch.inf])
    assert torch.equal(model_inputs((IMAGES, mask), 2, "batch")[1], mask)


def test_inputs_come_to_a_device():
    data = CalibrationData.of([(IMAGES.half(), IMAGES)])
    ((first, second),) = data.inputs(2, device=torch.device("meta"))
    assert (first.device.type, first.dtype) == ("meta", torch.float32)
    assert second.device.type == "meta"
    ((image,),) = data.inputs(1)
    assert image.device.type == "cpu"


def test_first_images_are_joined_from_as_few_batches_as_it_takes(graph):
    stream = Stream(list(IMAGES.split(10)))
    images = CalibrationData.of(stream).first_images(graph)
    assert numbers(images.joined()[0]) == list(range(32))
    assert images.label == "calibration batches joined to one"
    assert stream.read == 4


def test_one_batch_is_called_what_it_is(graph):
    assert CalibrationData.of(IMAGES).first_images(graph).label == "calibration batch 0"


def test_fewer_images_than_enough_are_all(graph):
    assert len(CalibrationData.of(IMAGES[:5]).first_images(graph).joined()[0]) == 5


def test_images_of_another_size_are_passed_over(graph):
    other = torch.zeros(8, 3, 6, 6)
    images = CalibrationData.of([IMAGES[:8], other, IMAGES[8:40]]).first_images(graph).joined()
    assert numbers(images[0]) == list(range(32))


def test_a_single_image_is_all(graph):
    stream = Stream(list(torch.randn(20, 3, 6, 6)))
    (image,) = CalibrationData.of(stream).first_images(graph).joined()
    assert torch.equal(image, stream.batches[0])
    assert stream.read == 1


def test_a_single_image_with_many_channels_is_all_of_it():
    stream = Stream(list(torch.randn(20, 40, 6, 6)))
    graph = graph_for([nn.Conv2d(40, 2, 1)], stream.batches[0])
    assert CalibrationData.of(stream).first_images(graph).joined()[0].shape == (40, 6, 6)


def test_inputs_that_cannot_be_joined_are_those_of_the_first_batch():
    class Gain(nn.Module):
        def forward(self, image, gain):
            return image * gain

    stream = Stream([(IMAGES[:4], torch.rand(1, 3, 1, 1)) for _ in range(5)])
    graph = trace(Gain().eval(), stream.batches[0])
    images, gain = CalibrationData.of(stream).first_images(graph).joined()
    assert (images.shape, gain.shape) == ((4, 3, 4, 4), (1, 3, 1, 1))
    assert stream.read == 1


def test_a_first_batch_that_does_not_fit_is_named(graph):
    # Of three axes the first would be channels, which is found out by running the graph.
    with pytest.raises(CalibrationError, match=r"batch 0 \(\(5, 6, 6\) .* does not fit the model"):
        CalibrationData.of([torch.randn(5, 6, 6)]).first_images(graph)
