"""sweep report: a page of a study, a group, several studies or all of them; slides; findings as text; figures as files."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from depth_loss_sweep.cli.options import ForceOption, HomeOption, StorageOption, kept_places, open_store, where_options
from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.outputs import check_outputs, file_at, folder_at
from depth_loss_sweep.paths import Home

if TYPE_CHECKING:
    from depth_loss_sweep.store import Store


def report(
    names: Annotated[
        list[str] | None, typer.Argument(help="A study or group; several are shown side by side.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="An index of all studies: each one's verdict in a line.")] = False,
    slides: Annotated[bool, typer.Option("--slides", help="A talk of one study or group.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File or folder; default: HOME/studies/NAME/report.html.")
    ] = None,
    force: ForceOption = False,
    text: Annotated[
        str | None, typer.Option("--text", help="Of a group: its findings as Markdown, in this file, and no page.")
    ] = None,
    figures: Annotated[
        str | None, typer.Option("--figures", help="Each figure as plotly's JSON, in this folder, and no page.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow what is trained: write it anew until that ends; it reloads itself.")
    ] = False,
    home: HomeOption = None,
    storage: StorageOption = None,
) -> None:
    """Write one self-contained HTML file: which weights to use, how sure that is, where training breaks."""
    from depth_loss_sweep.pages import Page
    from depth_loss_sweep.reports.page import is_report

    given = names or []
    if all_ and given:
        raise StudyError(f"give names ({', '.join(given)}), or --all for an index of all studies, not both")
    if not all_ and not given:
        raise StudyError("say which studies or groups to report (sweep list), or --all for an index of all of them")
    place = Home.choose(home)
    store = open_store(place, storage)
    page = Page(store, place, tuple(given), slides, where_options(home, storage))
    if text is not None:
        print(_write_text(store, place, given, text, force))
    if figures is not None:
        print("\n".join(map(str, _write_figures(store, place, page.studies, figures, force))))
    if text is not None or figures is not None:
        return
    path = page.usual_place if output is None else file_at(output, page.usual_name)
    check_outputs([path], is_report, kept_places(store, place), force)

    def tell() -> None:
        print(path, flush=True)
        if open_:
            typer.launch(path.absolute().as_uri())

    if watch and page.is_at_work:
        page.follow(path, tell)
        return
    page.write(path)
    tell()
    if watch:
        print("sweep: nobody is at work on it, so there is nothing to follow", file=sys.stderr)


def _write_text(store: "Store", place: Home, names: list[str], text: str, force: bool) -> Path:
    """A group's findings as Markdown; where the text goes."""
    from depth_loss_sweep.files import write_whole
    from depth_loss_sweep.paper import findings_text
    from depth_loss_sweep.reports.findings_text import is_findings

    if len(names) != 1 or not store.group(names[0]):
        raise StudyError(f"--text is for a group by itself (sweep list), not for {', '.join(names) or 'all studies'}")
    path = file_at(text, f"{names[0]}.md")
    check_outputs([path], is_findings, kept_places(store, place), force)
    content = findings_text(store, names[0]).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return path


def _write_figures(store: "Store", place: Home, studies: list[str], figures: str, force: bool) -> list[Path]:
    """Every figure of these studies in a file of its own; the files."""
    from depth_loss_sweep.files import write_whole
    from depth_loss_sweep.reports.plotly_figures import figure_files, is_figure
    from depth_loss_sweep.results import study_numbers

    folder = folder_at(figures)
    files = [figure_files(study_numbers(store, study)) for study in studies]
    texts = {folder / name: text for of_study in files for name, text in of_study.items()}
    if not texts:
        raise StudyError(f"there is nothing to draw yet of {', '.join(studies)}: figures need two trials or two epochs")
    check_outputs(texts, is_figure, kept_places(store, place), force)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_whole(path, text.encode())
    return [*texts]
