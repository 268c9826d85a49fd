"""A graph of torch.fx: what may be asked of it, and small rewrites that keep what it computes."""
