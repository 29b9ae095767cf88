"""Ablations: a grid of curations, trainings and evaluations over seeds, and the table that they fill."""
