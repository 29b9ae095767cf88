"""`tpo patch`, `tpo doctor` and `tpo merge`: for checkouts of LLaVA-NeXT and LongVA."""

from __future__ import annotations

import argparse

from tpo_plugin.commands.common import Commands, use_torch


def add(commands: Commands) -> None:
    _add_patch(
        commands.add_parser("patch", help="put --tpo into the training script of a LLaVA-NeXT or LongVA checkout")
    )
    doctor = commands.add_parser("doctor", help="would a run start here, and if not, what to do")
    doctor.add_argument(
        "path", nargs="?", help="a checkout of LLaVA-NeXT or LongVA (default: none, for `tpo train RECIPE`)"
    )
    doctor.add_argument("--model", metavar="CHECKPOINT", help="what --model_name_or_path would be")
    doctor.add_argument("--tower", help="what --vision_tower would be")
    doctor.add_argument("--data", help="what --data_path would be")
    doctor.set_defaults(run=_doctor)
    merge = commands.add_parser(
        "merge", help="what a DPO script saved with LoRA as a whole checkpoint, for programs that load no adapters"
    )
    merge.add_argument("--upstream", required=True, metavar="CHECKOUT", help="a checkout of LLaVA-NeXT or LongVA")
    merge.add_argument("adapter", help="the output folder of a run with --lora_enable")
    merge.add_argument("output", help="the folder to write; upstream's loader wants `llava` and `qwen` in its name")
    merge.set_defaults(run=_merge, extras="llava")


def _add_patch(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for action, text in (
        ("apply", "insert our lines, which do nothing without --tpo; shows the diff first"),
        ("revert", "take them out again, so that every byte is as it was"),
        ("status", "what the checkout is, and which patches are applied"),
    ):
        command = commands.add_parser(action, help=text, description=text[0].upper() + text[1:])
        command.add_argument("path", help="the repository's root folder")
        if action != "status":
            command.add_argument("--dry-run", action="store_true", help="show the diff and change nothing")
        command.set_defaults(run=_patch, action=action)


def _patch(args: argparse.Namespace) -> str:
    from tpo_plugin.integrations import patching
    from tpo_plugin.integrations.checkout import find_checkout

    checkout = find_checkout(args.path, strict=args.action != "revert")
    if args.action == "status":
        return patching.status_text(checkout)
    changes = patching.plan_apply(checkout) if args.action == "apply" else patching.plan_revert(checkout)
    said = [change.diff(checkout.path) for change in changes]
    if not changes:
        return "already applied" if args.action == "apply" else "nothing to revert"
    if args.dry_run:
        return "\n".join([*said, "dry run: nothing was changed"])
    patching.carry_out(changes)
    return "\n".join([*said, "applied" if args.action == "apply" else "reverted"])


def _doctor(args: argparse.Namespace) -> tuple[str, int]:
    from tpo_plugin.integrations.doctor import doctor

    report = doctor(args.path, args.model, args.tower, args.data)
    return report.text(), int(report.fails)


def _merge(args: argparse.Namespace) -> str:
    use_torch()
    from tpo_plugin.integrations.llava_family.merge import merge

    return str(merge(args.adapter, args.output, args.upstream))
