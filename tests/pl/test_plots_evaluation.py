"""Plots of scores, choices and spectra: what is drawn, where, and what is refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.text import Text

import gml
from gml.methods import Auto, Discriminant, Triplet

pytestmark = pytest.mark.slow  # test_plots.py has fast ones

BLUE, GREY = to_rgba("#0072B2"), to_rgba("0.55")
ON_DISTANCES = ("knn", "energy", "svm", "logistic")
LONG = Discriminant(shrinkage=0.3, whitening=1.0)


@pytest.fixture(autouse=True)
def canvas() -> Iterator[None]:
    """Draw into memory, and leave nothing open or changed."""
    plt.switch_backend("Agg")
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def make_result(
    metrics: tuple[str, ...] = ("euclidean", "discriminant"),
    *,
    classes: tuple[str, ...] = ("a", "b"),
    n_splits: int = 4,
) -> gml.CrossValidation:
    """What `cross_validate` returns, with scores out of a hat; every split holds out three patients of a class."""
    rng = np.random.default_rng(0)
    pairs = [(metric, readout) for metric in metrics for readout in ON_DISTANCES]
    pairs += [("majority", "direct"), ("pseudobulk", "direct")] + [("lda", readout) for readout in ON_DISTANCES]
    rows, predictions = [], []
    for split in range(n_splits):
        for metric, readout in pairs:
            key = {"split": split, "metric": metric, "readout": readout}
            of_distances = rng.uniform(-0.2, 0.5) if readout != "direct" else np.nan
            names = ("balanced_accuracy", "macro_f1", "auroc")
            scores = dict(zip(names, rng.uniform(0.2, 0.9, 3), strict=True))
            rows.append(key | {"n_train": 14, "n_test": 6} | scores | {"silhouette": of_distances, "ari": np.nan})
            truth = np.repeat(classes, 3)
            predicted = np.where(rng.uniform(size=len(truth)) < 0.7, truth, classes[0])
            patients = [f"P{number}" for number in range(len(truth))]
            predictions.append(pd.DataFrame(key | {"patient": patients, "disease": truth, "predicted": predicted}))
    predicted = pd.concat(predictions, ignore_index=True)
    return gml.CrossValidation(table=pd.DataFrame(rows), predictions=predicted, params={})


def make_search(n: int = 3, *, chosen: int = 1) -> gml.Tuning:
    """What `tune` returns, as far as the plot is concerned."""
    result = make_result(("tuned", "euclidean"))
    search = pd.DataFrame(
        {
            "candidate": [
                f"discriminant: balanced=True, shrinkage={i / 10}, whitening=1.0, euclidean={i}" for i in range(n)
            ],
            "auc": np.linspace(0.6, 0.9, n),
            "gain": np.linspace(0.0, 0.3, n),
            "gain_error": np.linspace(0.0, 0.05, n),
            "chosen": np.arange(n) == chosen,
        }
    )
    return gml.Tuning(table=result.table, predictions=result.predictions, params={}, best={}, search=search)


@pytest.fixture(scope="module")
def learned() -> AnnData:
    """Metrics by four methods, in one AnnData."""
    adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=20)
    for name in ("discriminant", "euclidean"):
        gml.tl.learn_metric(adata, method=name, key_added=name)
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2), key_added="triplet")
    gml.tl.learn_metric(adata, method=Auto(n_splits=3))
    return adata


DRAWN = {
    "cross_validate": lambda ax: gml.pl.cross_validate(make_result(), ax=ax),
    "confusion_matrix": lambda ax: gml.pl.confusion_matrix(make_result(), ax=ax),
    "tune": lambda ax: gml.pl.tune(make_search(), ax=ax),
}
each_plot = pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)


def names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def means(ax: Axes) -> dict[float, float]:
    """Height and place of the dots for means."""
    found = [line for line in ax.lines if line.get_marker() not in {"None", ""}]
    return {float(line.get_ydata()[0]): float(line.get_xdata()[0]) for line in found}


def mean_colors(ax: Axes) -> list[tuple[float, ...]]:
    return [to_rgba(line.get_color()) for line in ax.lines if line.get_marker() not in {"None", ""}]


def intervals(ax: Axes) -> list[np.ndarray]:
    """Ends of the horizontal bars, each (2, 2)."""
    marks = [child for child in ax.collections if isinstance(child, LineCollection)]
    return [segment for bars in marks for segment in bars.get_segments()]


def dots(ax: Axes) -> list[np.ndarray]:
    """Places of the dots of each scatter."""
    return [child.get_offsets() for child in ax.collections if isinstance(child, PathCollection)]


def dashed(ax: Axes) -> list[float]:
    return [float(line.get_xdata()[0]) for line in ax.lines if line.get_linestyle() == "--"]


def boxes(labels: list[Text]) -> list[np.ndarray]:
    return [label.get_window_extent().get_points() for label in labels if label.get_text()]


def overlap(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((np.minimum(one[1], other[1]) - np.maximum(one[0], other[0]) > 1).all())  # more than one pixel


def check_layout(ax: Axes) -> None:
    """Labels are apart and inside the figure."""
    ax.figure.canvas.draw()
    for labels in (ax.get_yticklabels(), ax.get_xticklabels()):
        rectangles = boxes(labels)
        assert not any(
            overlap(first, second) for number, first in enumerate(rectangles) for second in rectangles[:number]
        )
    drawn, figure = ax.get_tightbbox(), ax.figure.bbox
    assert drawn.x0 >= figure.x0
    assert drawn.y0 >= figure.y0
    assert drawn.x1 <= figure.x1
    assert drawn.y1 <= figure.y1


def test_scores_are_means_with_intervals() -> None:
    result = make_result()
    ax = gml.pl.cross_validate(result)
    assert names(ax) == ["euclidean", "discriminant", "majority", "pseudobulk", "lda"]
    expected = result.summary().query("readout in ('knn', 'direct')").set_index("metric").loc[names(ax)]
    assert means(ax) == pytest.approx(dict(enumerate(expected["mean"])))
    for number, (segment, row) in enumerate(zip(intervals(ax), expected.itertuples(), strict=True)):
        np.testing.assert_allclose(segment, [[row.low, number], [row.high, number]])
    assert ax.get_xlim() == (0, 1)
    assert ax.get_ylim() == (4.5, -1)  # from above downwards
    assert ax.get_xlabel() == "balanced accuracy of held-out patients (mean, 95 % interval)"
    assert ax.get_legend() is None


def test_splits_lie_behind_at_one_height() -> None:
    result = make_result()
    table, ax = result.table, gml.pl.cross_validate(result, readout="svm", score="auroc")
    of_splits = table[table["readout"].isin(["svm", "direct"])]
    for number, (name, offsets) in enumerate(zip(names(ax), dots(ax), strict=True)):
        np.testing.assert_array_equal(offsets[:, 0], of_splits.loc[of_splits["metric"] == name, "auroc"])
        np.testing.assert_allclose(offsets[:, 1] - number, dots(ax)[0][:, 1])
        assert np.abs(offsets[:, 1] - number).max() < 0.5
        assert (np.diff(offsets[:, 1]) > 0).all()


def test_baselines_are_grey_and_below_a_line() -> None:
    result = make_result()
    table = result.table.sort_values("metric", key=lambda metric: metric != "lda", kind="stable")  # first in the table
    ax = gml.pl.cross_validate(replace(result, table=table))
    assert names(ax) == ["euclidean", "discriminant", "lda", "majority", "pseudobulk"]
    assert mean_colors(ax) == [BLUE, BLUE, GREY, GREY, GREY]
    assert [label.get_color() for label in ax.get_yticklabels()] == ["black"] * 2 + ["0.4"] * 3
    (line,) = [line for line in ax.lines if list(line.get_xdata()) == [0, 1]]
    assert list(line.get_ydata()) == [1.5, 1.5]


@pytest.mark.parametrize("kept", ["metrics", "baselines"])
def test_no_line_without_two_sides(kept: str) -> None:
    result = make_result()
    of_metrics = result.table["metric"].isin(["euclidean", "discriminant"])
    ax = gml.pl.cross_validate(replace(result, table=result.table[of_metrics if kept == "metrics" else ~of_metrics]))
    assert not [line for line in ax.lines if list(line.get_xdata()) == [0, 1]]


def test_all_readouts_have_marks_and_a_legend() -> None:
    result = make_result()
    ax = gml.pl.cross_validate(result, readout=None)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*ON_DISTANCES, "direct"]
    assert ax.get_legend().get_title().get_text() == "readout"
    expected = result.summary().set_index(["metric", "readout"])["mean"]
    drawn = means(ax)
    assert len(drawn) == len(expected)
    for number, name in enumerate(names(ax)):
        of_metric = [x for y, x in drawn.items() if abs(y - number) < 0.5]
        assert of_metric == pytest.approx(expected[name].tolist())
    assert drawn[2] == pytest.approx(expected["majority", "direct"])  # a single mark is in the middle
    assert len(set(mean_colors(ax)[:4])) == 4
    assert mean_colors(ax)[4:8] == mean_colors(ax)[:4]
    assert set(mean_colors(ax)[8:]) == {GREY}
    handles = ax.get_legend().legend_handles
    assert [to_rgba(handle.get_color()) for handle in handles] == [*mean_colors(ax)[:4], GREY]
    assert len({handle.get_marker() for handle in handles[:4]}) == 4
    check_layout(ax)
    assert ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1


@pytest.mark.parametrize(
    ("score", "classes", "chance"),
    [
        ("balanced_accuracy", "ab", [0.5]),
        ("balanced_accuracy", "abcd", [0.25]),
        ("auroc", "abcd", [0.5]),
        ("macro_f1", "ab", []),
        ("silhouette", "ab", []),
    ],
)
def test_chance(score: str, classes: str, chance: list[float]) -> None:
    ax = gml.pl.cross_validate(make_result(classes=tuple(classes)), score=score)
    assert dashed(ax) == chance
    assert [text.get_text() for text in ax.texts] == ["chance"] * len(chance)


def test_metrics_without_the_score_are_left_out() -> None:
    ax = gml.pl.cross_validate(make_result(), score="silhouette")
    assert names(ax) == ["euclidean", "discriminant", "lda"]
    assert ax.get_xlabel() == "silhouette of held-out patients (mean, 95 % interval)"
    assert ax.get_xlim()[0] < 0


def test_one_split_has_no_interval() -> None:
    ax = gml.pl.cross_validate(make_result(n_splits=1))
    ax.figure.canvas.draw()
    assert len(means(ax)) == 5
    assert not any(segment.size for segment in intervals(ax))


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("auto", "auto"),
        (repr(LONG), "Discriminant(shrinkage=0.3,\nwhitening=1.0)"),
        (r"$\x$", r"$\x$"),
    ],
)
def test_long_names_are_wrapped(metric: str, name: str) -> None:
    ax = gml.pl.cross_validate(make_result((metric,)))
    assert names(ax)[0] == name
    ax.figure.canvas.draw()


@pytest.mark.slow
@pytest.mark.parametrize("readout", ["knn", None])
def test_many_metrics_with_long_names(readout: str | None) -> None:
    settings = [Discriminant(shrinkage=i / 10, whitening=1.0, euclidean=2.0, balanced=True) for i in range(10)]
    longest = Discriminant(shrinkage=0.25, rounds=3, directions=0.125, whitening=0.25, euclidean=0.5, target="ordered")
    ax = gml.pl.cross_validate(make_result((*map(repr, settings), repr(longest), "x" * 200)), readout=readout)
    labels = names(ax)
    assert len(set(labels)) == len(labels) == 15
    assert max(len(line) for name in labels for line in name.split("\n")) <= 34
    assert "…" in labels[11]
    assert all(label.get_fontsize() == 9 for label in ax.get_yticklabels())
    check_layout(ax)


@pytest.mark.parametrize("draw", [gml.pl.cross_validate, gml.pl.tune])
def test_names_shrink_in_small_axes(draw: Callable[..., Axes]) -> None:
    result = (
        make_search(12)
        if draw is gml.pl.tune
        else make_result(tuple(repr(Discriminant(shrinkage=i / 9)) for i in range(9)))
    )
    ax = draw(result, ax=plt.figure(figsize=(8, 3)).add_axes((0.4, 0.2, 0.5, 0.7)))
    rectangles = boxes(ax.get_yticklabels())
    assert not any(overlap(first, second) for first, second in pairwise(rectangles))


@pytest.mark.parametrize("readout", ["knn", "energy"])
def test_confusion_of_all_splits(readout: str) -> None:
    result = make_result(classes=("b", "a", "c"))
    ax = gml.pl.confusion_matrix(result, metric="discriminant", readout=readout)
    rows = result.predictions.query("metric == 'discriminant' and readout == @readout")
    counts = pd.crosstab(rows["disease"], rows["predicted"]).reindex(
        index=list("abc"), columns=list("abc"), fill_value=0
    )
    counts = counts.to_numpy()
    shares = counts / 12  # three patients of a disease in each of four splits
    np.testing.assert_allclose(ax.images[0].get_array(), shares)
    assert ax.images[0].get_clim() == (0, 1)
    assert ax.images[0].get_cmap().name == "Blues"
    assert names(ax) == [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted disease", "true disease")
    assert ax.get_title() == f"discriminant, {readout}"
    texts = {(text.get_position()[1], text.get_position()[0]): text for text in ax.texts}
    for (row, column), count in np.ndenumerate(counts):
        large, small = texts[row, column], texts[row + 0.08, column]
        assert (large.get_text(), small.get_text()) == (f"{shares[row, column]:.2f}", str(count))
        assert small.get_fontsize() < large.get_fontsize()
        assert (large.get_color() == "white") == (shares[row, column] > 0.55)
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "share of the true disease"


def test_confusion_in_numbers() -> None:
    ax = gml.pl.confusion_matrix(make_result(), metric="majority", normalize=False)
    counts = ax.images[0].get_array()
    assert counts.sum() == 24
    assert ax.images[0].get_clim() == (0, counts.max())
    assert [text.get_text() for text in ax.texts] == [str(count) for count in counts.ravel()]
    assert ax.child_axes[0].get_ylabel() == "predictions"


def test_confusion_of_the_first_metric_and_of_settings() -> None:
    result = make_result((repr(LONG), "euclidean"))
    first, given = gml.pl.confusion_matrix(result), gml.pl.confusion_matrix(result, metric=LONG)
    np.testing.assert_array_equal(first.images[0].get_array(), given.images[0].get_array())
    assert first.get_title() == given.get_title() == "Discriminant(shrinkage=0.3,\nwhitening=1.0), knn"


@pytest.mark.parametrize(("metric", "title"), [("majority", "majority"), ("lda", "lda, svm")])
def test_confusion_of_baselines(metric: str, title: str) -> None:
    assert gml.pl.confusion_matrix(make_result(), metric=metric, readout="svm").get_title() == title


def test_disease_that_is_only_predicted_has_an_empty_row() -> None:
    result = make_result()
    result.predictions.loc[result.predictions["split"] == 0, "predicted"] = "c"
    ax = gml.pl.confusion_matrix(result)
    assert names(ax) == ["a", "b", "c"]
    shares = ax.images[0].get_array()
    np.testing.assert_allclose(shares.sum(axis=1), [1, 1, 0])
    np.testing.assert_allclose(shares[:2, 2], 0.25)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 12, 40])
@pytest.mark.parametrize("normalize", [True, False])
def test_confusion_of_any_number_of_diseases(n: int, normalize: bool) -> None:
    classes = tuple(f"$disease$ {number:02d} with a rather long name, untreated" for number in range(n))
    ax = gml.pl.confusion_matrix(make_result(classes=classes, n_splits=1), normalize=normalize)
    assert ax.images[0].get_array().shape == (n, n)
    assert len(ax.texts) == n * n * (1 + normalize) * (n <= 12)
    check_layout(ax)
    cell = ax.get_window_extent().width / n
    assert all(text.get_window_extent().width <= cell for text in ax.texts)


@pytest.mark.parametrize("source", ["result", "cells"])
def test_search(source: str, learned: AnnData) -> None:
    result = make_search()
    search = result.search if source == "result" else gml.get.metric(learned).choice
    ax = gml.pl.tune(result if source == "result" else learned)
    auc, error = search["auc"].to_numpy(), search["gain_error"].to_numpy()
    rows = np.arange(len(search))
    (offsets,) = dots(ax)
    np.testing.assert_allclose(offsets, np.column_stack([auc, rows]))
    for row, segment in enumerate(intervals(ax)):
        np.testing.assert_allclose(segment, [[auc[row] - error[row], row], [auc[row] + error[row], row]])
    assert [name.replace("\n", " ") for name in names(ax)] == search["candidate"].tolist()
    colors = [to_rgba(color) for color in ax.collections[-1].get_facecolors()]
    assert colors == [BLUE if chosen else GREY for chosen in search["chosen"]]
    assert dashed(ax) == [0.5]
    assert ax.get_xlabel() == "AUC of held-out patients within training"
    assert ax.get_title() == ""
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "-"] == [auc[0]]


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 12, 40])
def test_any_number_of_candidates(n: int) -> None:
    ax = gml.pl.tune(make_search(n, chosen=n - 1))
    assert len(names(ax)) == n
    check_layout(ax)


@pytest.mark.slow
def test_choice_survives_a_file(learned: AnnData, tmp_path: object) -> None:
    path = f"{tmp_path}/cells.h5ad"
    learned.copy().write_h5ad(path)
    np.testing.assert_allclose(dots(gml.pl.tune(ad.read_h5ad(path)))[0], dots(gml.pl.tune(learned))[0])


@pytest.mark.slow
def test_tune_result_is_drawn() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=18, n_cells=20)
    grid = {"method": ["discriminant"], "shrinkage": [0.1, 0.5]}
    result = gml.tl.tune(adata, grid=grid, splits=2, n_inner_splits=2)
    assert names(gml.pl.tune(result)) == ["Discriminant(shrinkage=0.1)", "Discriminant()"]
    assert names(gml.pl.cross_validate(result))[:2] == ["tuned", "euclidean"]
    assert gml.pl.confusion_matrix(result).get_title() == "tuned, knn"


def with_spectrum(learned: AnnData, spectrum: np.ndarray) -> AnnData:
    adata = learned.copy()
    adata.uns["discriminant"]["spectrum"] = spectrum
    return adata


def bars(ax: Axes) -> list[tuple[float, float, str]]:
    """Rank, height and colour."""
    return [(bar.get_x() + bar.get_width() / 2, bar.get_height(), to_hex(bar.get_facecolor())) for bar in ax.patches]


def test_spectrum_colors_what_can_be_a_direction(learned: AnnData) -> None:
    ax = gml.pl.spectrum(with_spectrum(learned, np.array([2.0, 0.5, 1e-12, -0.5])), metric="discriminant")
    ranks, heights, colors = zip(*bars(ax), strict=True)
    assert ranks == pytest.approx([1, 2, 3, 4])
    assert heights == pytest.approx([2.0, 0.5, 0.0, -0.5])
    blue, grey = "#0072b2", to_hex("0.7")
    assert colors == (blue, blue, grey, grey)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("direction", "excess between diseases, μ")
    assert [list(line.get_ydata()) for line in ax.lines] == [[0, 0]]


@pytest.mark.parametrize("n", [1, 2, 12, 30, 31, 500])
def test_any_number_of_directions(learned: AnnData, n: int) -> None:
    ax = gml.pl.spectrum(with_spectrum(learned, np.linspace(1, -1, n)), metric="discriminant")
    assert len(ax.patches) == min(n, 30)
    assert ax.get_xlabel() == ("direction" if n <= 30 else f"direction (first 30 of {n})")
    check_layout(ax)
    low, high = ax.get_xlim()
    assert all(tick == round(tick) for tick in ax.get_xticks() if low <= tick <= high)


@pytest.mark.parametrize("key", ["euclidean", "triplet"])
def test_without_eigenvalues_lengths_are_drawn(learned: AnnData, key: str) -> None:
    ax = gml.pl.spectrum(learned, metric=key)
    components = gml.get.metric(learned, key=key).components
    assert [height for _, height, _ in bars(ax)] == pytest.approx((components**2).sum(axis=1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("component", "squared length of the component")


@each_plot
def test_given_axes_are_used(draw: Callable[[Axes | None], Axes]) -> None:
    figure, ax = plt.subplots()
    size = figure.get_size_inches().copy()
    assert draw(ax) is ax
    assert plt.get_fignums() == [figure.number]
    assert figure.axes == [ax]
    np.testing.assert_array_equal(figure.get_size_inches(), size)


def test_given_axes_are_used_for_cells(learned: AnnData) -> None:
    _, (left, right) = plt.subplots(1, 2)
    assert gml.pl.spectrum(learned, metric="discriminant", ax=left) is left
    assert gml.pl.tune(learned, ax=right) is right
    assert len(plt.get_fignums()) == 1


@each_plot
def test_new_figure_has_a_layout(draw: Callable[[Axes | None], Axes]) -> None:
    figure = draw(None).figure
    assert plt.get_fignums() == [figure.number]
    assert figure.get_constrained_layout()


@pytest.mark.parametrize("draw", [gml.pl.cross_validate, gml.pl.confusion_matrix, gml.pl.tune])
def test_result_is_left_alone(draw: Callable[..., Axes]) -> None:
    result, before = make_search(), make_search()
    draw(result)
    for name in ("table", "predictions", "search"):
        pd.testing.assert_frame_equal(getattr(result, name), getattr(before, name))


def test_cells_are_left_alone(learned: AnnData) -> None:
    before = learned.copy()
    gml.pl.tune(learned)
    gml.pl.spectrum(learned, metric="discriminant")
    pd.testing.assert_frame_equal(learned.uns["gml"]["choice"], before.uns["gml"]["choice"])
    np.testing.assert_array_equal(learned.uns["discriminant"]["spectrum"], before.uns["discriminant"]["spectrum"])
    assert list(learned.uns) == list(before.uns)
    assert list(learned.obsm) == list(before.obsm)


def test_score_that_is_missing_everywhere() -> None:
    with pytest.raises(ValueError, match="`result` has no 'ari' to draw: it is missing"):
        gml.pl.cross_validate(make_result(), score="ari")
    assert not plt.get_fignums()


@pytest.mark.parametrize("score", ["accuracy", "batch_accuracy"])
def test_unknown_score(score: str) -> None:
    with pytest.raises(ValueError, match=rf"`score` must be one of 'balanced_accuracy', .*got '{score}'"):
        gml.pl.cross_validate(make_result(), score=score)


@pytest.mark.parametrize("draw", [gml.pl.cross_validate, gml.pl.confusion_matrix])
def test_unknown_readout(draw: Callable[..., Axes]) -> None:
    with pytest.raises(ValueError, match=r"`readout` must be one of 'knn', 'energy', 'svm', 'logistic'.*, got 'tree'"):
        draw(make_result(), readout="tree")
    assert not plt.get_fignums()


def test_unknown_metric() -> None:
    with pytest.raises(
        ValueError, match=r"`metric` must be one of 'euclidean', 'discriminant', 'majority',.* got 'cosine'"
    ):
        gml.pl.confusion_matrix(make_result(), metric="cosine")
    with pytest.raises(ValueError, match=r"got 'Discriminant\(shrinkage=0\.3"):
        gml.pl.confusion_matrix(make_result(), metric=LONG)
    assert not plt.get_fignums()


def test_normalize_is_a_choice() -> None:
    with pytest.raises(TypeError, match="`normalize` must be one of True, False, got None"):
        gml.pl.confusion_matrix(make_result(), normalize=None)


def test_result_without_a_search() -> None:
    with pytest.raises(ValueError, match="no search to draw: too few patients"):
        gml.pl.tune(replace(make_search(), search=None))


@pytest.mark.parametrize("key", ["discriminant", "triplet"])
def test_metric_that_was_not_chosen(learned: AnnData, key: str) -> None:
    with pytest.raises(ValueError, match=rf"adata\.uns\['{key}'\] was not chosen by method='auto'"):
        gml.pl.tune(learned, metric=key)


@pytest.mark.parametrize("draw", [gml.pl.tune, gml.pl.spectrum])
def test_missing_metric(draw: Callable[..., Axes], learned: AnnData) -> None:
    with pytest.raises(KeyError, match=r"no 'other'; it holds .*gml\.tl\.learn_metric"):
        draw(learned, metric="other")


def test_wrong_types(learned: AnnData) -> None:
    for draw in (gml.pl.cross_validate, gml.pl.confusion_matrix):
        for data in (learned, make_result().table):
            message = (
                rf"`result` must be what gml\.tl\.cross_validate .* not its table alone, got {type(data).__name__}"
            )
            with pytest.raises(TypeError, match=message):
                draw(data)
    for data in ([], make_result(), make_search().search):
        with pytest.raises(TypeError, match=r"`data` must be an AnnData or what gml\.tl\.tune returned, got "):
            gml.pl.tune(data)
    with pytest.raises(TypeError, match="`adata` must be an AnnData, got CrossValidation"):
        gml.pl.spectrum(make_result())
    for draw in (gml.pl.cross_validate, gml.pl.confusion_matrix, gml.pl.tune):
        with pytest.raises(TypeError, match="`ax` must be one matplotlib Axes or None, got ndarray"):
            draw(make_search(), ax=plt.subplots(1, 2)[1])
    with pytest.raises(TypeError, match="`ax` must be one matplotlib Axes or None, got str"):
        gml.pl.spectrum(learned, ax="left")
