"""A study's figures outside of its page."""

import plotly.io

from depth_loss_sweep.reports.plotly_figures import figure_files, is_figure, plotly_figures


def test_a_notebook_has_every_figure_as_plotlys_own(study):
    """By name; a figure with a menu is there once for each choice, whose axis says what it shows."""
    found = plotly_figures(study(trials=3))
    assert {"hero-means-values", "hero-replica", "combined-replica", "terms-term_l1", "epochs-val-metric_rmse"} <= {
        *found
    }
    assert found["epochs-val-term_l1"].layout.yaxis.title.text == "L1 term (m)"
    assert len(found["hero-means-values"].data[0].x) == 12


def test_files_are_read_by_plotly_and_known_as_ours(study, tmp_path):
    """They hold the same figures; another JSON of somebody's is none of ours."""
    record = study("simplex", trials=4)
    for name, text in figure_files(record).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert is_figure(tmp_path / name)
    read = plotly.io.read_json(tmp_path / f"{record.name}-measures-axis-2-term_l1.json")
    assert read.update_layout(meta=None) == plotly_figures(record)["measures-axis-2-term_l1"]
    (tmp_path / "other.json").write_text('{"layout": {}, "data": []}')
    assert not is_figure(tmp_path / "other.json") and not is_figure(tmp_path / "none.json")
