"""sweep trust: which code of the user's own may run."""

from typing import Annotated

import typer

from depth_loss_sweep.cli.options import HomeOption, StorageOption, open_store
from depth_loss_sweep.cli.printing import as_text, plain
from depth_loss_sweep.errors import CodeError
from depth_loss_sweep.paths import Home, expanded


def trust(
    digests: Annotated[list[str] | None, typer.Argument(help="Allow code of these sha256 digests.")] = None,
    show: Annotated[
        str | None, typer.Option("--show", help="Print the code of a study, or of a model file, and run nothing.")
    ] = None,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """Allow code that came with somebody's study or model to run; without a digest, list what is allowed.

    What you start yourself is allowed by that.
    """
    from depth_loss_sweep import trust as trusting

    if show is not None:
        _show(show, Home.choose(home), storage)
        return
    for digest in digests or []:
        if len(digest) != 64 or {*digest} - {*"0123456789abcdef"}:
            raise CodeError(f"{digest!r:.80} is no digest: expected the 64 letters that the refusal said")
    if digests:
        known = trusting.trusted()
        trusting.trust({digest: known.get(digest, "allowed by sweep trust") for digest in digests})
    else:
        for digest, what in trusting.trusted().items():
            print(f"{digest} {plain(what)}")


def _show(what: str, place: Home, storage: str | None) -> None:
    from depth_loss_sweep.closure import kept
    from depth_loss_sweep.spec_file import stored_spec
    from depth_loss_sweep.trust import model_code
    from depth_loss_sweep.usercode import Reference, known

    if expanded(what).is_file():
        references = [reference for text in model_code(expanded(what)) if (reference := Reference.parse(text))]
    else:
        store = open_store(place, storage)
        references = list(stored_spec(store.require(what), store.shown_url).code)
    if not references:
        print(f"{plain(what)} names no code: it runs what is built in")
    for reference in references:
        print(f"== {plain(reference.shown)}  sha256 {reference.key}")
        if not reference.is_file:
            print("of an installed package")
            continue
        code = known(reference.digest) or kept(reference.digest, place.code)
        for path, content in sorted(code.files.items()):
            print(f"-- {plain(path)}")
            print("\n".join(plain(line) for line in as_text(content.decode(errors="replace")).splitlines()))
