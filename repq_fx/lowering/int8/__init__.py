"""Lowering to integer instructions, which run as one program."""
