"""Training of whole PRMs, backbone included, on every rated completion: `loop.train`.

`data` and `recipe` hold plain data and load neither torch nor numpy.
"""
