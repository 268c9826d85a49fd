"""RepVGG and its descendants: RepConv, VGGBlock, QARepVGG, RepOptimizer, ACB, implicit heads."""

import torch
from torch import nn
from torch.nn import functional as F

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv_bn(inputs, outputs, kernel_size, stride=1, padding=None, dims=2, **options):
    """A convolution without bias, padded to keep its input's size, and batch normalization."""
    padding = kernel_size // 2 if padding is None else padding
    conv = CONVS[dims](inputs, outputs, kernel_size, stride, padding, bias=False, **options)
    return nn.Sequential(conv, NORMS[dims](outputs))


class SqueezeExcite(nn.Module):
    """Pools with a window of the size of its input instead of adaptively."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x):
        _, channels, height, width = x.size()
        gate = F.avg_pool2d(x, kernel_size=[height, width])
        gate = torch.sigmoid(self.up(F.relu(self.down(gate))))
        return x * gate.view(-1, channels, 1, 1)


class RepVGG(nn.Module):
    def __init__(self, inputs, outputs, stride=1, groups=1, dims=2, squeeze=None):
        super().__init__()
        options = {"groups": groups, "dims": dims}
        has_identity = inputs == outputs and stride == 1
        self.rbr_identity = NORMS[dims](inputs) if has_identity else None
        self.rbr_dense = conv_bn(inputs, outputs, 3, stride, **options)
        self.rbr_1x1 = conv_bn(inputs, outputs, 1, stride, **options)
        self.se = squeeze or nn.Identity()
        self.act = nn.ReLU()

    def forward(self, inputs):
        if hasattr(self, "rbr_reparam"):
            return self.act(self.se(self.rbr_reparam(inputs)))
        id_out = 0 if self.rbr_identity is None else self.rbr_identity(inputs)
        return self.act(self.se(self.rbr_dense(inputs) + self.rbr_1x1(inputs) + id_out))


class RepVGGPlus(nn.Module):
    """Squeezes after the activation and returns a dictionary with an auxiliary head."""

    def __init__(self, channels):
        super().__init__()
        self.stage = nn.ModuleList(RepVGG(channels, channels) for _ in range(2))
        self.post_se = SqueezeExcite(channels)
        self.aux = conv_bn(channels, 2, 3, 2)

    def forward(self, x):
        outputs = {}
        for block in self.stage:
            x = self.post_se(block(x))
            if "aux" not in outputs:
                outputs["aux"] = F.relu(self.aux(x))
        return {**outputs, "main": x}


class RepConv(nn.Module):
    """The identity branch is off unless asked for, and a plain 0 is added in its place."""

    default_act = nn.SiLU()

    def __init__(self, inputs, outputs, stride=1, groups=1, norm=False):
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs) if norm and inputs == outputs and stride == 1 else None
        self.conv1 = conv_bn(inputs, outputs, 3, stride, groups=groups)
        self.conv2 = conv_bn(inputs, outputs, 1, stride, padding=0, groups=groups)
        self.act = self.default_act

    def forward(self, x):
        id_out = 0 if self.bn is None else self.bn(x)
        return self.act(self.conv1(x) + self.conv2(x) + id_out)


class CrossStage(nn.Module):
    """Iterates over the chunks of a tensor."""

    def __init__(self, channels):
        super().__init__()
        self.cv1, self.cv2 = conv_bn(channels, channels, 1), conv_bn(2 * channels, channels, 1)
        self.m = nn.ModuleList(RepConv(channels // 2, channels // 2, norm=True) for _ in range(2))

    def forward(self, x):
        parts = list(F.silu(self.cv1(x)).chunk(2, 1))
        parts.extend(m(parts[-1]) for m in self.m)
        return F.silu(self.cv2(torch.cat(parts, 1)))


class VGGBlock(nn.Module):
    """With `alpha`, whether the branch is scaled depends on the truth value of a parameter."""

    def __init__(self, inputs, outputs, has_alpha):
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, 3)
        self.conv2 = conv_bn(inputs, outputs, 1)
        self.alpha = nn.Parameter(torch.ones(1)) if has_alpha else None
        self.act = nn.SiLU()

    def forward(self, x):
        if hasattr(self, "conv"):
            return self.act(self.conv(x))
        if self.alpha:
            return self.act(self.conv1(x) + self.alpha * self.conv2(x))
        return self.act(self.conv1(x) + self.conv2(x))


class QARepVGG(nn.Module):
    """Normalizes after the sum, and `norms` says which branches do on their own."""

    def __init__(self, inputs, outputs, stride, norms, bias=False, has_alpha=False, pool=False):
        super().__init__()
        has_identity = inputs == outputs and stride == 1
        branches = {
            "dense": nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            "point": nn.Conv2d(inputs, outputs, 1, stride, bias=bias),
            "skip": nn.Identity() if has_identity else None,
        }
        for name in norms:
            if branches[name] is not None:
                branches[name] = nn.Sequential(branches[name], nn.BatchNorm2d(outputs))
        self.branches = nn.ModuleDict(branches)
        self.alpha = nn.Parameter(torch.ones(1)) if has_alpha else 1.0
        # A deployed convolution that exists from the start and that nothing calls.
        self.rbr_reparam = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.rbr_avg = nn.AvgPool2d(3, stride, 1) if pool and has_identity else None
        self.drop_path, self.se = nn.Dropout(), nn.Identity()
        self.bn, self.act = nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)

    def forward(self, inputs):
        dense = self.branches["dense"](inputs)
        total = self.drop_path(dense + self.alpha * self.branches["point"](inputs))
        total = total + (0 if self.branches["skip"] is None else self.branches["skip"](inputs))
        if self.rbr_avg is not None:
            total = total + self.rbr_avg(inputs)
        return self.act(self.bn(self.se(total)))


class ScaleLayer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight, self.channels = nn.Parameter(torch.ones(channels)), channels

    def forward(self, x):
        return x * self.weight.view(1, self.channels, 1, 1)


class LinearAdd(nn.Module):
    """The block that RepOptimizers search with: constant scales, one normalization."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv1x1 = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.scale_conv, self.scale_1x1 = ScaleLayer(outputs), ScaleLayer(outputs)
        if inputs == outputs and stride == 1:
            self.scale_identity = ScaleLayer(inputs)
        self.bn, self.act = nn.BatchNorm2d(outputs), nn.ReLU()

    def forward(self, inputs):
        out = self.scale_conv(self.conv(inputs)) + self.scale_1x1(self.conv1x1(inputs))
        if hasattr(self, "scale_identity"):
            out += self.scale_identity(inputs)
        return self.act(self.bn(out))


class AsymmetricConv(nn.Module):
    """ACB: kxk, 3x1 and 1x3 side by side; where padding would be negative, the input is cropped."""

    def __init__(self, inputs, outputs, kernel_size, stride, padding):
        super().__init__()
        offset = padding - kernel_size // 2
        self.crop = max(0, -offset)
        wide, narrow = max(0, offset + 1), max(0, offset)
        self.square = conv_bn(inputs, outputs, kernel_size, stride, padding)
        self.vertical = nn.Conv2d(inputs, outputs, (3, 1), stride, (wide, narrow), bias=False)
        self.horizontal = nn.Conv2d(inputs, outputs, (1, 3), stride, (narrow, wide), bias=False)
        self.vertical_bn, self.horizontal_bn = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.act = nn.ReLU()

    def forward(self, input):
        square = self.square(input)
        columns = rows = input
        if self.crop:
            c = self.crop
            columns, rows = input[:, :, :, c:-c], input[:, :, c:-c, :]
        vertical = self.vertical_bn(self.vertical(columns))
        horizontal = self.horizontal_bn(self.horizontal(rows))
        return self.act(square + vertical + horizontal)


class ImplicitHead(nn.Module):
    """YOLOv7's IDetect: a learned addend before, a learned factor behind a 1x1 convolution."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.added = nn.Parameter(torch.zeros(1, inputs, 1, 1))
        self.factor = nn.Parameter(torch.ones(1, outputs, 1, 1))
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        return self.factor * self.conv(self.added + x)
