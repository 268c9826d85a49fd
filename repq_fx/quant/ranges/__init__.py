"""Histograms of what observers see, and rules that choose a range of them."""
