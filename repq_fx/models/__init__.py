"""Re-parameterizable networks in training form."""

from .repvgg import RepVGG as RepVGG
from .repvgg import cifar_repvgg as cifar_repvgg
from .repvgg import fashion_repvgg as fashion_repvgg
from .repvgg import repvgg_a0 as repvgg_a0
