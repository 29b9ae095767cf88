"""Preference pairs as data sets: reading, exporting to other trainers' formats, importing, statistics."""
