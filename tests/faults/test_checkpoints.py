"""F53: a checkpoint of another width, another network, other features or other id maps."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fault_house import FIRST, open_house, published
from safetensors import safe_open

from features.errors import BadWarehouse, OtherFeatures
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO
from features.view import Category
from flows.house import House
from flows.recipes import shop as recipes
from flows.stages.encode import encoder_of
from flows.stages.version import load, version_of
from models.mmoe import MMoE


def wider(scenario: Scenario, name: str) -> Scenario:
    """The scenario, with room for more ids in one vocabulary."""
    (feature,) = (one for one in scenario.context if one.name == name)
    assert isinstance(feature.encoding, Category)
    more = replace(feature, encoding=replace(feature.encoding, capacity=1024))
    return replace(scenario, context=tuple(more if one is feature else one for one in scenario.context))


@pytest.fixture(scope="module")
def house(first_day: Path) -> House:
    return open_house(first_day)  # only read from


def test_F53_a_checkpoint_of_another_width_and_network_is_refused_with_every_difference(
    house: House,
) -> None:
    recipe = replace(recipes.esmm(), dim=4, architecture=MMoE, averaging=0.0)
    version = version_of(house, "esmm", FIRST)
    assert version is not None
    with safe_open(version.folder / "model.safetensors", "pt") as file:
        saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wanted = {name: tuple(tensor.shape) for name, tensor in load(house, recipe, None).state().items()}
    before = published(house)
    with pytest.raises(BadWarehouse) as told:
        load(house, recipe, version)
    assert (told.value.code, told.value.exit_code) == ("E503", 5)
    assert told.value.where == f"model esmm of {FIRST}"
    text = told.value.found
    assert set(re.findall(r"missing ([^;]+?)(?=[;.]$|;)", text)) == wanted.keys() - saved.keys() != set()
    assert set(re.findall(r"unexpected ([^;]+?)(?=[;.]$|;)", text)) == saved.keys() - wanted.keys() != set()
    shapes = {name: (shape, wanted[name]) for name, shape in saved.items() if name in wanted}
    different = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    found = re.findall(r"(\S+) is (\(.*?\)) \S+, expected (\(.*?\)) ", text)
    assert {name: (one, other) for name, one, other in found} == {
        name: (str(one), str(other)) for name, (one, other) in different.items()
    }
    assert "embedding.weight_RD" in different
    assert published(house) == before


def test_F53_a_checkpoint_of_another_feature_set_is_refused_with_the_features_that_differ(
    house: House, tmp_path: Path
) -> None:
    shutil.copytree(house.logs.parent, tmp_path, dirs_exist_ok=True)
    other = replace(open_house(tmp_path), scenario=wider(SCENARIO, "user_id"))
    version = version_of(other, "esmm", FIRST)
    with pytest.raises(OtherFeatures, match=r"^E410 .*model esmm of 2026-03-27.*changed user_id") as told:
        load(other, recipes.esmm(), version)
    assert told.value.exit_code == 4
    assert "item_id" not in told.value.found
    load(open_house(tmp_path), recipes.esmm(), version)


def test_F53_id_maps_of_another_generation_are_refused_with_both_names(house: House) -> None:
    version = version_of(house, "esmm", FIRST)
    assert version is not None
    encoder_of(house, FIRST, version.id_maps_key)
    with pytest.raises(BadWarehouse) as told:
        encoder_of(house, FIRST, "0" * 16)
    assert (told.value.code, told.value.exit_code) == ("E503", 5)
    assert version.id_maps_key in told.value.found
    assert "0" * 16 in told.value.found
