"""Train, run and evaluate process reward models (PRMs): a library without Django.

The light half (types, errors, formats, grading, selection, evaluation) never imports torch; the heavy half
(encoding, model, pretraining, training, scoring, checkpoints) does. Importing this package loads neither.
"""
