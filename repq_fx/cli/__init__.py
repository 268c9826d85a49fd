"""The `repq` command."""

from .app import main as main
