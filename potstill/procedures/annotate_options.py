"""The options of the procedure `annotate`: how many texts people are asked about, and which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from potstill.errors import BadSpec, did_you_mean
from potstill.run.spec import OptionTable


class AnnotateOptions(OptionTable):
    """`[procedure] name = "annotate"`.

    Attributes:
        n: how many texts people label; None takes as many as the money reaches, at most all.
        rounds: in so many parts; before each but the first a student learns what is there and says what it doubts.
        choose: which texts come next: "random"; those the student doubts by "margin" or by "entropy".
    """

    n_texts: int | None = Field(default=None, gt=0)
    rounds: int = Field(default=1, ge=1, le=1000)
    query_strategy: Literal["random", "margin", "entropy"] = "random"


def read_annotate_options(given: Mapping[str, Any]) -> AnnotateOptions:
    """The options under [procedure]. Raises BadSpec: one nobody knows, or a value that cannot be."""
    try:
        return AnnotateOptions.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            mend = did_you_mean(name, AnnotateOptions.model_fields)
            raise BadSpec(f"The procedure 'annotate' has no option {name!r}.", mend) from None
        said = first["msg"][:1].lower() + first["msg"][1:]
        raise BadSpec(f"The procedure's option {name} cannot be so: {said}.", "Correct that value.") from None
