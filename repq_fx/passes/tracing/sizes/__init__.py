"""Sizes in a traced graph: which may differ from the example, and checks of those that may not."""
