"""Which of several encodings of one content a client gets (RFC 9110 §12.5.3). Pure."""

from __future__ import annotations

from collections.abc import Sequence

IDENTITY = "identity"
_ANY = "*"


def choose_coding(accept_encoding: str | None, available: Sequence[str]) -> str:
    """The coding of ``available``, best first, that the header gives the highest weight; else IDENTITY.

    Codings of equal weight: the first. IDENTITY is what a client gets that names nothing we have, also where it
    refuses it: to send what it did not ask for serves it better than a 406. A weight that cannot be read is 0.
    """
    weights = _weights(accept_encoding or "")
    best, best_weight = IDENTITY, weights.get(IDENTITY, 0.0)
    for coding in reversed(available):
        weight = weights.get(coding, weights.get(_ANY, 0.0))
        if weight > 0 and weight >= best_weight:
            best, best_weight = coding, weight
    return best


def _weights(accept_encoding: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for element in accept_encoding.split(","):
        coding, *parameters = (part.strip().lower() for part in element.split(";"))
        if coding:
            weights[coding] = _weight(parameters)
    return weights


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0.0 <= weight <= 1.0 else 0.0  # nan is neither
    return 1.0
