"""What tests and measurements share: a fresh clone, a browser that asks no other host, a JupyterLab."""
