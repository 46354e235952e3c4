"""Public PRMs, each read as its authors read it. `load` gives one ready to score (it needs torch)."""
