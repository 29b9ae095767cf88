"""Curation: raw videos to temporal preference pairs."""
