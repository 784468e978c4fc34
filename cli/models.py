"""`maas models …`: the commands that look after the store. Knows no running service."""

import tomllib
from pathlib import Path
from typing import Annotated

import typer

from cli import labels, pulling
from cli.compare import compare
from cli.completing import stored_models
from cli.evaluate import bar
from cli.options import CACHE, ROOT, Cache, Json, Root
from cli.prepare import make_ready
from cli.render import err, fields, out, print_json, table
from cli.reports import precision_table
from cli.versions import named, summary, summary_or_damage
from services.runtime.errors import InvalidInput
from services.runtime.store import catalogue
from services.runtime.store.store import ModelStore

app = typer.Typer(help="List, fetch, check, compare and label model versions.", no_args_is_help=True)
app.command()(compare)

PRECISIONS = "precisions"

Name = Annotated[str, typer.Argument(help="Name of the model.", autocompletion=stored_models)]
Version = Annotated[str, typer.Argument(help="Number or label; left out: the latest.")]


@app.command("list")
def list_models(root: Root = ROOT, json: Json = False) -> None:
    """What the store holds, and what the catalogue could add."""
    store = ModelStore(root)
    versions = [(name, version) for name in store.names() for version in store.versions(name)]
    told = [summary_or_damage(store, name, version) for name, version in versions]
    if json:
        return print_json(told)
    rows = [list(line.values()) for line in told]
    rows += [[name, "-", "", "", "", "not pulled"] for name in catalogue.load() if name not in store.names()]
    out().print(table(["model", "version", "labels", "runner", "size", "digest"], rows, right=["size"]))
    return None


@app.command()
def show(name: Name, version: Version = "", root: Root = ROOT, json: Json = False) -> None:
    """One version: what it is, where it came from, how it measured."""
    store = ModelStore(root)
    manifest = store.resolve(name, version)
    if json:
        return print_json({**manifest.model_dump(mode="json"), "card": store.card(manifest)})
    told = {**summary(store, manifest), "tasks": ", ".join(manifest.tasks), "digest": manifest.digest}
    told |= {"architecture": manifest.architecture or "-", "description": manifest.description}
    told |= {"licence": manifest.licence, "source": manifest.provenance.source}
    told |= manifest.files
    card = store.card(manifest)
    told |= {f"card: {key}": str(value) for key, value in card.items() if key != PRECISIONS}
    out().print(fields(told))
    if found := card.get(PRECISIONS):
        out().print(f"\nprecisions on {found['tokens']} tokens of {found['data']}", highlight=False, markup=False)
        out().print(precision_table(found))
    return None


@app.command()
def pull(
    names: Annotated[list[str] | None, typer.Argument(help="Catalogue entries.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every entry of the catalogue.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Make a new version even if it is there.")] = False,
    root: Root = ROOT,
    cache: Cache = CACHE,
    json: Json = False,
) -> None:
    """Fetch models of the catalogue; what the store has already is left alone."""
    wanted = list(catalogue.load()) if everything else names or []
    if not wanted:
        raise InvalidInput("names", f"name models or give --all; known: {', '.join(catalogue.load())}")
    pulled = pulling.pull(ModelStore(root), cache.expanduser(), wanted, force=force)
    make_ready(ModelStore(root))
    tell([named(manifest) for manifest in pulled], json)


@app.command("import")
def import_model(
    source: Annotated[str, typer.Argument(help="A file, a directory, or hf:OWNER/NAME[@REVISION].")],
    name: Name,
    manifest: Annotated[Path | None, typer.Option(help="TOML with manifest fields and [options].")] = None,
    base: Annotated[str, typer.Option(help="Of an adapter: its base's name in the store.")] = "",
    root: Root = ROOT,
    cache: Cache = CACHE,
    json: Json = False,
) -> None:
    """Publish a model from GGUF, a Hugging Face or PEFT directory, a checkpoint, .npz or tokenizer file."""
    told = tomllib.loads(manifest.read_text(encoding="utf-8")) if manifest else {}
    if base:
        told["options"] = {**told.get("options", {}), "base": base}
    with err().status(f"importing {source} …"):
        published = pulling.import_model(ModelStore(root), cache.expanduser(), source, name, told)
    tell(named(published), json)


@app.command()
def verify(
    name: Annotated[
        str, typer.Argument(help="Name of the model; left out: all.", autocompletion=stored_models)
    ] = "",
    version: Version = "",
    root: Root = ROOT,
    json: Json = False,
) -> None:
    """Hash every file again and compare with what was published."""
    store = ModelStore(root)
    if name:
        chosen = [store.resolve(name, version)]
    else:
        chosen = [store.manifest(known, number) for known in store.names() for number in store.versions(known)]
    with bar("hashing") as progress:
        for done, manifest in enumerate(chosen):
            progress(done, len(chosen))
            store.verify(manifest)
    if json:
        return print_json([{**named(manifest), "files": manifest.files} for manifest in chosen])
    for manifest in chosen:
        out().print(f"{manifest.name}/{manifest.version} ok, {len(manifest.files)} files")
    return None


@app.command()
def remove(name: Name, version: Annotated[int, typer.Argument()], root: Root = ROOT, json: Json = False) -> None:
    """Delete one version; refused while a label points at it."""
    store = ModelStore(root)
    store.remove(name, version)
    err().print(f"{name}/{version} removed")
    if json:
        print_json({"model": name, "removed": version, "versions": store.versions(name)})


@app.command()
def label(
    name: Name,
    label: Annotated[str, typer.Argument(help="Such as stable or canary.")],
    version: Annotated[str, typer.Argument(help="Number or another label; left out: drop the label.")] = "",
    root: Root = ROOT,
    json: Json = False,
) -> None:
    """Point a label at a version, or drop it. `stable` answers calls without a version; services follow."""
    store = ModelStore(root)
    store.set_label(name, label, store.resolve(name, version).version if version else None)
    if json:
        return print_json(
            {"model": name, "labels": store.labels(name), "answering": labels.answering(store, name)}
        )
    return out().print(labels.effect(store, name), soft_wrap=True)


@app.command()
def rollback(
    name: Name,
    to: Annotated[str, typer.Option(help="Number or label; left out: the version before.")] = "",
    root: Root = ROOT,
    json: Json = False,
) -> None:
    """Point `stable` at the version before the one that answers calls without a version."""
    store = ModelStore(root)
    before, after = labels.rollback(store, name, to)
    if json:
        return print_json({"model": name, "before": before, "stable": after})
    moved = f"calls without a version got {before}, now get {after}" if before != after else "nothing moved"
    told = f"{name}: stable → {after}; {moved}; running services follow within seconds"
    return out().print(told, soft_wrap=True)


def tell(found: dict[str, object] | list[dict[str, object]], json: bool) -> None:
    """Versions by name, number and digest: a line each, or as JSON."""
    if json:
        return print_json(found)
    for one in found if isinstance(found, list) else [found]:
        out().print(f"{one['model']}/{one['version']} {one['digest']}", soft_wrap=True)
    return None
