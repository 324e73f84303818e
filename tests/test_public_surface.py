"""What the package offers at its root."""

from __future__ import annotations

import pytest

import persona_steering


def test_the_public_names_are_sorted_and_all_importable() -> None:
    assert persona_steering.__all__ == sorted(persona_steering.__all__)
    for name in persona_steering.__all__:
        assert getattr(persona_steering, name).__name__ == name


def test_names_that_users_of_the_method_know_are_there() -> None:
    known = "ModelWrapper ActivationExtractor PersonaManager SteeringEngine DatasetGenerator get_config"
    known += " normalize project_onto remove_component orthogonalize_persona compute_safe_floor blend_vectors"
    assert set(known.split()) <= set(persona_steering.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = persona_steering.Nothing
