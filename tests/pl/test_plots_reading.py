"""Plots that read a metric: genes, cells, parts of distances, cell types and scores."""

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.legend import Legend
from matplotlib.patches import PathPatch, Rectangle

import gml

pytestmark = pytest.mark.slow  # test_plots.py has fast ones

FIRST, SECOND, THIRD = "#1f77b4", "#ff7f0e", "#2ca02c"  # colours of classes: those of scanpy
UP, DOWN, BLUE, GREY = "#0072b2", "#d55e00", "#0072b2", to_hex("0.55")
LONG = "CD14-positive, CD16-negative $classical$ monocyte of the bone marrow"


@pytest.fixture(autouse=True)
def canvas() -> Iterator[None]:
    """Draw into memory, and leave nothing open or changed."""
    plt.switch_backend("Agg")
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


# what the tools return, as far as the plots are concerned


def make_ranking(diseases: tuple[str, ...] = ("a", "b", "c"), *, n: int = 30, kind: str = "loading") -> pd.DataFrame:
    """Gene 0 leads; gene i is highest in disease i modulo their number."""
    rng = np.random.default_rng(0)
    importance = 2.0 * 0.8 ** np.arange(n) - 0.05
    columns = {"importance": importance, "importance_low": importance - 0.1, "importance_high": importance + 0.2}
    columns |= {"stability": np.clip(importance, 0, 1), "stable": importance > 1}
    for component in (1, 2):
        values = rng.uniform(-1, 1, n)
        name = f"{kind}_{component}"
        columns |= {name: values, f"{name}_low": values - 0.1, f"{name}_high": values + 0.1}
    high = np.arange(n) % len(diseases)
    columns |= {f"direction_{name}": np.where(high == code, 0.5, -0.1 * code) for code, name in enumerate(diseases)}
    return pd.DataFrame(columns, index=[f"gene_{i}" for i in range(n)])


def make_pairs(types: tuple[str, ...] = ("B", "T", "NK"), *, excess: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = len(types)
    source, target = (np.array(types)[index] for index in np.divmod(np.arange(n * n), n))
    mass = rng.dirichlet(np.ones(n * n))
    part = mass * rng.uniform(1, 3, n * n) - (0.5 * mass.mean() if excess else 0.0)
    table = pd.DataFrame({"source": source, "target": target, "mass": mass, "part": part})
    table = table.sort_values("part", ascending=False, ignore_index=True)
    within = table["source"] == table["target"]
    table.attrs = {"distance": float(part.sum()), "p": "P1", "q": "P2", "by": "cell_type", "excess": excess}
    table.attrs |= {"expression": float(table.loc[within, "part"].sum())}
    table.attrs |= {"composition": table.attrs["distance"] - table.attrs["expression"]}
    return table


def make_parts(n: int = 40, *, by: str = "gene") -> pd.DataFrame:
    """Every fourth part is negative."""
    parts = 3.0 * 0.8 ** np.arange(n) * np.where(np.arange(n) % 4 == 3, -1, 1)
    table = pd.DataFrame({"part": parts}, index=[f"{by}_{i}" for i in range(1, n + 1)])
    table = table.sort_values("part", ascending=False)
    table.attrs = {"distance": float(parts.sum()), "p": "P1", "q": "P2", "by": by, "excess": False}
    return table


def make_cells(n: int = 60, *, k: int = 3, n_genes: int = 20, lengths: tuple[float, ...] | None = None) -> AnnData:
    rng = np.random.default_rng(2)
    disease = pd.Categorical.from_codes(np.arange(n) % 2, ["x", "y"])
    obs = pd.DataFrame({"disease": disease, "age": rng.uniform(size=n)}, index=[f"c{i}" for i in range(n)])
    genes = pd.DataFrame(index=[f"gene_{i}" for i in range(n_genes)])
    adata = AnnData(rng.uniform(size=(n, n_genes)).astype(np.float32), obs=obs, var=genes)
    adata.obsm["X_gml"] = rng.standard_normal((n, k)) + np.linspace(3, 0, k)
    adata.varm["gml"] = rng.standard_normal((n_genes, k)) * (np.linspace(1, 0.1, k) if lengths is None else lengths)
    adata.uns["gml"] = {"params": {"disease_key": "disease"}}
    return adata


def make_types(names: tuple[str, ...] = ("B", "T", "NK", "(all cells)")) -> pd.DataFrame:
    scores = np.linspace(0.9, 0.4, len(names))
    columns = {"cell_type": names, "n_patients": np.arange(20, 20 + len(names)), "n_cells": 1000}
    columns |= {"balanced_accuracy": scores, "low": scores - 0.1, "high": scores + 0.05, "auroc": scores}
    return pd.DataFrame(columns | {"chance": 0.25})


def make_scored(n: int = 12, *, diseases: tuple[str, ...] = ("x", "y/z")) -> AnnData:
    rng = np.random.default_rng(3)
    disease = pd.Categorical.from_codes(np.arange(n) % len(diseases), list(diseases))
    obs = pd.DataFrame({"disease": disease, "sex": ["f", "m"] * (n // 2)}, index=[f"P{i:03d}" for i in range(n)])
    for name in diseases:
        obs[f"gml_score_{name.replace('/', '_')}"] = rng.uniform(-1, 1, n)
    patients = AnnData(rng.uniform(size=(n, 1)), obs=obs, var=pd.DataFrame(index=["CD19"]))
    patients.uns["gml"] = {"params": {"disease_key": "disease"}}
    return patients


DRAWN = {
    "rank_genes": lambda ax: gml.pl.rank_genes(make_ranking(), ax=ax),
    "loadings": lambda ax: gml.pl.loadings(make_cells(), ax=ax),
    "metric": lambda ax: gml.pl.metric(make_cells(), ax=ax),
    "explain_types": lambda ax: gml.pl.explain_distance(make_pairs(), ax=ax),
    "explain_genes": lambda ax: gml.pl.explain_distance(make_parts(), ax=ax),
    "transport_plan": lambda ax: gml.pl.transport_plan(make_pairs(), ax=ax),
    "rank_cell_types": lambda ax: gml.pl.rank_cell_types(make_types(), ax=ax),
    "score_patients": lambda ax: gml.pl.score_patients(make_scored(), ax=ax),
}
TABLES = {
    gml.pl.rank_genes: make_ranking,
    gml.pl.explain_distance: make_pairs,
    gml.pl.transport_plan: make_pairs,
    gml.pl.rank_cell_types: make_types,
}


# what is on an axes


def fresh() -> Axes:
    """Axes without a layout, which takes most of the time."""
    return plt.figure().add_subplot()


def names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def bars(ax: Axes) -> pd.DataFrame:
    """Start, width and colour of horizontal bars, by row."""
    rectangles = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    rows = [round(bar.get_y() + bar.get_height() / 2, 6) for bar in rectangles]
    columns = {"start": [bar.get_x() for bar in rectangles], "width": [bar.get_width() for bar in rectangles]}
    return pd.DataFrame(
        columns | {"color": [to_hex(bar.get_facecolor()) for bar in rectangles]}, index=rows
    ).sort_index()


def segments(ax: Axes) -> np.ndarray:
    """Ends of the lines that were drawn together, shape (lines, 2, 2)."""
    line_collections = [child for child in ax.collections if isinstance(child, LineCollection)]
    return np.array([segment for lines in line_collections for segment in lines.get_segments()])


def dots(ax: Axes) -> list[np.ndarray]:
    return [np.asarray(child.get_offsets()) for child in ax.collections if isinstance(child, PathCollection)]


def legends(ax: Axes) -> dict[str, dict[str, str]]:
    """Title to names to colours."""
    drawn = [child for child in ax.get_children() if isinstance(child, Legend)]
    return {
        legend.get_title().get_text(): {
            text.get_text(): to_hex(mark.get_color())
            for text, mark in zip(legend.get_texts(), legend.legend_handles, strict=True)
        }
        for legend in drawn
    }


def check_layout(ax: Axes, *, texts: bool = True) -> None:
    """Labels do not lie on each other, and all is inside the figure."""
    ax.figure.canvas.draw()
    for labels in (ax.get_yticklabels(), ax.get_xticklabels(), ax.texts if texts else []):
        boxes = [label.get_window_extent().get_points() for label in labels if label.get_text()]
        for first, second in combinations(boxes, 2):
            assert not (np.minimum(first[1], second[1]) - np.maximum(first[0], second[0]) > 1).all()
    drawn, figure = ax.get_tightbbox(), ax.figure.bbox
    assert (drawn.min >= figure.min - 0.5).all()
    assert (drawn.max <= figure.max + 0.5).all()


# rank_genes


def test_importance_leads_from_above() -> None:
    table = make_ranking().sample(frac=1, random_state=0)
    ax = gml.pl.rank_genes(table, n_genes=5)
    assert names(ax) == [f"gene_{i}" for i in range(5)]
    top = table.loc[names(ax)]
    np.testing.assert_allclose(bars(ax)["width"], top["importance"])
    assert bars(ax)["color"].tolist() == [FIRST, SECOND, THIRD, FIRST, SECOND]
    assert legends(ax) == {"highest in": {"a": FIRST, "b": SECOND, "c": THIRD}}
    rows = np.arange(5)
    np.testing.assert_allclose(segments(ax)[:, 0], np.column_stack([top["importance_low"], rows]))
    np.testing.assert_allclose(segments(ax)[:, 1], np.column_stack([top["importance_high"], rows]))
    assert ax.get_xlabel() == "importance\n(95 % interval, ● stable)"
    (marks,) = (line for line in ax.lines if line.get_marker() == "o")
    assert list(marks.get_ydata()) == list(np.flatnonzero(top["stable"]))
    check_layout(ax)


@pytest.mark.parametrize("kind", ["loading", "correlation"])
def test_loadings_lead_by_size(kind: str) -> None:
    table = make_ranking(kind=kind)
    ax = gml.pl.rank_genes(table, n_genes=6, by=f"{kind}_2", ax=fresh())
    expected = table[f"{kind}_2"].abs().sort_values(ascending=False).index[:6]
    assert names(ax) == list(expected)
    np.testing.assert_allclose(bars(ax)["width"], table.loc[expected, f"{kind}_2"])
    assert (bars(ax)["width"] < 0).any()
    np.testing.assert_allclose(segments(ax)[:, 0, 0], table.loc[expected, f"{kind}_2_low"])
    assert ax.get_xlabel().startswith({"loading": "loading on", "correlation": "correlation with"}[kind])


def test_directions_are_of_the_most_important() -> None:
    table = make_ranking(("a", "b_low"))
    ax = gml.pl.rank_genes(table, n_genes=4, by="direction_b_low", ax=fresh())
    assert names(ax) == [f"gene_{i}" for i in range(4)]
    np.testing.assert_allclose(bars(ax)["width"], [-0.1, 0.5, -0.1, 0.5])
    assert bars(ax)["color"].tolist() == [FIRST, SECOND] * 2
    assert ax.get_xlabel() == "mean in b_low less the others\n(● stable)"
    assert not segments(ax).size


def test_ordered_direction_is_colored_by_sign() -> None:
    table = make_ranking()[["importance"]].assign(direction=np.where(np.arange(30) % 3 == 0, -1.0, 2.0))
    for by in ("direction", "importance"):
        ax = gml.pl.rank_genes(table, n_genes=3, by=by, ax=fresh())
        assert bars(ax)["color"].tolist() == [DOWN, UP, UP]
        assert legends(ax) == {"with the disease": {"rises": UP, "falls": DOWN}}
    assert ax.get_xlabel() == "importance"


def test_ranking_without_more_than_importance() -> None:
    ax = gml.pl.rank_genes(make_ranking(n=2)[["importance"]])
    assert set(bars(ax)["color"]) == {BLUE}
    assert len(bars(ax)) == 2
    assert legends(ax) == {}
    check_layout(ax)


def test_genes_that_were_not_ranked_are_left_out() -> None:
    table = make_ranking(n=4).astype({"stable": object})
    table.loc["gene_2"] = np.nan
    ax = gml.pl.rank_genes(table, ax=fresh())
    assert names(ax) == ["gene_0", "gene_1", "gene_3"]
    (marks,) = (line for line in ax.lines if line.get_marker() == "o")
    assert list(marks.get_ydata()) == [0, 1]
    table["importance"] = np.nan
    with pytest.raises(ValueError, match="no 'importance' to draw: it is missing"):
        gml.pl.rank_genes(table)


@pytest.mark.parametrize("by", ["loading_3", "loading_1_low", "stable", "direction"])
def test_unknown_column_of_the_ranking(by: str) -> None:
    with pytest.raises(ValueError, match=rf"`by` must be one of 'importance', 'loading_1', .*'direction_a'.*'{by}'"):
        gml.pl.rank_genes(make_ranking(), by=by)
    assert not plt.get_fignums()


# loadings


def test_loadings_of_the_leading_genes() -> None:
    adata = make_cells()
    ax = gml.pl.loadings(adata, n_genes=2, ax=fresh())
    loadings = pd.DataFrame(adata.varm["gml"], index=adata.var_names)
    expected: list[str] = []
    sizes = []
    for component in loadings:
        top = loadings[component].abs().sort_values(ascending=False).index[:2]
        new = [gene for gene in top if gene not in expected]
        expected += new
        sizes.append(len(new))
    assert names(ax) == expected
    np.testing.assert_array_equal(ax.images[0].get_array(), loadings.loc[expected])
    highest = loadings.loc[expected].abs().to_numpy().max()
    assert ax.images[0].get_clim() == (-highest, highest)
    lines = [line.get_ydata()[0] for line in ax.lines]
    assert lines == (np.cumsum(sizes)[:-1] - 0.5).tolist()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "3"]
    assert ax.get_xlabel() == "component"
    assert ax.child_axes[0].get_ylabel() == "loading"


@pytest.mark.parametrize("n_components", [None, 2])
def test_only_long_components_are_shown(n_components: int | None) -> None:
    lengths = np.full(50, 0.1)
    lengths[[3, 7, 11, 20, 40]] = [1.0, 5.0, 1.0, 6.0, 1.0]
    ax = gml.pl.loadings(make_cells(k=50, lengths=tuple(lengths)), n_components=n_components)
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert shown == (["4", "8", "12", "21", "41"] if n_components is None else ["8", "21"])
    assert ax.get_xlabel() == f"component\n({len(shown)} longest of 50)"
    check_layout(ax)


def test_genes_without_loadings_are_left_out() -> None:
    adata = make_cells()
    adata.varm["gml"][2:] = 0
    assert sorted(names(gml.pl.loadings(adata, ax=fresh()))) == ["gene_0", "gene_1"]
    adata.varm["gml"][:] = 0
    gml.pl.loadings(adata, ax=fresh()).figure.canvas.draw()


@pytest.mark.slow
def test_many_genes_and_components() -> None:
    adata = make_cells(k=12, n_genes=200)
    adata.var_names = [f"{LONG} {i}" for i in range(200)]
    ax = gml.pl.loadings(adata, n_genes=8, n_components=12)
    assert len(names(ax)) > 60
    check_layout(ax)


def test_missing_loadings() -> None:
    adata = make_cells()
    del adata.varm["gml"]
    with pytest.raises(KeyError, match=r"adata\.varm has no 'gml'.*gml\.tl\.learn_metric.*correlation"):
        gml.pl.loadings(adata)
    with pytest.raises(ValueError, match="`n_components` must be an integer from 1 to 3, got 4"):
        gml.pl.loadings(make_cells(), n_components=4)
    with pytest.raises(ValueError, match="nonsense"):
        gml.pl.loadings(make_cells(), cmap="nonsense")
    assert not plt.get_fignums()


# metric


def arrows(ax: Axes) -> dict[str, np.ndarray]:
    """Vectors of the genes by name; names are written in the order of the arrows."""
    drawn = [text for text in ax.texts if not text.get_text()]
    written = [text.get_text() for text in ax.texts if text.get_text()]
    return {name: np.subtract(text.xy, text.xyann) for name, text in zip(written, drawn, strict=True)}


def test_cells_are_where_they_are_and_mixed() -> None:
    adata = make_cells()
    ax = gml.pl.metric(adata, components=(3, 1), ax=fresh())
    (points,) = dots(ax)
    expected = adata.obsm["X_gml"][:, [2, 0]]
    assert not np.array_equal(points, expected)
    order = [int(np.flatnonzero((expected == point).all(axis=1))[0]) for point in points]
    assert sorted(order) == list(range(60))
    np.testing.assert_array_equal(
        points, dots(gml.pl.metric(adata, components=(3, 1), ax=fresh()))[0]
    )  # the same each time
    colors = [to_hex(color) for color in ax.collections[0].get_facecolors()]
    assert colors == [FIRST if disease == "x" else SECOND for disease in adata.obs["disease"].iloc[order]]
    assert legends(ax) == {"disease": {"x": FIRST, "y": SECOND}}
    assert ax.collections[0].get_rasterized()
    assert ax.get_aspect() == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("component 3", "component 1")


def test_arrows_are_the_longest_genes() -> None:
    adata = make_cells(lengths=(1.0, 1.0, 9.0))
    vectors = arrows(gml.pl.metric(adata, n_genes=4, ax=fresh()))
    loadings = pd.DataFrame(adata.varm["gml"][:, :2], index=adata.var_names)
    length = (loadings**2).sum(axis=1) ** 0.5
    assert list(vectors) == length.sort_values(ascending=False).index[:4].tolist()
    ratios = np.array([vector / loadings.loc[name] for name, vector in vectors.items()])
    np.testing.assert_allclose(ratios, ratios[0, 0])
    assert ratios[0, 0] > 0


def test_arrows_start_at_the_mean_and_fit_in() -> None:
    adata = make_cells()
    adata.var_names = [f"gene number {i}" for i in range(20)]
    ax = gml.pl.metric(adata)
    starts = [text.xyann for text in ax.texts if not text.get_text()]
    np.testing.assert_allclose(starts, np.tile(adata.obsm["X_gml"][:, :2].mean(axis=0), (8, 1)))
    ax.figure.canvas.draw()
    frame = ax.get_window_extent().padded(1)
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert all(frame.contains(*box.min) and frame.contains(*box.max) for box in boxes)
    check_layout(ax, texts=False)


@pytest.mark.parametrize("how", ["none asked for", "no map", "no loadings in these components"])
def test_no_arrows(how: str) -> None:
    adata = make_cells()
    if how == "no map":
        del adata.varm["gml"]
    if how == "no loadings in these components":
        adata.varm["gml"][:, :2] = 0
    assert not gml.pl.metric(adata, n_genes=0 if how == "none asked for" else 5, ax=fresh()).texts


def test_points_get_smaller_and_fainter() -> None:
    few, many = (gml.pl.metric(make_cells(n), n_genes=0, ax=fresh()).collections[0] for n in (100, 20_000))
    assert few.get_sizes()[0] > 2 * many.get_sizes()[0]
    assert few.get_alpha() > many.get_alpha() >= 0.2
    assert len(many.get_offsets()) == 20_000


@pytest.mark.parametrize("color", ["age", "gene_3"])
def test_cells_colored_by_numbers(color: str) -> None:
    adata = make_cells()
    ax = gml.pl.metric(adata, color=color, ax=fresh())
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == color
    assert legends(ax) == {}


def test_flat_clouds_get_flat_axes() -> None:
    adata = make_cells()
    adata.obsm["X_gml"][:, 1] *= 0.1
    low, high = (gml.pl.metric(adata, components=chosen).get_window_extent() for chosen in ((1, 2), (2, 1)))
    assert low.height < 0.6 * low.width
    assert high.height > low.height


def test_cells_without_a_disease() -> None:
    adata = make_cells()
    adata.uns["gml"]["params"]["disease_key"] = None
    assert {to_hex(color) for color in gml.pl.metric(adata, ax=fresh()).collections[0].get_facecolors()} == {BLUE}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")
def test_cells_that_were_read_lazily(tmp_path: object) -> None:
    adata = make_cells()
    adata.write_zarr(f"{tmp_path}/cells.zarr")
    lazy = ad.experimental.read_lazy(f"{tmp_path}/cells.zarr")
    here, there = gml.pl.metric(adata, ax=fresh()), gml.pl.metric(lazy, ax=fresh())
    of_gene = [
        gml.pl.metric(data, color="gene_3", ax=fresh()).collections[0].get_facecolors() for data in (adata, lazy)
    ]
    np.testing.assert_array_equal(*of_gene)
    np.testing.assert_allclose(dots(there)[0], dots(here)[0])
    assert legends(there) == legends(here)
    assert list(arrows(there)) == list(arrows(here))
    assert names(gml.pl.loadings(lazy, ax=fresh())) == names(gml.pl.loadings(adata, ax=fresh()))


@pytest.mark.parametrize(
    ("components", "error", "message"),
    [
        ((1, 4), ValueError, "`components` must be an integer from 1 to 3, got 4"),
        ((0, 1), ValueError, "from 1 to 3, got 0"),
        ((1, 2, 3), ValueError, r"two numbers, such as \(1, 2\), got \(1, 2, 3\)"),
        (1, ValueError, "two numbers.*got 1"),
        (("1", 2), TypeError, "`components` must be an integer from 1 to 3, got '1'"),
    ],
)
def test_unknown_components(components: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gml.pl.metric(make_cells(), components=components)
    assert not plt.get_fignums()


def test_cells_that_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="has 1 component, and two are drawn"):
        gml.pl.metric(make_cells(k=1))
    with pytest.raises(KeyError, match=r"no 'X_other'.*gml\.tl\.learn_metric"):
        gml.pl.metric(make_cells(), metric="other")
    with pytest.raises(KeyError, match=r"no 'stage'.*'disease'"):
        gml.pl.metric(make_cells(), color="stage")


# explain_distance


def test_heatmap_of_cell_types_holds_all_parts() -> None:
    table = make_pairs()
    ax = gml.pl.explain_distance(table)
    by_pair = table.set_index(["source", "target"])["part"]
    types = names(ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == types
    totals = by_pair.groupby("source").sum() + by_pair.groupby("target").sum()
    assert types == totals.sort_values(ascending=False).index.tolist()
    expected = by_pair.unstack().loc[types, types]  # noqa: PD010 (nothing to aggregate)
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    assert ax.images[0].get_clim() == pytest.approx((0, expected.to_numpy().max()))
    assert ax.images[0].get_cmap().name == "Blues"
    shares = {text.get_position()[::-1]: text.get_text() for text in ax.texts}
    whole = table.attrs["distance"]
    assert shares == {
        place: f"{part / whole:.0%}" for place, part in np.ndenumerate(expected) if abs(part / whole) >= 0.005
    }
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("from cell type of P1", "to cell type of P2")
    expression = table.attrs["expression"] / whole
    assert ax.get_title(loc="left") == (
        f"distance {whole:.3g}\n{expression:.0%} expression, {1 - expression:.0%} composition"
    )
    assert ax.child_axes[0].get_ylabel() == "part of the distance"
    check_layout(ax)


def test_heatmap_of_an_excess_has_two_sides() -> None:
    table = make_pairs(excess=True)
    ax = gml.pl.explain_distance(table, ax=fresh())
    shown = ax.images[0].get_array()
    assert shown.min() < 0
    assert ax.images[0].get_clim() == pytest.approx((-np.abs(shown).max(), np.abs(shown).max()))
    assert ax.images[0].get_cmap().name == "RdBu_r"
    assert ax.get_title(loc="left").startswith("excess ")
    assert ax.child_axes[0].get_ylabel() == "part of the excess"


def test_rounding_is_no_negative_part() -> None:
    table = make_pairs()
    table.attrs |= {"expression": -1e-9 * table.attrs["distance"]}
    table.loc[table.index[-1], "part"] = -1e-14
    ax = gml.pl.explain_distance(table, ax=fresh())
    assert ax.images[0].get_cmap().name == "Blues"
    assert "\n0% expression" in ax.get_title(loc="left")


@pytest.mark.slow
def test_others_are_kept_together() -> None:
    types = tuple(f"{LONG} {i}" for i in range(9))
    table = make_pairs(types)
    ax = gml.pl.explain_distance(table, n_top=4)
    assert len(names(ax)) == 5
    assert names(ax)[-1] == "5 others"
    assert ax.images[0].get_array().sum() == pytest.approx(table.attrs["distance"])
    check_layout(ax)
    assert len(names(gml.pl.explain_distance(table, n_top=8))) == 9  # one other needs no row of its own


def test_pairs_that_do_not_occur_are_empty() -> None:
    table = make_pairs().query("source != 'B'")
    ax = gml.pl.explain_distance(table, ax=fresh())
    np.testing.assert_array_equal(ax.images[0].get_array()[names(ax).index("B")], 0)


@pytest.mark.slow
@pytest.mark.parametrize("n_top", [5, 100])
def test_waterfall_adds_up(n_top: int) -> None:
    table = make_parts()
    ax = gml.pl.explain_distance(table.sample(frac=1, random_state=0), n_top=n_top)
    whole, drawn = table.attrs["distance"], bars(ax)
    steps, total = drawn.iloc[:-1], drawn.iloc[-1]
    assert steps["start"].iloc[0] == 0
    ends = steps["start"] + steps["width"]
    np.testing.assert_allclose(steps["start"].iloc[1:], ends.iloc[:-1], atol=1e-12)
    assert ends.iloc[-1] == pytest.approx(whole)
    assert (total["start"], total["width"]) == (0, pytest.approx(whole))
    assert names(ax)[-1] == "whole"
    if n_top == 5:
        assert names(ax) == ["gene_1", "gene_2", "gene_3", "gene_5", "gene_4", "35 others", "whole"]
        shown = table["part"][names(ax)[:5]]
        np.testing.assert_allclose(steps["width"], [*shown, whole - shown.sum()])
        assert [to_hex(color) for color in steps["color"]] == [UP] * 4 + [DOWN, UP if whole > shown.sum() else DOWN]
    else:
        assert names(ax) == [*table.index, "whole"]
    percent = [text.get_text() for text in ax.texts]
    assert percent[0] == f"{table['part'].iloc[0] / whole:.0%}"
    assert len(percent) == len(steps)
    check_layout(ax)


def test_waterfall_of_components_and_of_a_part_of_the_table() -> None:
    table = make_parts(4, by="component")
    assert names(gml.pl.explain_distance(table, ax=fresh())) == [
        "component 1",
        "component 2",
        "component 3",
        "component 4",
        "whole",
    ]
    ax = gml.pl.explain_distance(table.iloc[:2], ax=fresh())
    assert names(ax) == ["component 1", "component 2", "others", "whole"]
    assert bars(ax)["width"].iloc[-1] == pytest.approx(table.attrs["distance"])


def test_waterfall_of_a_whole_below_zero() -> None:
    table = -make_parts()
    table.attrs = {"distance": float(table["part"].sum()), "excess": True, "p": LONG, "q": LONG}
    ax = gml.pl.explain_distance(table)
    assert not ax.texts
    assert ax.get_xlim()[0] < table["part"].sum()
    assert ax.get_title(loc="left").count("\n") == 2
    check_layout(ax)


# transport_plan


def bands(ax: Axes) -> list[PathPatch]:
    return [patch for patch in ax.patches if isinstance(patch, PathPatch)]


def test_flow_leads_from_bar_to_bar() -> None:
    table = make_pairs()
    ax = gml.pl.transport_plan(table, min_share=0.0)
    mass = table.set_index(["source", "target"])["mass"].unstack()  # noqa: PD010 (nothing to aggregate)
    types = (mass.sum(axis=0) + mass.sum(axis=1)).sort_values(ascending=False).index
    mass = mass.loc[types, types]
    blocks = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    left, right = blocks[:3], blocks[3:]
    np.testing.assert_allclose([bar.get_height() for bar in left], mass.sum(axis=1))
    np.testing.assert_allclose([bar.get_height() for bar in right], mass.sum(axis=0))
    assert {bar.get_x() for bar in left} == {0.0}
    assert all(upper.get_y() + upper.get_height() < lower.get_y() for upper, lower in pairwise(left))
    colors = [FIRST, SECOND, THIRD]
    assert [to_hex(bar.get_facecolor()) for bar in left] == colors
    assert len(bands(ax)) == 9
    for number, band in enumerate(bands(ax)):
        source, target = divmod(number, 3)
        corners = band.get_path().vertices
        assert to_hex(band.get_facecolor()) == colors[source]
        assert band.get_alpha() == (0.2 if source == target else 0.7)
        assert corners[7, 1] - corners[0, 1] == pytest.approx(mass.iloc[source, target])
        before = mass.iloc[source, :target].sum(), mass.iloc[:source, target].sum()
        assert corners[0, 1] == pytest.approx(left[source].get_y() + before[0])
        assert corners[3, 1] == pytest.approx(right[target].get_y() + before[1])
    written = [text.get_text() for text in ax.texts]
    assert written[:4] == [*(f"{name}  {share:.0%}" for name, share in mass.sum(axis=1).items()), "P1"]
    assert written[4:] == [*(f"{name}  {share:.0%}" for name, share in mass.sum(axis=0).items()), "P2"]
    check_layout(ax)


def test_small_flows_are_left_out_and_bars_stay() -> None:
    table = make_pairs()
    least = float(table["mass"].median())
    ax = gml.pl.transport_plan(table, min_share=least, ax=fresh())
    assert len(bands(ax)) == (table["mass"] >= least).sum() == 5
    assert sum(patch.get_height() for patch in ax.patches if isinstance(patch, Rectangle)) == pytest.approx(2)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 30])
def test_flow_between_any_number_of_types(n: int) -> None:
    ax = gml.pl.transport_plan(make_pairs(tuple(f"{i} {LONG}" for i in range(n))), min_share=0.001)
    assert len(ax.texts) == 2 * n + 2
    check_layout(ax)


def test_an_excess_does_not_flow() -> None:
    with pytest.raises(ValueError, match=r"excess, whose mass has two signs.*excess=False"):
        gml.pl.transport_plan(make_pairs(excess=True))
    table = make_pairs()
    table.attrs.clear()
    gml.pl.transport_plan(table)
    table.loc[0, "mass"] = -0.1
    with pytest.raises(ValueError, match="mass has two signs"):
        gml.pl.transport_plan(table)
    with pytest.raises(ValueError, match=r"no column 'source', 'target', 'mass'.*gml\.tl\.explain_distance.*cell_type"):
        gml.pl.transport_plan(make_parts())
    with pytest.raises(ValueError, match=r"`min_share` must be .*at most 1, got 2"):
        gml.pl.transport_plan(make_pairs(), min_share=2)


# rank_cell_types


def test_scores_of_cell_types() -> None:
    table = make_types(("B", "(all cells)", "T", "NK"))
    ax = gml.pl.rank_cell_types(table)
    assert names(ax) == ["B", "T", "NK", "(all cells)"]
    ordered = table.set_index("cell_type").loc[names(ax)]
    (points,) = dots(ax)
    np.testing.assert_allclose(points, np.column_stack([ordered["balanced_accuracy"], np.arange(4)]))
    np.testing.assert_allclose(segments(ax)[:, :, 0], ordered[["low", "high"]])
    assert [to_hex(color) for color in ax.collections[-1].get_facecolors()] == [BLUE] * 3 + [GREY]
    assert dashed(ax) == [0.25]
    upright = {line.get_linestyle(): line.get_xdata()[0] for line in ax.lines if line.get_xdata()[0] != 0}
    assert upright == {"--": 0.25, "-": ordered.loc["(all cells)", "balanced_accuracy"]}
    (apart,) = (line for line in ax.lines if list(line.get_xdata()) == [0, 1])
    assert apart.get_ydata()[0] == 2.5
    counts = [text.get_text() for text in ax.texts if text.get_text() != "chance"]
    assert counts == ["patients", *ordered["n_patients"].astype(str)]
    assert ax.get_xlim() == (0, 1)
    check_layout(ax)


def dashed(ax: Axes) -> list[float]:
    return [float(line.get_xdata()[0]) for line in ax.lines if line.get_linestyle() == "--"]


def test_chance_as_a_column() -> None:
    table = make_types()
    assert dashed(gml.pl.rank_cell_types(table.drop(columns="chance"), ax=fresh())) == []
    table["chance"] = [0.5, np.nan, 0.5, 0.5]
    ax = gml.pl.rank_cell_types(table, ax=fresh())
    assert dashed(ax) == [0.5]
    table["chance"] = [0.5, 0.6, np.nan, 0.5]
    ax = gml.pl.rank_cell_types(table, ax=fresh())
    assert dashed(ax) == []
    expected = [[[x, row - 0.5], [x, row + 0.5]] for row, x in ((0, 0.5), (1, 0.6), (3, 0.5))]
    np.testing.assert_allclose(segments(ax)[:3], expected)
    table["chance"] = np.nan
    assert len(gml.pl.rank_cell_types(table, ax=fresh()).texts) == 5


@pytest.mark.slow
def test_cell_types_alone() -> None:
    table = make_types(tuple(f"{LONG} {i}" for i in range(30))).drop(columns="chance")
    table.loc[29, ["balanced_accuracy", "low", "high"]] = np.nan
    ax = gml.pl.rank_cell_types(table)
    assert not [line for line in ax.lines if line.get_linestyle() == "--"]
    assert not [line for line in ax.lines if list(line.get_xdata()) == [0, 1]]
    assert len(names(ax)) == 30
    check_layout(ax)
    with pytest.raises(ValueError, match="'balanced_accuracy' is missing"):
        gml.pl.rank_cell_types(table.iloc[29:])


# score_patients


def test_scores_of_patients_by_disease() -> None:
    patients = make_scored()
    ax = gml.pl.score_patients(patients)
    assert names(ax) == ["x (6)", "y/z (6)"]
    scores = patients.obs["gml_score_y_z"]
    for row, points in enumerate(dots(ax)):
        of_disease = scores[patients.obs["disease"] == ["x", "y/z"][row]]
        np.testing.assert_allclose(points[:, 0], np.sort(of_disease))
        assert (np.abs(points[:, 1] - row) < 0.5).all()
        assert len(np.unique(points[:, 1])) == 6
        assert segments(ax)[row + 1, 0, 0] == pytest.approx(of_disease.median())
    colors = [
        {to_hex(color) for color in child.get_facecolors()} for child in ax.collections if len(child.get_offsets()) > 1
    ]
    assert colors == [{FIRST}, {SECOND}]
    assert [line.get_xdata()[0] for line in ax.lines] == [0]
    assert ax.get_xlim() == (-1.05, 1.05)
    assert ax.get_xlabel() == "score: like another disease (−1)\nor like y_z (1)"
    assert legends(ax) == {}
    check_layout(ax)


def test_scores_do_not_depend_on_the_order_of_patients() -> None:
    patients = make_scored()
    turned = patients[patients.obs_names[::-1]].copy()
    for points, turned_points in zip(
        dots(gml.pl.score_patients(patients, ax=fresh())), dots(gml.pl.score_patients(turned, ax=fresh())), strict=True
    ):
        np.testing.assert_array_equal(points, turned_points)


def test_scores_for_one_disease_in_other_colors() -> None:
    patients = make_scored(diseases=("x", "y/z", "w"))
    ax = gml.pl.score_patients(patients, disease="y/z", color="sex", ax=fresh())
    np.testing.assert_allclose(np.sort(np.concatenate(dots(ax))[:, 0]), np.sort(patients.obs["gml_score_y_z"]))
    assert ax.get_xlabel().endswith("or like y/z (1)")
    assert legends(ax) == {"sex": {"f": FIRST, "m": SECOND}}
    scores_and_colors = (
        np.concatenate(dots(ax))[:, 0],
        np.concatenate([child.get_facecolors() for child in ax.collections[1::2]]),
    )
    for score, color in zip(*scores_and_colors, strict=True):
        (patient,) = patients.obs_names[patients.obs["gml_score_y_z"] == score]
        assert to_hex(color) == (FIRST if patients.obs.loc[patient, "sex"] == "f" else SECOND)


def test_scores_without_diseases_or_scores() -> None:
    patients = make_scored()
    patients.obs.loc["P000", "disease"] = np.nan
    patients.obs.loc["P001", "gml_score_y_z"] = np.nan
    ax = gml.pl.score_patients(patients, color="CD19")
    assert names(ax) == ["x (5)", "y/z (6)", "missing (1)"]
    assert [len(points) for points in dots(ax)] == [5, 5, 1]
    assert ax.child_axes[0].get_ylabel() == "CD19"
    del patients.uns["gml"]
    assert names(gml.pl.score_patients(patients)) == ["patients (12)"]
    patients.obs["gml_score_x"] = np.nan
    with pytest.raises(ValueError, match=r"'gml_score_x'.*missing"):
        gml.pl.score_patients(patients, disease="x")


def test_unknown_scores() -> None:
    with pytest.raises(KeyError, match=r"starts with 'other_score_'.*gml\.tl\.score_patients"):
        gml.pl.score_patients(make_scored(), key="other")
    with pytest.raises(KeyError, match="no 'gml_score_v'; scored are 'x', 'y_z'"):
        gml.pl.score_patients(make_scored(), disease="v")
    assert not plt.get_fignums()


# all of them


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_given_axes_are_used(draw: Callable[[Axes | None], Axes]) -> None:
    figure, axes = plt.subplots(2, 2, figsize=(9, 7))
    assert draw(axes[0, 1]) is axes[0, 1]
    assert plt.get_fignums() == [figure.number]
    assert figure.axes == list(axes.flat)
    assert figure.get_size_inches().tolist() == [9, 7]
    assert not any(ax.has_data() for ax in axes.flat if ax is not axes[0, 1])
    figure.canvas.draw()


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_new_figure_is_small_and_has_a_layout(draw: Callable[[Axes | None], Axes]) -> None:
    figure = draw(None).figure
    assert plt.get_fignums() == [figure.number]
    assert figure.get_constrained_layout()
    assert figure.get_size_inches().max() < 5


@pytest.mark.parametrize(("draw", "make"), TABLES.items(), ids=lambda value: value.__name__)
def test_tables_are_left_alone_and_checked(draw: Callable[..., Axes], make: Callable[[], pd.DataFrame]) -> None:
    table = make()
    table.index = [f"$\\x{i}$" for i in range(len(table))]
    before = table.copy(deep=True)
    draw(table).figure.canvas.draw()  # a dollar is a dollar
    pd.testing.assert_frame_equal(table, before)
    assert table.attrs == before.attrs
    with pytest.raises(TypeError, match=r"`table` must be a DataFrame from gml\.tl\..*, got AnnData"):
        draw(make_scored())
    with pytest.raises(TypeError, match="`ax` must be one matplotlib Axes or None, got ndarray"):
        draw(table, ax=plt.subplots(1, 2)[1])
    with pytest.raises(ValueError, match=r"no column '\w+'.*it holds 'nothing_of_use'.*what gml\.tl\.\w+"):
        draw(pd.DataFrame({"nothing_of_use": [1.0]}))
    with pytest.raises(ValueError, match="no rows to draw"):
        draw(table.iloc[:0])


def test_names_with_dollars() -> None:
    adata = make_cells()
    adata.var_names = [f"$\\x{i}$" for i in range(20)]
    adata.obs["disease"] = adata.obs["disease"].cat.rename_categories(["$\\a$", "$\\b$"])
    patients = make_scored(diseases=("$\\a$", "$\\b$"))
    types = ("$\\a$", "$\\b$")
    for ax in (
        gml.pl.metric(adata, ax=fresh()),
        gml.pl.loadings(adata, ax=fresh()),
        gml.pl.score_patients(patients, ax=fresh()),
        gml.pl.explain_distance(make_pairs(types), ax=fresh()),
        gml.pl.transport_plan(make_pairs(types), ax=fresh()),
        gml.pl.rank_cell_types(make_types(types), ax=fresh()),
        gml.pl.rank_genes(make_ranking(types), by="direction_$\\a$", ax=fresh()),
    ):
        ax.figure.canvas.draw()


def test_anndata_is_left_alone() -> None:
    adata, patients = make_cells(), make_scored()
    copies = adata.copy(), patients.copy()
    gml.pl.metric(adata)
    gml.pl.loadings(adata)
    gml.pl.score_patients(patients)
    for data, copy in zip((adata, patients), copies, strict=True):
        pd.testing.assert_frame_equal(data.obs, copy.obs)
        assert list(data.uns) == list(copy.uns)
    np.testing.assert_array_equal(adata.obsm["X_gml"], copies[0].obsm["X_gml"])
    np.testing.assert_array_equal(adata.varm["gml"], copies[0].varm["gml"])
    for draw in (gml.pl.metric, gml.pl.loadings, gml.pl.score_patients):
        with pytest.raises(TypeError, match="must be an AnnData, got DataFrame"):
            draw(patients.obs)


def test_results_of_the_tools_are_drawn() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=30, n_features=8)
    gml.tl.learn_metric(adata, method="discriminant", n_components=2)
    table = gml.tl.rank_genes(adata)
    assert names(gml.pl.rank_genes(table, ax=fresh()))[0] == table.index[0] == "signal"
    assert "signal" in names(gml.pl.loadings(adata, ax=fresh()))
    if adata.obsm["X_gml"].shape[1] > 1:
        assert "signal" in arrows(gml.pl.metric(adata, ax=fresh()))
