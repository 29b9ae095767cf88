"""The tiny world: a complete CPU-sized instance of the problem, with real videos, a real model and a real LLM server."""
