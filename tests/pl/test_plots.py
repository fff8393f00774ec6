from collections.abc import Callable, Iterator
from itertools import combinations, pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from matplotlib.legend import Legend
from scipy.spatial.distance import cdist

import gml

FIRST, SECOND, THIRD = "#1F77B4", "#FF7F0E", "#2CA02C"  # colours of classes: those of scanpy
PLOTS = [gml.pl.patient_heatmap, gml.pl.patient_embedding, gml.pl.loss]


@pytest.fixture(autouse=True)
def canvas() -> Iterator[None]:
    """Draw into memory, and leave nothing open or changed."""
    plt.switch_backend("Agg")
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def make_patients(n: int, *, n_diseases: int = 2) -> AnnData:
    """Patients on a plane, one block per disease, diseases taking turns."""
    rng = np.random.default_rng(0)
    disease = np.arange(n) % n_diseases
    points = rng.standard_normal((n, 2)) + np.column_stack([20.0 * disease, np.zeros(n)])
    obs = pd.DataFrame(
        {
            "n_cells": rng.integers(30, 500, n),
            "disease": pd.Categorical.from_codes(disease, list("abcdefgh")[:n_diseases]),
            "sex": rng.permutation(["f", "m"] * n)[:n],
            "treated": np.arange(n) < n / 2,
            "noise_floor": rng.uniform(size=n),
        },
        index=[f"P{i:03d}" for i in range(n)],
    )
    genes = pd.DataFrame(index=["CD3E", "CD19"])
    patients = AnnData(rng.standard_normal((n, 2)).astype(np.float32), obs=obs, var=genes)
    distances = cdist(points, points)
    patients.obsp["gml_distances"] = distances
    patients.obsm["X_gml_mds"] = points - points.mean(axis=0)
    params = {"disease_key": "disease", "power": 1, "metric": "gml", "metric_params": {"method": "triplet"}}
    patients.uns["gml"] = {"params": params, "loss": np.array([3.0, 1.0, 2.0])}
    return patients


@pytest.fixture
def patients() -> AnnData:
    return make_patients(12)


def legends(ax: Axes) -> dict[str, list[str]]:
    drawn = [child for child in ax.get_children() if isinstance(child, Legend)]
    return {legend.get_title().get_text(): [text.get_text() for text in legend.get_texts()] for legend in drawn}


def strips(ax: Axes) -> dict[str, np.ndarray]:
    """Colours (p, 4) of the strips by name."""
    drawn = [child for child in ax.child_axes if child.images]
    return {strip.get_xticklabels()[0].get_text(): strip.images[0].get_array()[:, 0] for strip in drawn}


def names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_heatmap_puts_blocks_together(patients: AnnData) -> None:
    ax = gml.pl.patient_heatmap(patients)
    order = names(ax)
    assert sorted(order) == list(patients.obs_names)
    assert [label.get_text() for label in ax.get_xticklabels()] == order
    diseases = patients.obs.loc[order, "disease"].tolist()
    assert sum(first != second for first, second in pairwise(diseases)) == 1
    expected = patients[order].obsp["gml_distances"]
    np.testing.assert_array_equal(ax.images[0].get_array(), expected)
    assert ax.images[0].get_clim() == (0, expected.max())


def test_heatmap_has_strip_legend_and_color_bar(patients: AnnData) -> None:
    ax = gml.pl.patient_heatmap(patients)
    assert legends(ax) == {"disease": ["a", "b"]}
    expected = [to_rgba(FIRST if disease == "a" else SECOND) for disease in patients[names(ax)].obs["disease"]]
    np.testing.assert_allclose(strips(ax)["disease"], expected)
    assert "OT distance" in [child.get_ylabel() for child in ax.child_axes]


@pytest.mark.slow
def test_heatmap_draws_the_tree(patients: AnnData) -> None:
    """Two far blocks: the last bracket of the tree spans them at their mean distance."""
    ax = gml.pl.patient_heatmap(patients)
    segments = np.array(ax.child_axes[0].collections[0].get_segments())  # (p - 1, 4, 2)
    assert len(segments) == 11
    is_a = (patients.obs["disease"] == "a").to_numpy()
    between = patients.obsp["gml_distances"][np.ix_(is_a, ~is_a)].mean()
    np.testing.assert_allclose(segments[-1, 1:3, 1], between)
    assert segments[..., 0].min() == 0
    assert segments[..., 0].max() == 11
    pairs = segments[(segments[:, [0, 3], 1] == 0).all(axis=1)]
    np.testing.assert_array_equal(np.abs(pairs[:, 3, 0] - pairs[:, 0, 0]), 1)  # leaves that merge are neighbours


@pytest.mark.slow
def test_several_strips(patients: AnnData) -> None:
    patients.obs.loc["P003", "noise_floor"] = np.nan
    ax = gml.pl.patient_heatmap(patients, color=["disease", "sex", "treated", "noise_floor", "CD19"])
    assert list(strips(ax)) == ["disease", "sex", "treated", "noise_floor", "CD19"]
    assert legends(ax) == {"disease": ["a", "b"], "sex": ["f", "m"], "treated": ["False", "True"]}
    grey = strips(ax)["noise_floor"][names(ax).index("P003")]
    np.testing.assert_allclose(grey, to_rgba("lightgrey"))
    assert len(np.unique(strips(ax)["CD19"], axis=0)) == 12


@pytest.mark.slow
def test_strips_of_numbers_have_color_bars(patients: AnnData) -> None:
    ax = gml.pl.patient_heatmap(patients, color=["noise_floor", "disease", "CD19"])
    bars = {child.get_ylabel(): child.get_ylim() for child in ax.child_axes if child.get_ylabel()}
    assert list(bars) == ["OT distance", "noise_floor", "CD19"]
    assert bars["noise_floor"] == pytest.approx((patients.obs["noise_floor"].min(), patients.obs["noise_floor"].max()))


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 12, 60])
def test_legends_and_bars_lie_apart(n: int) -> None:
    """Where the heatmap ends, they go on in a new column."""
    patients = make_patients(n)
    patients.obs["site"] = [f"a site with a name that is long {i % 12}" for i in range(n)]
    patients.obs["reads"] = 1e7 * patients.obs["noise_floor"]
    patients.obs["score of the clinicians at the first visit"] = patients.obs["noise_floor"]
    color = ["disease", "reads", "site", "sex", "n_cells", "treated", "CD19", patients.obs.columns[-1]]
    ax = gml.pl.patient_heatmap(patients, color=color)
    ax.figure.canvas.draw()
    legends_drawn = [child for child in ax.get_children() if isinstance(child, Legend)]
    legends_drawn += [child for child in ax.child_axes if child.get_ylabel()]
    boxes = [child.get_tightbbox() for child in legends_drawn]
    assert len(boxes) == 9
    for first, second in combinations(boxes, 2):
        assert first.x1 <= second.x0 or second.x1 <= first.x0 or first.y1 <= second.y0 or second.y1 <= first.y0
    lowest = min(box.y0 for box in boxes)
    assert ax.figure.bbox.y0 <= lowest
    assert max(box.x1 for box in boxes) <= ax.figure.bbox.x1


@pytest.mark.slow
def test_legends_stand_below_each_other(patients: AnnData) -> None:
    patients.obs["treated"] = np.where(patients.obs["treated"], "treated in hospital", "not")
    ax = gml.pl.patient_heatmap(patients, color=["treated", "disease", "sex"])
    ax.figure.draw_without_rendering()
    legends_by_title = {child.get_title().get_text(): child for child in ax.get_children() if isinstance(child, Legend)}
    boxes = [legends_by_title[name].get_window_extent() for name in ("treated", "disease", "sex")]
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))
    assert ax.get_tightbbox().x1 >= boxes[0].x1  # the layout leaves room for all of them


@pytest.mark.slow
@pytest.mark.parametrize("color", [None, (), "sex", ["sex"]])
def test_heatmap_without_a_disease(patients: AnnData, color: str | list[str] | None) -> None:
    patients.uns["gml"]["params"]["disease_key"] = None
    ax = gml.pl.patient_heatmap(patients, color=color)
    assert list(strips(ax)) == (["sex"] if color else [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "labels", "shown"), [(40, None, True), (41, None, False), (41, True, True), (3, False, False)]
)
def test_names_where_there_is_room(n: int, labels: bool | None, shown: bool) -> None:
    ax = gml.pl.patient_heatmap(make_patients(n), labels=labels)
    assert len(names(ax)) == (n if shown else 0)
    assert ax.get_xlabel() == ("" if shown else f"{n} patients")


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 500])
@pytest.mark.parametrize("draw", [gml.pl.patient_heatmap, gml.pl.patient_embedding])
def test_any_number_of_patients(draw: Callable[..., Axes], n: int) -> None:
    ax = draw(make_patients(n))
    ax.figure.canvas.draw()
    if draw is gml.pl.patient_heatmap:
        np.testing.assert_array_equal(np.sort(ax.images[0].get_array(), axis=None)[:n], 0)
        assert ax.images[0].get_array().shape == (n, n)
    else:
        assert len(ax.collections[0].get_offsets()) == n


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 2.0])
def test_all_patients_equally_far(patients: AnnData, value: float) -> None:
    patients.obsp["gml_distances"] = value * (1 - np.eye(12))
    gml.pl.patient_heatmap(patients).figure.canvas.draw()


@pytest.mark.slow
@pytest.mark.parametrize("draw", [gml.pl.patient_heatmap, gml.pl.patient_embedding])
def test_nothing_is_cut_off(draw: Callable[..., Axes]) -> None:
    patients = make_patients(30, n_diseases=3)
    patients.obs["disease"] = patients.obs["disease"].cat.rename_categories(
        ["acute myeloid leukaemia with myelodysplasia-related changes", "healthy", "untreated_before_sampling" * 3]
    )
    patients.obs_names = [f"site_2_donor_{name}_first_visit" for name in patients.obs_names]
    ax = draw(patients, labels=True)
    ax.figure.canvas.draw()
    drawn, figure = ax.get_tightbbox(), ax.figure.bbox
    assert drawn.x0 >= figure.x0
    assert drawn.y0 >= figure.y0
    assert drawn.x1 <= figure.x1
    assert drawn.y1 <= figure.y1


def test_embedding_shows_the_first_two_columns(patients: AnnData) -> None:
    patients.obsm["X_gml_mds"] = np.column_stack([patients.obsm["X_gml_mds"], np.ones(12)])
    ax = gml.pl.patient_embedding(patients)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), patients.obsm["X_gml_mds"][:, :2])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("MDS 1", "MDS 2")
    assert ax.get_aspect() == 1
    assert legends(ax) == {"disease": ["a", "b"]}
    assert not ax.texts


def test_embedding_of_umap(patients: AnnData) -> None:
    patients.obsm["X_umap"] = np.random.default_rng(0).standard_normal((12, 2))
    ax = gml.pl.patient_embedding(patients, basis="umap")
    np.testing.assert_allclose(ax.collections[0].get_offsets(), patients.obsm["X_umap"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("UMAP 1", "UMAP 2")
    assert list(ax.get_xticks()) == list(ax.get_yticks()) == []


@pytest.mark.parametrize("color", ["n_cells", "noise_floor", "CD3E"])
def test_numbers_get_a_color_bar(patients: AnnData, color: str) -> None:
    ax = gml.pl.patient_embedding(patients, color=color)
    assert legends(ax) == {}
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == color
    values = (patients.obs[color] if color in patients.obs else patients.to_df()[color]).to_numpy()
    assert bar.get_ylim() == pytest.approx((values.min(), values.max()))
    colors = ax.collections[0].get_facecolors()
    scale = mpl.colormaps["plasma"]
    np.testing.assert_allclose(colors[[values.argmin(), values.argmax()]], [scale(0.0), scale(1.0)])


@pytest.mark.parametrize("values", [np.full(12, np.nan), np.full(12, 3.0), np.array([np.inf, *range(11)])])
def test_numbers_without_a_range(patients: AnnData, values: np.ndarray) -> None:
    patients.obs["age"] = values
    ax = gml.pl.patient_embedding(patients, color="age")
    ax.figure.canvas.draw()
    grey = (ax.collections[0].get_facecolors() == to_rgba("lightgrey")).all(axis=1)
    np.testing.assert_array_equal(grey, ~np.isfinite(values))


@pytest.mark.xfail(
    tuple(map(int, mpl.__version__.split(".")[:2])) < (3, 11),
    reason="before matplotlib 3.11, long names beside crowded points can hang over the edge by some pixels",
    strict=False,
)
def test_names_of_points_stay_inside(patients: AnnData) -> None:
    patients.obs_names = [f"{name}_second_visit" for name in patients.obs_names]
    ax = gml.pl.patient_embedding(patients, labels=True)
    assert [text.get_text() for text in ax.texts] == list(patients.obs_names)
    ax.figure.canvas.draw()
    frame = ax.get_window_extent().padded(1)
    for text in ax.texts:
        box = text.get_window_extent()
        assert frame.contains(box.x0, box.y0)
        assert frame.contains(box.x1, box.y1)


def test_shared_axes_keep_their_aspect(patients: AnnData) -> None:
    figure, axes = plt.subplots(1, 2, sharex=True, sharey=True)
    for ax in axes:
        gml.pl.patient_embedding(patients, ax=ax)
    figure.canvas.draw()


def colors_of(ax: Axes, patients: AnnData, column: str) -> dict[str, str]:
    colors = [to_hex(color).upper() for color in ax.collections[0].get_facecolors()]
    return dict(zip(patients.obs[column].astype(str), colors, strict=True))


def test_colors_in_uns_are_used(patients: AnnData) -> None:
    patients.uns["disease_colors"] = ["#112233", "#AABBCC"]
    ax = gml.pl.patient_embedding(patients)
    assert colors_of(ax, patients, "disease") == {"a": "#112233", "b": "#AABBCC"}
    marks = [to_hex(mark.get_color()).upper() for mark in ax.get_legend().legend_handles]
    assert marks == ["#112233", "#AABBCC"]


def test_colors_in_uns_of_another_length_are_not(patients: AnnData) -> None:
    patients.uns["disease_colors"] = ["#112233"]
    ax = gml.pl.patient_embedding(patients)
    assert colors_of(ax, patients, "disease") == {"a": FIRST, "b": SECOND}


def test_more_colors_in_uns_than_classes_are_used(patients: AnnData) -> None:
    patients.uns["disease_colors"] = np.array(["#112233", "#AABBCC", "#000000"])
    assert colors_of(gml.pl.patient_embedding(patients), patients, "disease") == {"a": "#112233", "b": "#AABBCC"}


def test_colors_in_uns_that_are_none_are_not_used(patients: AnnData) -> None:
    patients.uns["disease_colors"] = ["#112233", "no colour"]
    assert colors_of(gml.pl.patient_embedding(patients), patients, "disease") == {"a": FIRST, "b": SECOND}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The set_bad function:PendingDeprecationWarning")  # scanpy calls it
@pytest.mark.parametrize("n_classes", [3, 10, 11, 20, 21, 28, 29, 60])
def test_colors_are_those_that_scanpy_stores(n_classes: int) -> None:
    """The same before and after a plot of scanpy."""
    patients = make_patients(60)
    patients.obs["site"] = pd.Categorical([f"site {i % n_classes:02d}" for i in range(60)])
    before = gml.pl.patient_embedding(patients, color="site")
    sc.pl.embedding(patients, basis="X_gml_mds", color="site", show=False)
    stored = [to_hex(color).upper() for color in patients.uns["site_colors"]]
    assert colors_of(before, patients, "site") == dict(zip(patients.obs["site"].cat.categories, stored, strict=True))
    np.testing.assert_array_equal(
        before.collections[0].get_facecolors(),
        gml.pl.patient_embedding(patients, color="site").collections[0].get_facecolors(),
    )


def test_classes_that_do_not_occur_keep_their_color(patients: AnnData) -> None:
    patients.obs["stage"] = pd.Categorical(["III", "I"] * 6, categories=["I", "II", "III"])
    ax = gml.pl.patient_embedding(patients, color="stage")
    assert colors_of(ax, patients, "stage") == {"I": FIRST, "III": THIRD}
    assert legends(ax) == {"stage": ["I", "III"]}


def test_missing_classes_are_grey(patients: AnnData) -> None:
    patients.obs["stage"] = ["I", None, "_II"] * 4
    ax = gml.pl.patient_embedding(patients, color="stage")
    assert legends(ax) == {"stage": ["I", "_II", "missing"]}
    assert to_hex(ax.collections[0].get_facecolors()[1]) == to_hex("lightgrey")


@pytest.mark.parametrize("n_classes", [8, 9, 20, 21, 40])
def test_classes_are_told_apart(n_classes: int) -> None:
    patients = make_patients(40)
    patients.obs["site"] = [f"site {i % n_classes}" for i in range(40)]
    ax = gml.pl.patient_embedding(patients, color="site")
    assert len(set(colors_of(ax, patients, "site").values())) == n_classes
    assert len(legends(ax)["site"]) == n_classes


def test_too_many_classes_have_no_legend() -> None:
    patients = make_patients(41)
    patients.obs["donor"] = patients.obs_names
    assert legends(gml.pl.patient_heatmap(patients, color="donor")) == {}


def test_diseases_named_by_numbers_are_classes(patients: AnnData) -> None:
    patients.obs["disease"] = [0, 1] * 6
    assert legends(gml.pl.patient_embedding(patients)) == {"disease": ["0", "1"]}


@pytest.mark.slow
def test_dollars_are_no_mathematics(patients: AnnData) -> None:
    patients.obs_names = [rf"$\x{i}$" for i in range(12)]
    patients.obs["disease"] = patients.obs["disease"].cat.rename_categories([r"$\a$", r"$\b$"])
    for draw in (gml.pl.patient_heatmap, gml.pl.patient_embedding):
        ax = draw(patients, labels=True)
        ax.figure.canvas.draw()
        assert legends(ax) == {"disease": [r"$\a$", r"$\b$"]}


def test_loss_marks_the_lowest_pass(patients: AnnData) -> None:
    ax = gml.pl.loss(patients)
    line, mark = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(line.get_ydata(), [3.0, 1.0, 2.0])
    assert (mark.get_xdata().item(), mark.get_ydata().item()) == (2, 1.0)
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [1, 2, 3]


@pytest.mark.parametrize(
    ("params", "meaning"),
    [
        ({"method": "triplet"}, "triplet loss"),
        ({"method": "discriminant"}, "within / between"),
        ({"metric": "gml", "metric_params": {"method": "discriminant"}}, "within / between"),
        ({}, "loss"),
    ],
)
def test_loss_says_what_it_is(patients: AnnData, params: dict[str, object], meaning: str) -> None:
    patients.uns["gml"]["params"] = params
    assert gml.pl.loss(patients).get_ylabel() == meaning


def test_loss_of_one_pass(patients: AnnData) -> None:
    patients.uns["gml"]["loss"] = np.array([0.4])
    ax = gml.pl.loss(patients)
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [1]
    assert ax.lines[0].get_marker() == "o"


@pytest.mark.parametrize("draw", PLOTS)
def test_given_axes_are_used(patients: AnnData, draw: Callable[..., Axes]) -> None:
    figure, ax = plt.subplots()
    size = figure.get_size_inches().copy()
    assert draw(patients, ax=ax) is ax
    assert plt.get_fignums() == [figure.number]
    assert figure.axes == [ax]
    np.testing.assert_array_equal(figure.get_size_inches(), size)


@pytest.mark.parametrize("draw", PLOTS)
def test_new_figure_has_a_layout(patients: AnnData, draw: Callable[..., Axes]) -> None:
    figure = draw(patients).figure
    assert plt.get_fignums() == [figure.number]
    assert figure.get_constrained_layout()


@pytest.mark.parametrize("draw", PLOTS)
def test_input_is_left_alone(patients: AnnData, draw: Callable[..., Axes]) -> None:
    patients.obs["sex"] = patients.obs["sex"].astype(object)
    before = patients.copy()
    draw(patients) if draw is gml.pl.loss else draw(patients, color="sex", labels=True)
    pd.testing.assert_frame_equal(patients.obs, before.obs)
    pd.testing.assert_frame_equal(patients.var, before.var)
    np.testing.assert_array_equal(patients.X, before.X)
    np.testing.assert_array_equal(patients.obsp["gml_distances"], before.obsp["gml_distances"])
    np.testing.assert_array_equal(patients.obsm["X_gml_mds"], before.obsm["X_gml_mds"])
    assert list(patients.uns) == list(before.uns)
    assert list(patients.obsm) == list(before.obsm)
    assert list(patients.obsp) == list(before.obsp)


@pytest.mark.parametrize("draw", PLOTS)
def test_a_view_is_drawn_and_stays_one(patients: AnnData, draw: Callable[..., Axes]) -> None:
    view = patients[["P004", "P001", "P000"]]
    draw(view)
    assert view.is_view


@pytest.mark.parametrize("draw", PLOTS)
def test_other_name(patients: AnnData, draw: Callable[..., Axes]) -> None:
    patients.uns["other"] = patients.uns.pop("gml")
    patients.obsp["other_distances"] = patients.obsp.pop("gml_distances")
    patients.obsm["X_other_mds"] = patients.obsm.pop("X_gml_mds")
    argument = "metric" if draw is gml.pl.loss else "key"
    assert isinstance(draw(patients, **{argument: "other"}), Axes)


@pytest.mark.parametrize(
    ("draw", "slot", "message"),
    [
        (gml.pl.patient_heatmap, "obsp", r"no 'gml_distances'.*gml\.tl\.patient_distances"),
        (gml.pl.patient_embedding, "obsm", r"no 'X_gml_mds'.*gml\.tl\.patient_distances"),
        (gml.pl.loss, "uns", r"no 'gml'.*gml\.tl\.learn_metric"),
    ],
)
def test_missing_results(patients: AnnData, draw: Callable[..., Axes], slot: str, message: str) -> None:
    getattr(patients, slot).clear()
    with pytest.raises(KeyError, match=message):
        draw(patients)
    assert not plt.get_fignums()


@pytest.mark.parametrize("draw", [gml.pl.patient_heatmap, gml.pl.patient_embedding])
def test_missing_color(patients: AnnData, draw: Callable[..., Axes]) -> None:
    with pytest.raises(KeyError, match=r"no 'age'.*'disease'.*var_names"):
        draw(patients, color="age")
    assert not plt.get_fignums()


def test_missing_umap(patients: AnnData) -> None:
    with pytest.raises(KeyError, match=r"no 'X_umap'.*gml\.pp\.neighbors.*sc\.tl\.umap"):
        gml.pl.patient_embedding(patients, basis="umap")


def test_unknown_basis(patients: AnnData) -> None:
    with pytest.raises(ValueError, match=r"`basis` must be one of 'mds', 'umap', got 'tsne'"):
        gml.pl.patient_embedding(patients, basis="tsne")


def test_one_column_is_not_enough(patients: AnnData) -> None:
    patients.obsm["X_umap"] = np.zeros((12, 1))
    with pytest.raises(ValueError, match=r"'X_umap'.*two columns.*\(12, 1\)"):
        gml.pl.patient_embedding(patients, basis="umap")


def test_unknown_color_map(patients: AnnData) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        gml.pl.patient_heatmap(patients, cmap="nonsense")
    assert not plt.get_fignums()


def test_no_loss_without_learning(patients: AnnData) -> None:
    del patients.uns["gml"]["loss"]
    with pytest.raises(ValueError, match=r"'gml'.*not learned.*gml\.tl\.learn_metric"):
        gml.pl.loss(patients)


@pytest.mark.parametrize("draw", PLOTS)
def test_wrong_types(patients: AnnData, draw: Callable[..., Axes]) -> None:
    with pytest.raises(TypeError, match="must be an AnnData, got DataFrame"):
        draw(patients.obs)
    with pytest.raises(TypeError, match="`ax` must be one matplotlib Axes or None, got ndarray"):
        draw(patients, ax=plt.subplots(1, 2)[1])
