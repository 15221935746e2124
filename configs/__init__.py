"""The configs as a module, so that they are installed with the package."""
