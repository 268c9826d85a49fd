"""Thin adapters to other packages, each imported only when it is used."""

from .saved import load as load
from .saved import save as save
