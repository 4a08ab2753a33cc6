"""Shares of importance are those of the function that was searched, and nothing is said where the fit says nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Kind

from vlmerge.report.canvas import drawing
from vlmerge.report.figure_importance import draw_importance
from vlmerge.report.fonts import find_typeface
from vlmerge.report.importance import Importance, _estimated, importance, of_stage
from vlmerge.report.importance_table import importance_table
from vlmerge.report.phrases import read_phrases
from vlmerge.store import STORE_NAME, Store


def genes(count: int) -> list[dict[str, object]]:
    """Two groups of tensors in turn, three models in turn."""
    return [
        {"name": f"g{n % 2}/m{n % 3}", "group": f"g{n % 2}", "model": f"m{n % 3}", "parameter": "weight", "choices": 0}
        for n in range(count)
    ]


def shares(found: Importance) -> list[float]:
    return [one.share for one in found.genes]


def test_shares_are_those_of_the_function() -> None:
    """y = 2a + b² + 2cd over standard normals: variances 4, 2, 4, of which c and d have a half each."""
    random = np.random.default_rng(2)
    drawn = random.normal(size=(400, 5))
    scores = 2 * drawn[:, 0] + drawn[:, 1] ** 2 + 2 * drawn[:, 2] * drawn[:, 3] + random.normal(0, 0.2, 400)
    found = of_stage("groups", genes(5), drawn, scores)
    assert found.fit is not None
    assert found.fit > 0.9
    assert shares(found) == pytest.approx([0.4, 0.2, 0.2, 0.2, 0.0], abs=0.04)
    assert {one.name: one.share for one in found.groups} == pytest.approx({"g0": 0.6, "g1": 0.4}, abs=0.05)
    assert {one.name: one.share for one in found.models} == pytest.approx({"m0": 0.6, "m1": 0.2, "m2": 0.2}, abs=0.05)
    assert found.parameters == ()  # one parameter only: its share would be all
    moved = of_stage("groups", genes(5), 3 * drawn - 7, scores)  # units and origin of a gene change nothing
    assert shares(moved) == pytest.approx(shares(found), abs=1e-3)


def test_noise_is_called_noise() -> None:
    random = np.random.default_rng(3)
    poor = 0
    for _ in range(20):
        found = of_stage("groups", genes(6), random.normal(size=(80, 6)), random.normal(size=80))
        assert found.fit is not None
        poor += not found.shown
    assert poor == 20
    few = of_stage("groups", genes(6), random.normal(size=(8, 6)), random.normal(size=8))
    assert (few.fit, few.shown) == (None, False)
    same = of_stage("groups", genes(6), random.normal(size=(40, 6)), np.full(40, 0.5))
    assert not same.shown


def test_a_choice_has_its_share() -> None:
    random = np.random.default_rng(4)
    chosen, number = random.integers(0, 3, 300), random.normal(size=300)
    scores = np.array([0.0, 1.0, -1.0])[chosen] + 0.2 * number
    known = [{"name": "method", "group": "", "model": None, "parameter": "method", "choices": 3}, *genes(1)]
    found = of_stage("groups", known, np.stack([chosen.astype(float), number], axis=1), scores)
    assert shares(found)[0] > 0.9


def test_candidates_that_failed_do_not_count(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind())
    with Store.open(folder / STORE_NAME) as store:
        assert importance(store) == ()  # a run of before genes were written down
        store.set("genes", [[{"name": "all/m", "group": "", "model": "m", "parameter": "weight", "choices": 0}], None])
        for trial in store.trials():
            store._connection.execute("UPDATE trials SET genome = ? WHERE trial = ?", (f"[{trial.trial / 7}]", trial.trial))
        (whole,) = importance(store)
        assert whole.candidates == 39  # of 40, one failed
        store._connection.execute("DELETE FROM answers WHERE trial = 20 AND position = 0")
        store._connection.execute("UPDATE trials SET genome = '[0.1, 0.2]' WHERE trial = 21")
        (fewer,) = importance(store)
        assert fewer.candidates == 38


def test_candidates_asked_a_part_are_judged_as_if_asked_everything() -> None:
    random = np.random.default_rng(7)
    skill, ease = random.normal(0.5, 0.1, 30), random.normal(0, 0.2, 40)
    weights, pictures = np.full(40, 1 / 40), np.arange(40)
    whole = skill[:, None] + ease
    estimated, variances = _estimated(whole, weights, pictures)
    assert np.allclose(estimated, whole.mean(axis=1))
    assert not variances.any()
    part = whole.copy()
    part[10:, np.argsort(ease)[10:]] = np.nan  # Twenty candidates were asked the ten hardest questions alone.
    estimated, variances = _estimated(part, weights, pictures)
    assert np.allclose(estimated, whole.mean(axis=1), atol=1e-6)
    assert not np.allclose(np.nanmean(part, axis=1), whole.mean(axis=1), atol=0.1)


def test_a_score_counts_by_how_well_it_is_known() -> None:
    random = np.random.default_rng(8)
    drawn = random.normal(size=(120, 2))
    scores = np.where(np.arange(120) < 60, drawn[:, 0], random.normal(size=120))
    alike = of_stage("groups", genes(2), drawn, scores)
    weighed = of_stage("groups", genes(2), drawn, scores, np.where(np.arange(120) < 60, 0.0, 100.0))
    assert alike.fit is not None
    assert weighed.fit is not None
    assert weighed.fit > 0.8 > alike.fit


def test_what_is_chance_is_no_lack_of_fit() -> None:
    """Of 400 candidates a hundred questions each, with 20 points of chance in a question, were asked a quarter."""
    random = np.random.default_rng(9)
    drawn = random.normal(size=(400, 2))
    asked = np.stack([random.permutation(100) < 25 for _ in range(400)])
    whole = 0.5 + 0.03 * drawn[:, :1] + random.normal(0, 0.2, (400, 100))
    weights, pictures = np.full(100, 0.01), np.arange(100)
    scores, variances = _estimated(np.where(asked, whole, np.nan), weights, pictures)
    true = of_stage("groups", genes(2), drawn, whole.mean(axis=1)).fit
    told = of_stage("groups", genes(2), drawn, scores, variances).fit
    naive = of_stage("groups", genes(2), drawn, scores).fit
    assert true is not None
    assert told is not None
    assert naive is not None
    assert abs(told - true) < 0.06
    assert naive < true - 0.1
    assert of_stage("groups", genes(2), drawn, scores, np.full(400, 1.0)).fit == 0  # Nothing but chance.


def test_the_page_shows_the_finest_stage_that_can_be_shown() -> None:
    random = np.random.default_rng(5)
    drawn = random.normal(size=(100, 4))
    good = of_stage("groups", genes(4), drawn, drawn[:, 0])
    poor = Importance("finer", 100, 0.1)
    table = importance_table([good, poor], [])
    assert table is not None
    assert (table.stage, table.poor) == ("groups", (("finer", 0.1),))
    assert [[line.raw for line in block] for block in table.blocks] == [["g0", "g1"], ["m0", "m1", "m2"]]
    tried = [{"what": "model", "name": "m1", "trial": 9, "difference": -3.0, "low": -4.0, "high": -2.0, "p": 0.01}]
    alone = importance_table([poor], tried)
    assert alone is not None
    assert alone.fit is None
    assert [(line.raw, line.share, line.ablated is not None) for block in alone.blocks for line in block] == [
        ("m1", None, True)
    ]
    assert importance_table([], []) is None


def test_the_figure_tells_what_is_out_of_its_room() -> None:
    random = np.random.default_rng(6)
    drawn = random.normal(size=(100, 4))
    found = of_stage("groups", genes(4), drawn, drawn[:, 0])
    of_model = {"what": "model", "name": "m1", "trial": 9, "difference": -86.8, "low": -89.0, "high": -84.0, "p": 0.001}
    of_group = {"what": "group", "name": "g0", "trial": 8, "difference": -1.5, "low": -2.5, "high": -0.5, "p": 0.01}
    table = importance_table([found], [of_group, of_model])
    assert table is not None
    with drawing(find_typeface()):
        shares, ablations = draw_importance(table, read_phrases("en"), contaminated=False).axes
    assert any(text.get_text().endswith(" %") for text in shares.texts)
    assert [text.get_text() for text in ablations.texts] == ["◂ −86.8"]
    assert ablations.get_xlim()[0] > -10
