"""Dask: workers of this machine, or a cluster that already runs."""
