"""A model that no file could hold is refused before the work, for a file is what it is done for."""

from torch.fx import GraphModule

from ..errors import RepqError
from ..export import unstorable


def require_storable(merged: GraphModule) -> None:
    """Refuse a network that could not be saved when it is quantized.

    Raises:
        RepqError: A layer or function of it, which the message names, is none that files hold.
    """
    reasons = unstorable(merged)
    if reasons:
        others = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise RepqError(f"what --out would hold cannot be saved: {reasons[0]}{others}.")
