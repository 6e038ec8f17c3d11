"""Commands that say what there is: `losses`, `datasets`, `features`, `schema`, `cache`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lossgauge import startup, stopping
from lossgauge.cli.arguments import (
    BACKBONES,
    Download,
    Quiet,
    completes,
)
from lossgauge.cli.last_lines import features_stopped
from lossgauge.cli.program import FAILED, app, say
from lossgauge.errors import InputError, nearest
from lossgauge.terminal import wrapped

cache_app = typer.Typer(help="Show, verify and delete cached features.", no_args_is_help=True)
app.add_typer(cache_app, name="cache", rich_help_panel="Losses, datasets and cache")


@app.command(rich_help_panel="Losses, datasets and cache", epilog="Example: `lossgauge losses`")
def losses() -> None:
    """List the losses with their settings, and which have a form for queries and documents."""
    with startup.imports():
        from lossgauge.losses.registry import ALL_LOSSES, GROUPS, loss_class, settings_of

    for group, title in GROUPS.items():
        names = [name for name in ALL_LOSSES if getattr(loss_class(name), "group", "") == group]
        if names:
            say(f"{title}:")
        for name in names:
            made: Any = loss_class(name)
            say(f"{name:17} {(sys.modules[made.__module__].__doc__ or '').splitlines()[0]}")
            say(" " * 18 + ", ".join(f"{key}{known}" for key, known in settings_of(name).items()))
            if made.aliases:
                say(" " * 18 + f"also named {', '.join(made.aliases)}")
            if made.pair_form:
                too = "too" if made.square_form else "only"
                say(" " * 18 + f"for queries and documents {too}")
    say(
        "my_loss.py:Pull   your own loss in a file: a class or a function (embeddings, labels) -> scalar"
    )


@app.command(rich_help_panel="Losses, datasets and cache", epilog="Example: `lossgauge datasets`")
def datasets() -> None:
    """List the datasets: the place of each on this machine, or how to get it."""
    with startup.imports():
        from lossgauge.data import describe_datasets

    for text in describe_datasets():
        for line in wrapped(text):
            say(line)


@app.command(
    rich_help_panel="Losses, datasets and cache",
    epilog="Examples: `lossgauge features fashion-mnist` · `lossgauge features digits --backbone pixels` · "
    "`lossgauge features folder:photos --backbone hf:./my-vit`",
)
def features(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A name from `lossgauge datasets`, folder:PATH, texts:PATH or pairs:PATH."
        ),
    ],
    backbone: Annotated[
        str,
        typer.Option(
            help="efficientnet-lite0, pixels, clip-vit-b32, vit-b32-in21k, minilm-l6 (texts), hf:MODEL (a folder or a name on "
            "the Hugging Face hub), or your own, as my_backbone.py:Model.",
            autocompletion=completes(*BACKBONES),
        ),
    ] = "efficientnet-lite0",
    dtype: Annotated[str | None, typer.Option(help="fp32 or bf16, for hf models.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda, for hf models.")] = None,
    quiet: Quiet = False,
    download: Download = False,
    refresh: Annotated[
        bool, typer.Option(help="Extract the features again, even if the cache has them.")
    ] = False,
) -> None:
    """Extract the features of a dataset into the cache. Features in the cache are used as they are."""
    stopping.describe = features_stopped
    with startup.imports():
        from lossgauge.backbones import load_backbone
        from lossgauge.data import load_dataset
        from lossgauge.data.features import features as extract
        from lossgauge.study.progress_bars import show_progress

    given: dict[str, Any] = {
        key: value for key, value in (("dtype", dtype), ("device", device)) if value
    }
    with stopping.orderly(), show_progress(quiet=quiet) as progress:
        extracted = extract(
            load_dataset(dataset, download=download),
            load_backbone(backbone, download=download, **given),
            refresh=refresh,
            progress=partial(progress.features, dataset),
        )
    rows, width = extracted.features.shape
    say(
        f"{dataset}: {rows} rows of {width} features by {backbone}, {extracted.protocol} split "
        f"{len(extracted.train)}/{len(extracted.test)}, fingerprint {extracted.fingerprint[:12]}"
    )
    for words in extracted.notes:
        say(f"{dataset}: {words}")


@app.command(
    rich_help_panel="Losses, datasets and cache",
    epilog="Example: `lossgauge schema > study.schema.json`",
)
def schema() -> None:
    """Print the JSON Schema of study files. An editor uses it to complete and check YAML."""

    with startup.imports():
        from lossgauge.plan.yaml_file import schema as study_schema

    for line in json.dumps(study_schema(), indent=1).splitlines():
        say(line)


@cache_app.command("ls", epilog="Example: `lossgauge cache ls`")
def list_cache() -> None:
    """List the entries of the cache with their sizes."""
    with startup.imports():
        from lossgauge.data.cache import default_cache, entries

    listed = entries(default_cache())
    for entry in listed:
        rows = "?" if entry.rows is None else f"{entry.rows:,}"
        say(f"{entry.folder.name}  {entry.bytes / 1e6:,.1f} MB  {rows} rows  {entry.what}")
    total = sum(entry.bytes for entry in listed)
    count = f"{len(listed)} {'entry' if len(listed) == 1 else 'entries'}"
    say(f"{count}, {total / 1e6:,.1f} MB in {default_cache()}")


@cache_app.command(epilog="Example: `lossgauge cache verify`")
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names of entries, or the beginning of names. Default: all entries."),
    ] = None,
) -> None:
    """Read every byte of the cache, and show the damaged entries."""
    with startup.imports():
        from lossgauge.data.cache import verify as verify_entry
        from lossgauge.errors import CacheError

    damaged = 0
    for folder in _cached(names):
        try:
            verify_entry(folder)
            say(f"ok       {folder.name}")
        except CacheError as error:
            damaged += 1
            say(f"DAMAGED  {folder.name}: {error}")
    if damaged:
        raise typer.Exit(FAILED)


@cache_app.command(
    "rm", epilog="Examples: `lossgauge cache rm digits` · `lossgauge cache rm --all`"
)
def remove_cached(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of entries, or the beginning of names.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all entries.")] = False,
) -> None:
    """Delete entries of the cache. Features are extracted again when a study needs them."""
    with startup.imports():
        from lossgauge.data.cache import remove

    if everything == bool(names):
        raise InputError(
            "name the entries to delete, or give --all (not both); `lossgauge cache ls` lists the entries"
        )
    for folder in _cached(names):
        remove(folder)
        say(f"deleted {folder.name}")


def _cached(names: list[str] | None) -> list[Path]:
    """Folders of the entries whose names begin with one of `names`; all entries without names."""
    with startup.imports():
        from lossgauge.data.cache import default_cache, entries

    folders = [entry.folder for entry in entries(default_cache())]
    for name in names or ():
        if not name or not any(folder.name.startswith(name) for folder in folders):
            raise InputError(
                f"the cache has no entry {name!r}{nearest(name, [f.name for f in folders])}"
            )
    return [f for f in folders if not names or any(f.name.startswith(name) for name in names)]
