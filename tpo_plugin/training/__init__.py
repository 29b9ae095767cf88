"""Preference training: the objective, the pairs as batches, the policy that scores responses, the trainer, the run."""
