"""Training-form building blocks."""

from .repvgg_block import RepVGGBlock as RepVGGBlock
