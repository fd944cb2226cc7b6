"""The dose curve, and the automatic dose: what pruning alone does, by the share of neurons."""
