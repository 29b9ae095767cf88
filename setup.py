"""Puts the top-level folders recipes/ and patches/ into the package; everything else is in setup.cfg."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tpo_plugin*"]), "tpo_plugin.recipes", "tpo_plugin.patches"],
    package_dir={"tpo_plugin.recipes": "recipes", "tpo_plugin.patches": "patches"},
    package_data={
        "tpo_plugin.curation.templates": ["*.txt", "*.yaml"],
        "tpo_plugin.evaluation": ["tasks/**/*.yaml", "tasks/**/*.jsonl", "tasks/**/*.py"],
        "tpo_plugin.report": ["*.html", "*.css", "published/*.yaml"],
        "tpo_plugin.tiny": ["base/*", "base_qwen2_vl/*"],
        "tpo_plugin.recipes": ["**/*.yaml"],
        "tpo_plugin.patches": ["**/*"],
    },
)
