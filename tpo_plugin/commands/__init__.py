"""The command line's parts: each module's `add` puts its commands into the parser; what they do lives in the stages.

A command's `run` takes the parsed arguments and returns the text to print, with the exit status where that is not 0, or None.
"""
