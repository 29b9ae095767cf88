"""What the script's own parser makes of flags, as JSON on the last line: python parse_flags.py CHECKOUT FLAGS."""

from __future__ import annotations

import dataclasses
import json
import sys

from transformers import HfArgumentParser

from tpo_plugin.integrations import llava_family
from tpo_plugin.integrations.checkout import find_checkout
from tpo_plugin.integrations.llava_family.launcher import load_script

checkout, flags = find_checkout(sys.argv[1]), sys.argv[2:]
sys.argv = [str(checkout.script), *flags]
script = vars(load_script(checkout))
llava_family.attach(script)
classes = tuple(script[name] for name in ("ModelArguments", "DataArguments", "TrainingArguments"))
parsed = HfArgumentParser(classes).parse_args_into_dataclasses()
values = {field.name: getattr(part, field.name) for part in parsed for field in dataclasses.fields(part)}
sys.stdout.write("\n" + json.dumps(values, default=lambda value: getattr(value, "value", str(value))) + "\n")
