"""Model files with another header, sealed again: what a forger would write."""

import json

from safetensors import safe_open
from safetensors.torch import load_file, save

from repq_fx.export import checksum


def edited(path, change):
    """Rewrite the header of a model file; `change` edits it in place."""
    with safe_open(path, "pt") as opened:
        header = json.loads(opened.metadata()["repq_fx"])
    change(header)
    header[checksum.KEY] = checksum.BLANK
    content = save(load_file(path), {header.pop("key", "repq_fx"): json.dumps(header)})
    path.write_bytes(checksum.sealed(content))
