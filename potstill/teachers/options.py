"""A teacher's options, checked: pydantic models read them, and a mistake becomes one sentence with a mend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from potstill.errors import BadSpec, did_you_mean


class TeacherOptions(BaseModel):
    """The base of a kind's options: only its own keys, and none of them changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


OptionsT = TypeVar("OptionsT", bound=TeacherOptions)


def read_teacher_options(kind: type[OptionsT], teacher: str, raw_options: Mapping[str, Any]) -> OptionsT:
    """The options of a teacher as its own record.

    Raises:
        BadSpec: an option nobody knows (with the nearest that exists), one that is missing, or a value that cannot be.
    """
    try:
        return kind.model_validate(dict(raw_options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise BadSpec(
                f"The teacher {teacher!r} has no option {name!r}.", did_you_mean(name, kind.model_fields)
            ) from None
        if first["type"] == "missing":
            raise BadSpec(f"The teacher {teacher!r} needs the option {name!r}.", "Set it under [teacher].") from None
        value = json.dumps(first.get("input"), default=str)[:80]
        said = first["msg"][:1].lower() + first["msg"][1:]
        raise BadSpec(f"The teacher's option {name} = {value} cannot be: {said}.", "Correct that value.") from None
