"""Policies: how a model family is encoded, scored and made trainable."""
