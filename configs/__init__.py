"""The configs as a module, so that they are at hand where the package is installed."""
