"""``python -m repq_fx`` is the `repq` command."""

from .cli import main

main()
