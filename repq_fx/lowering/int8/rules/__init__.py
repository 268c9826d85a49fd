"""Which part of a reference graph becomes which instruction."""
