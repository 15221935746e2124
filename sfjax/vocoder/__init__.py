"""From Mel spectrograms to waves where borrowing a phase is not enough."""
