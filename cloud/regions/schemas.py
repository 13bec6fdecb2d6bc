"""What the regions' doors give, as JSON."""

from pydantic import BaseModel

from cloud.regions.tree import FIRST, LAST, Region

__all__ = ["RegionView"]


class RegionView(BaseModel):
    """A region during one span; `valid_from`/`valid_to` are ISO days, null where unknown or without end."""

    code: str
    name_zh: str
    level: str
    parent: str | None
    valid_from: str | None
    valid_to: str | None

    @classmethod
    def of(cls, region: Region) -> "RegionView":
        """The view of one region."""
        return cls(
            code=region.code,
            name_zh=region.name_zh,
            level=str(region.level),
            parent=region.parent,
            valid_from=None if region.valid_from == FIRST else region.valid_from,
            valid_to=None if region.valid_to == LAST else region.valid_to,
        )
