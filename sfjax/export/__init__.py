"""Export trained models, and load them."""
