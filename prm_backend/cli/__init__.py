"""The commands of `python -m prm_backend`, a module for each family. Torch is loaded by the commands that need it."""
