"""The swept space: variables, affine weight expressions, grid cells and the simplex. Pure, exact (decimal), no Optuna."""

import ast
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from typing import Any

from depth_loss_sweep.errors import SpecError

Scalar = Decimal | int | str | bool
MAX_CELLS = 100_000


@dataclass(frozen=True)
class Choices:
    """A variable that takes one of finitely many values: a grid range or a list. A value that is a list itself is its text."""

    name: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Interval:
    """A variable that takes any value in [low, high], or any whole one; for samplers, not for grids."""

    name: str
    low: Decimal
    high: Decimal
    log: bool = False
    is_whole: bool = False


Variable = Choices | Interval


def grid_range(name: str, start: Decimal, stop: Decimal, step: Decimal) -> Choices:
    """All values start, start + step, ... up to and including stop, in decimal: 0.1 three times is 0.3."""
    if step <= 0 or stop < start:
        raise SpecError(f"search.{name} runs from {start} to {stop} by {step}: expected from <= to and a positive step")
    count = int((stop - start) / step) + 1
    if count > MAX_CELLS:
        raise SpecError(f"search.{name} has {count} values; at most {MAX_CELLS} are accepted")
    return Choices(name, tuple(start + step * i for i in range(count)))


@dataclass(frozen=True)
class Affine:
    """constant + sum of coefficient x variable, exactly."""

    constant: Decimal
    coefficients: tuple[tuple[str, Decimal], ...] = ()

    def value(self, point: Mapping[str, Any]) -> Decimal:
        """The expression's value where the variables are as `point` says."""
        total = self.constant
        for name, coefficient in self.coefficients:
            total += coefficient * Decimal(str(point[name]))
        return total

    @property
    def names(self) -> tuple[str, ...]:
        """The variables it depends on."""
        return tuple(name for name, _ in self.coefficients)


def parse_affine(text: str | int | Decimal) -> Affine:
    """Parse constants, names, + - x and division by a constant; nothing else parses (no calls, no powers).

    Raises `SpecError` naming the expression.
    """
    try:
        # Decimal's own parser knows "0.05"; everything else goes through Python's grammar, never through eval.
        return Affine(_finite(Decimal(str(text)), text))
    except DecimalException:
        pass
    try:
        tree = ast.parse(str(text).replace("−", "-").replace("×", "*").replace("÷", "/"), mode="eval")
        constant, terms = _affine(tree.body, str(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError, DecimalException, _NotAffineError) as error:
        raise SpecError(
            f"the weight {str(text)[:80]!r} cannot be read: expected numbers, variables, + - * and / by a number"
        ) from error
    return Affine(constant, tuple(sorted((name, c) for name, c in terms.items() if c)))


class _NotAffineError(Exception):
    pass


def _finite(value: Decimal, text: Any) -> Decimal:
    if not value.is_finite() or value.adjusted() > 9:
        raise SpecError(f"the weight {text!r} is out of range: expected a finite number below 1e10")
    return value


def _affine(node: ast.expr, text: str) -> tuple[Decimal, dict[str, Decimal]]:
    """One node as (constant, coefficients)."""
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            # The literal as written, so that 0.1 stays 0.1.
            return _finite(Decimal(ast.get_source_segment(text, node) or str(node.value)), text), {}
        case ast.Name(id=name):
            return Decimal(0), {name: Decimal(1)}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _scaled(_affine(operand, text), Decimal(-1 if isinstance(node.op, ast.USub) else 1))
        case ast.BinOp(left=left, op=operator, right=right):
            return _binary(_affine(left, text), operator, _affine(right, text))
    raise _NotAffineError


def _scaled(value: tuple[Decimal, dict[str, Decimal]], factor: Decimal) -> tuple[Decimal, dict[str, Decimal]]:
    return value[0] * factor, {name: c * factor for name, c in value[1].items()}


def _binary(
    left: tuple[Decimal, dict[str, Decimal]], operator: ast.operator, right: tuple[Decimal, dict[str, Decimal]]
) -> tuple[Decimal, dict[str, Decimal]]:
    match operator:
        case ast.Add() | ast.Sub():
            signed = _scaled(right, Decimal(1 if isinstance(operator, ast.Add) else -1))
            names = {*left[1], *signed[1]}
            return left[0] + signed[0], {n: left[1].get(n, Decimal(0)) + signed[1].get(n, Decimal(0)) for n in names}
        case ast.Mult() if not left[1]:
            return _scaled(right, left[0])
        case ast.Mult() if not right[1]:
            return _scaled(left, right[0])
        case ast.Div() if not right[1] and right[0]:
            return left[0] / right[0], {name: c / right[0] for name, c in left[1].items()}
    raise _NotAffineError


def cells(variables: Sequence[Variable]) -> Iterator[dict[str, Scalar]]:
    """Every point of the grid, the last variable running fastest; one empty point where nothing is swept."""
    choices = [v for v in variables if isinstance(v, Choices)]
    for values in itertools.product(*(v.values for v in choices)):
        yield dict(zip((v.name for v in choices), values, strict=True))


def cell_count(variables: Sequence[Variable]) -> int:
    """How many points the grid has."""
    count = 1
    for variable in variables:
        count *= len(variable.values) if isinstance(variable, Choices) else 1
    return count


def plain(value: Any) -> Any:
    """A decimal as the nearest float, so that 0.3 is stored as 0.3; anything else as it is."""
    return float(value) if isinstance(value, Decimal) else value
