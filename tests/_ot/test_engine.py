"""The contract of a solver: a new one, added as CONTRIBUTING says, works wherever a solver can be passed."""

from dataclasses import dataclass

import numpy as np
import pytest
from anndata import AnnData
from scipy.spatial.distance import pdist, squareform

import gml
from gml._anndata import Columns, find_features
from gml._cohort import Cohort, Points, Work
from gml._ot import Clouds, Distances, Engine, Ground, _engine, engine_of, pair_distances, register, solve
from gml.solvers import Exact, Solver


@dataclass(frozen=True, slots=True, kw_only=True)
class Means(Solver):
    """Patients are as far apart as their means."""

    factor: float = 1.0


class MeansEngine(Engine[Means]):
    """Distances only, of all cells, under Euclidean and learned metrics."""

    reads_all_cells = True
    any_ground = False
    learns = False

    def distances(self, solver: Means, clouds: Clouds, pairs: np.ndarray, *, ground: Ground, work: Work) -> Distances:
        del work
        means = np.add.reduceat(clouds.weights[:, None] * clouds.z, clouds.start[:-1])
        apart = np.linalg.norm(means[pairs[:, 0]] - means[pairs[:, 1]], axis=1)
        return Distances(solver.factor * apart**ground.power)


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> Means:
    monkeypatch.setattr(_engine, "_ENGINES", dict(_engine._ENGINES))
    register(Means, MeansEngine())
    return Means(factor=2.0)


@pytest.fixture
def adata() -> AnnData:
    return gml.datasets.gaussian_cohort(n_patients=9, n_cells=20)


def test_a_new_solver_measures(adata: AnnData, means: Means) -> None:
    centres = adata.to_df().groupby(adata.obs["patient"].to_numpy()).mean().to_numpy()
    for power in (1, 2):
        patients = gml.tl.patient_distances(adata, metric=None, solver=means, power=power)
        expected = 2 * squareform(pdist(centres)) ** power
        np.testing.assert_allclose(patients.obsp["gml_distances"], expected, rtol=1e-9, atol=1e-12)
    params = patients.uns["gml"]["params"]
    assert params["solver"] == "means"
    assert params["solver_settings"] == {"factor": 2.0}
    assert params["n_points"] is None


def test_a_new_solver_predicts_and_is_scored(adata: AnnData, means: Means) -> None:
    gml.tl.learn_metric(adata, method="discriminant")
    new = adata.obs["patient"].isin(["P00", "P01"]).to_numpy()
    query, reference = adata[new].copy(), adata[~new].copy()
    assert len(gml.tl.predict(query, reference, metric=None, solver=means)) == 2
    assert gml.tl.patient_distances(adata, solver=means).obsp["gml_distances"].shape == (9, 9)


def test_what_a_solver_cannot_do_is_refused(adata: AnnData, means: Means) -> None:
    before = adata.copy()
    with pytest.raises(ValueError, match=r"solver='means' cannot learn a metric.*solver='exact'"):
        gml.tl.learn_metric(adata, method="discriminant", solver=means)
    with pytest.raises(ValueError, match=r"solver='means'.*Euclidean and learned metrics only.*'cityblock'"):
        gml.tl.patient_distances(adata, metric=gml.methods.Fixed("cityblock"), solver=means)
    assert set(adata.uns) == set(before.uns)


def test_a_solver_without_an_engine_is_an_error(adata: AnnData) -> None:
    with pytest.raises(TypeError, match=r"one that gml knows \(Centroids, Exact, .*Means\(factor=1.0\)"):
        gml.tl.patient_distances(adata, metric=None, solver=Means())


def test_every_named_solver_has_an_engine() -> None:
    for kind in gml.solvers.NAMED.values():
        assert isinstance(engine_of(kind()), Engine)


def test_sketches_by_default(adata: AnnData) -> None:
    """What an engine does not override: weighted points without a shared support."""
    cohort = Cohort.from_anndata(adata, find_features(adata), Columns())
    engine: Engine[Exact] = Engine()
    points = engine.represent(Exact(), cohort, Work(n_points=4))
    assert isinstance(points, Points)
    assert np.diff(points.start).max() == 4
    assert engine.place(Exact(), points, points) is points
    assert engine.type_column(Exact()) is None
    assert not engine.shares_support(Exact())


@pytest.mark.parametrize("solver", [gml.solvers.Gaussian(), gml.solvers.Sliced()], ids=lambda s: type(s).__name__)
def test_ground_metrics_are_checked_at_the_door(solver: Solver) -> None:
    """Also where no public function has done so before the work."""
    clouds = Clouds(np.zeros((2, 1)), np.ones(2), np.arange(3))
    for door in (pair_distances, solve):
        for metric in ("cityblock", np.dot):
            with pytest.raises(ValueError, match=r"Euclidean and learned metrics only.*solver='exact'"):
                door(clouds, np.array([[0, 1]]), ground=Ground(metric=metric), work=Work(solver))
