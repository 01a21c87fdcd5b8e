"""Knobs: the settings of diffusion and mastering that a preset may give, derived from the specs that declare them.

Each field of such a spec is a key of every preset, with the type and the bounds that the spec declares. A diffusion
setting takes one value, or a list through which the tracks rotate. A new field of a spec needs no change here.
"""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Annotated, Any, Final, TypeVar, Union

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from catalog.spec import DiffusionSpec

_M = TypeVar("_M", bound=BaseModel)
_COMBINATIONS_TRIED_MAX: Final = 10_000  # long lists multiply, and no honest preset has so many


def with_choices_of(spec: type[BaseModel]) -> Callable[[type[_M]], type[_M]]:
    """A class decorator: for each field of `spec` the model gets a key of that name, with values to rotate through.

    Raises TypeError when the model has a key of the same name already.
    """
    return _widening(spec, _choices)


def with_values_of(spec: type[BaseModel]) -> Callable[[type[_M]], type[_M]]:
    """The same with one value for each key."""
    return _widening(spec, _value)


def _widening(spec: type[BaseModel], key_of: Callable[[FieldInfo], Any]) -> Callable[[type[_M]], type[_M]]:
    def widened(model: type[_M]) -> type[_M]:
        if taken := spec.model_fields.keys() & model.model_fields.keys():
            raise TypeError(f"{spec.__name__} and {model.__name__} both declare {', '.join(sorted(taken))}")
        keys: dict[str, Any] = {name: key_of(declared) for name, declared in spec.model_fields.items()}
        return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=model.__module__, **keys)

    return widened


def _choices(declared: FieldInfo) -> tuple[Any, Any]:
    """Type and field of a key that takes one or several values of the field `declared`."""
    value: Any = _type_of(declared)
    listed = BeforeValidator(
        partial(_listed, of_lists=_is_list(declared.annotation)),
        json_schema_input_type=Union[value, list[value]],  # noqa: UP007 - the parts are known at run time only
    )
    several: Any = Annotated[tuple[value, ...], Field(min_length=1), listed]
    return several, Field(default=(), description=declared.description, examples=_examples(declared))


def _examples(declared: FieldInfo) -> list[Any] | None:
    default = to_jsonable_python(declared.get_default())
    return None if default is None else [default]


def _value(declared: FieldInfo) -> tuple[Any, Any]:
    """Type and field of a key that takes one value of the field `declared`."""
    return _type_of(declared), Field(default=declared.get_default(), description=declared.description)


def _type_of(declared: FieldInfo) -> Any:
    """The field's type with its bounds."""
    return Annotated[(declared.annotation, *declared.metadata)] if declared.metadata else declared.annotation


def _listed(value: Any, *, of_lists: bool) -> Any:
    """`value` as a list of values; of a knob whose values are lists, one such list is one value."""
    if not isinstance(value, list):
        return [value]
    is_one = of_lists and any(each is not None and not isinstance(each, list) for each in value)
    return [value] if is_one else value


def _is_list(annotation: Any) -> bool:
    """True when values of the type may be lists, as those of `tuple[float, float] | None`."""
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        return any(_is_list(each) for each in typing.get_args(annotation))
    return origin in (list, tuple)


@dataclass(frozen=True)
class DiffusionChoices:
    """The values that the tracks of a cell rotate through, for each knob of `spec`."""

    spec: type[DiffusionSpec]
    values: Mapping[str, tuple[Any, ...]]

    @classmethod
    def defaults(cls, spec: type[DiffusionSpec] = DiffusionSpec) -> DiffusionChoices:
        """For each knob its default alone."""
        return cls(spec, {name: (declared.get_default(),) for name, declared in spec.model_fields.items()})

    def overlaid(self, name: str, values: tuple[Any, ...]) -> DiffusionChoices:
        """Return these choices with `values` for the knob `name`."""
        return replace(self, values={**self.values, name: values})

    @property
    def first(self) -> dict[str, tuple[Any, ...]]:
        """The knobs of the first recipe."""
        return {name: self.values[name] for name, declared in self.spec.model_fields.items() if not _is_later(declared)}

    @property
    def later(self) -> dict[str, tuple[Any, ...]]:
        """The knobs that were added since."""
        return {name: self.values[name] for name, declared in self.spec.model_fields.items() if _is_later(declared)}

    def picked(self, pick: Callable[[str, tuple[Any, ...]], Any]) -> DiffusionSpec:
        """The spec with the value that `pick` takes of the choices of each knob, which it is called with by name."""
        return _made(self.spec, tuple((name, pick(name, values)) for name, values in self.values.items()))

    def clash(self) -> str:
        """The reason why some of the values cannot go together, in words; "" when all can."""
        return _find_clash(self.spec, tuple(self.values.items()))


def _is_later(declared: FieldInfo) -> bool:
    """True when the field has a neutral value (`catalog.forms.neutral`)."""
    return declared.exclude_if is not None


@lru_cache(maxsize=1000)
def _made(spec: type[DiffusionSpec], values: tuple[tuple[str, Any], ...]) -> DiffusionSpec:
    """One object for each combination, as thousands of tracks share a few."""
    return spec(**dict(values))


@lru_cache(maxsize=1000)
def _find_clash(spec: type[DiffusionSpec], choices: tuple[tuple[str, tuple[Any, ...]], ...]) -> str:
    names = [name for name, _ in choices]
    combinations = itertools.product(*(dict.fromkeys(values) for _, values in choices))
    for combination in itertools.islice(combinations, _COMBINATIONS_TRIED_MAX):
        try:
            _made(spec, tuple(zip(names, combination, strict=True)))
        except ValidationError as error:
            return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return ""
